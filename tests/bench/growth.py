"""How the figures grow: with connections, subscriptions, retained messages, sessions and the length of the history."""
import json
import subprocess
import time

import client
import peers
import plot
import report
from measure import Measuring, QUICK_CONNECTIONS

PAGE = 1000
RARE = 10


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

    def once(self, work, router, face="mqtt"):
        return self.generate(work, router.url(face), rounds=1)["a"][0]


def connections(growth):
    """Delivered messages a second, from one to all and between pairs; what loses messages is left out."""
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
                with peer.running(options) as router:
                    outcome = growth.once(["pubsub", *shape], router)
                if growth.counts(outcome):
                    points.append((count, outcome["per_second"]))
                else:
                    growth.say(f"  {peer.name}, {' '.join(shape)}: {'; '.join(outcome['notes'])}")
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

    def grown(work, face="mqtt", each=1):
        def at(count):
            with corsac.running(["--memory"]) as router:
                outcome = growth.once([*work, str(count)], router, face)
                return outcome["growth"]["bytes_each"] / each
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
            return growth.once(work, router)["growth"]["bytes_each"] * holders / count

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
        series.append((name, [(count, value) for count, value in points if value > 0]))
    yield "memory", "Memory for each, against their number", "number", "bytes for each", series


def history(growth):
    """Appending to the history and reading pages of it, against its length."""
    appends, last, rare = [], [], []
    with growth.corsac.running() as router:
        url = router.url("wamp")
        publisher = client.Client(router.ports["mqtt"], "rare")
        for number in range(RARE):
            publisher.socket.sendall(client.packet(0x32, client.text("rare/topic") + bytes([0, number + 1]) + b"hello"))
            publisher.expect(0x40)
        publisher.close()
        length, rate = RARE, 200_000
        for goal in growth.sizes(100, 10_000, 100_000, 1_000_000, 3_000_000):
            growth.seconds = max((goal - length) / rate, 0.1)
            outcome = growth.once(["pubsub", "-p", "8", "-s", "0", "--qos", "1", "--window", "500"], router)
            length, rate = length + outcome["expected"], outcome["per_second"]
            appends.append((length, rate))
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
