"""How the figures grow: with connections, subscriptions, retained messages, sessions and the length of the history."""
import contextlib
import json
import subprocess
import tempfile
import time

import client
import peers
import plot
import report
from measure import Measuring, QUICK_CONNECTIONS

PAGE = 1000
RARE = 10
# Lengths of the history, and the least seconds of appending on the way. Of the first two only reading is measured: a run that
# is long enough to count appends more.
LENGTHS = [(50_000, 0.1), (300_000, 0.1), (1_000_000, 3), (3_000_000, 3), (10_000_000, 3), (20_000_000, 3)]


def draw(corsac, available, is_quick, say):
    """Measures all of it, and writes growth.json and the charts; nothing is written if it shall be quick."""
    found = {"machine": report.machine()}
    growth = Growth(corsac, available, is_quick, say)
    for part in (connections, match, memory, history):
        say(f"growth: {part.__name__}")
        for name, title, x_label, y_label, series in part(growth):
            found[name] = {"title": title, "x": x_label, "y": y_label, "series": series}
            for line, points in series:
                say(f"  {line}: " + ", ".join(f"{x:g} {y:.4g}" for x, y in points))
            if not is_quick:
                chart = plot.chart(title, x_label, y_label, series)
                (peers.HERE / f"growth-{name}.svg").write_text(chart)
    if not is_quick:
        (peers.HERE / "growth.json").write_text(json.dumps(found, indent=1) + "\n")


class Growth(Measuring):
    def __init__(self, corsac, available, is_quick, say):
        super().__init__(corsac, 1, 0.3 if is_quick else 3, is_quick)
        self.mosquitto = next((peer for peer in available if peer.name == "mosquitto"), None)
        self.say = say

    def sizes(self, *sizes):
        return [size for size in sizes if not self.is_quick or size <= QUICK_CONNECTIONS]

    def sound(self, work, router, face="mqtt", figure="per_second"):
        """The outcome of a run; None if it does not count, which is said and left out."""
        outcome = self.once(work, router, face)
        if self.counts(outcome, figure):
            return outcome
        self.say(f"  left out: {router.name}, {' '.join(work)}: {'; '.join(outcome['notes'])}")
        return None


def connections(growth):
    """Delivered messages a second, from one to all and between pairs; what loses messages or breaks the other is left out."""
    series = []
    for peer in filter(None, (growth.corsac, growth.mosquitto)):
        options = ["--memory"] if peer is growth.corsac else []
        one_to_all, pairs = [], []
        for count in growth.sizes(1, 10, 100, 1_000, 10_000):
            half = max(count // 2, 1)
            kinds = [
                (one_to_all, ["-s", str(count)]),
                (pairs, ["-p", str(half), "-s", str(half), "--topics", str(half)]),
            ]
            for points, shape in kinds:
                try:
                    with peer.running(options) as router:
                        outcome = growth.sound(["pubsub", *shape], router)
                except peers.Failed as error:
                    if peer is growth.corsac:
                        raise
                    growth.say(f"  left out: {error}")
                    continue
                if outcome:
                    points.append((count, outcome["per_second"]))
        series += [(f"{peer.name}, one to all", one_to_all), (f"{peer.name}, pairs", pairs)]
    yield "connections", "Throughput against connections, MQTT QoS 0, 64 bytes", "connections", "messages delivered a second", series


def match(growth):
    """Time to find a topic's subscription, as `cargo bench` measures it."""
    command = ["cargo", "bench", "--bench", "floors", "--", "match/"]
    if not growth.is_quick:
        done = subprocess.run(command, cwd=peers.ROOT, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"cargo bench: {done.stderr}")
    series = []
    for kind in ("exact", "wildcards"):
        points = []
        for path in (peers.ROOT / "target/criterion/match" / kind).glob("*/new/estimates.json"):
            points.append((int(path.parts[-3]), json.loads(path.read_text())["median"]["point_estimate"]))
        series.append((kind, sorted(points)))
    yield "match", "Matching a topic that one subscription covers", "subscriptions", "nanoseconds", series


def memory(growth):
    """Resident bytes more for each of them; the router is fresh for each point."""
    corsac = growth.corsac

    def grown(work, face="mqtt"):
        def at(count):
            with corsac.running(["--memory"]) as router:
                outcome = growth.sound([*work, str(count)], router, face, "bytes_each")
                return outcome and outcome["growth"]["bytes_each"]
        return at

    def sessions(count):
        with corsac.running(["--memory"]) as router:
            before = router.rss_bytes()
            for number in range(count):
                session = client.Client(router.ports["mqtt"], f"session-{number}", clean=False)
                session.subscribe(f"bench/{number}", qos=1)
                session.close()
            return (router.rss_bytes() - before) / count

    def subscriptions(count):
        """One connection for each 100; what it takes by itself is less than a hundredth of it."""
        with corsac.running(["--memory"]) as router:
            holders = max(count // 100, 1)
            work = ["idle", "--subscriptions", str(count // holders), "--connections", str(holders)]
            outcome = growth.sound(work, router, figure="bytes_each")
            return outcome and outcome["growth"]["bytes_each"] * holders / count

    kinds = [
        ("MQTT connection", grown(["idle", "--connections"]), (100, 1_000, 10_000)),
        ("WAMP WebSocket", grown(["idle", "--connections"], "wamp"), (100, 1_000, 10_000)),
        ("subscription", subscriptions, (100, 1_000, 10_000, 100_000)),
        ("retained message", grown(["retained", "--messages"]), (100, 1_000, 10_000, 100_000)),
        ("session away", sessions, (100, 1_000, 10_000)),
    ]
    series = []
    for name, at, counts in kinds:
        points = [(count, at(count)) for count in growth.sizes(*counts)]
        # Where memory from before was enough, nothing was seen to grow.
        series.append((name, [(count, value) for count, value in points if value and value > 0]))
    yield "memory", "Memory for each, against their number", "number", "bytes for each", series


@contextlib.contextmanager
def unbounded(corsac):
    """A router that keeps all of its history; as it comes, it keeps 1 GiB."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
        config.write('[[history]]\nstore = "acknowledged"\n')
        config.flush()
        with corsac.running(["--config", config.name]) as router:
            yield router


def history(growth):
    """Appending to the history and reading pages of it, against its length."""
    appends, last, rare = [], [], []
    with unbounded(growth.corsac) as router:
        url = router.url("wamp")
        publisher = client.Client(router.ports["mqtt"], "rare")
        for number in range(RARE):
            publisher.socket.sendall(client.packet(0x32, client.text("rare/topic") + bytes([0, number + 1]) + b"hello"))
            publisher.expect(0x40)
        publisher.close()
        length, rate = RARE, 400_000
        for goal, least in LENGTHS[: 1 if growth.is_quick else None]:
            if goal <= length:
                continue
            # The warm-up appends too: a third of the time that is measured, 1 s at most.
            needed = (goal - length) / rate
            growth.seconds = max(needed * 0.75, needed - 1, least)
            outcome = growth.once(["pubsub", "-p", "8", "-s", "0", "--qos", "1", "--window", "500"], router)
            if outcome["lost"] or not outcome["per_second"]:
                raise RuntimeError(f"from {length:,} records on, {outcome['lost']:,} of {outcome['expected']:,} were lost")
            # Measured while it grows: in the middle.
            if growth.counts(outcome):
                appends.append((length + outcome["expected"] // 2, outcome["per_second"]))
            length, rate = length + outcome["expected"], outcome["per_second"]
            last.append((length, page(growth.corsac, url, "bench/#", PAGE)))
            rare.append((length, page(growth.corsac, url, "rare/topic", RARE)))
    appended = [("8 publishers, 500 unacknowledged each", appends)]
    yield "append", "Appending to the history, synced", "records in it", "records a second", appended
    read = [(f"the last {PAGE:,} of all", last), (f"the last {RARE} of a rare topic", rare)]
    yield "read", "Reading the history, by a program that starts for it", "records in it", "microseconds", read


def page(corsac, url, topics, count):
    """Microseconds for a program to start, read as many of the last events, and print them: the best of three."""
    def once():
        start = time.perf_counter()
        command = [corsac.program(), "history", topics, "--last", str(count), "--url", url]
        printed = subprocess.run(command, capture_output=True, check=True).stdout
        assert printed.count(b"\n") == count, f"{printed.count(bytes([10]))} of {count} events"
        return (time.perf_counter() - start) * 1e6

    return min(once() for _ in range(3))
