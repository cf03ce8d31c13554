"""Runs a row against a peer, and says what it came to."""
import contextlib
import json
import pathlib
import re
import statistics
import subprocess
import time

import client

# Connections that are opened where the run shall be short.
QUICK_CONNECTIONS = 200


class Measuring:
    """How long, how often, and with which program."""

    def __init__(self, corsac, rounds, seconds, is_quick):
        self.corsac, self.rounds, self.seconds, self.is_quick = corsac, rounds, seconds, is_quick

    def row(self, row, peer):
        """The results of a row, one for each figure; `peer` is None for a row of ours alone."""
        pairs = getattr(self, row.kind)(row, peer)
        return [self.result(row, peer, figure, pairs) for figure in row.figures]

    # Each kind of row gives its rounds as pairs, ours and theirs; theirs is None without a peer.

    def bench(self, row, peer):
        with self.corsac.running(row.options) as ours, peer.running() if peer else contextlib.nullcontext() as theirs:
            urls = [ours.url(row.face)] + (["--vs", theirs.url(row.face)] if theirs else [])
            version = theirs.mqtt_version if theirs else ours.mqtt_version
            # What is stored depends on the disk, which is therefore measured with it.
            disk = [] if row.options else ["--disk", str(ours.directory)]
            report = self.generate(row.work, *urls, "--mqtt-version", version, *disk, rounds=self.rounds)
        return list(zip(report["a"], report.get("b", [None] * self.rounds)))

    def crossing(self, row, _):
        """The crossing and the slower of the two protocols alone."""
        with self.corsac.running(row.options) as router:
            wamp, mqtt = router.url("wamp"), router.url("mqtt")
            crossing = [wamp, "--subscribe-at", mqtt]
            # `--vs mqtt` subscribes at MQTT too, `--vs ws` at WAMP: each protocol by itself.
            reports = [self.generate(row.work, *crossing, "--vs", url, rounds=self.rounds) for url in (wamp, mqtt)]
        slower = min(reports, key=lambda report: report["b_median"]["per_second"])
        return list(zip(slower["a"], slower["b"]))

    def alone(self, row, peer):
        """A fresh router for each round: memory that was once used is not given back."""
        def once(router, version):
            return self.generate(row.work, router.url(row.face), "--mqtt-version", version, rounds=1)["a"][0]

        pairs = []
        # Memory varies little.
        for _ in range(min(self.rounds, 3)):
            with self.corsac.running(row.options) as router:
                ours = once(router, peer.mqtt_version if peer else router.mqtt_version)
            theirs = None
            if peer:
                with peer.running() as router:
                    theirs = once(router, peer.mqtt_version)
            pairs.append((ours, theirs))
        return pairs

    def start(self, row, peer):
        def once(router, options=()):
            start = time.perf_counter()
            with router.running(options, wait=False) as running:
                client.first_message(running.ports["mqtt"])
                return {"start_ms": (time.perf_counter() - start) * 1e3, "lost": 0, "counts": True, "notes": []}

        return [(once(self.corsac, row.options), peer and once(peer)) for _ in range(self.rounds)]

    def generate(self, work, *arguments, rounds):
        """What `corsac bench` reports."""
        if self.is_quick:
            work = [str(QUICK_CONNECTIONS) if word.isdigit() and int(word) > QUICK_CONNECTIONS else word for word in work]
        seconds = ["--rounds", str(rounds), "--duration", str(self.seconds), "--warm-up", str(min(1, self.seconds / 3))]
        command = [self.corsac.program(), "bench", *work, *arguments, *seconds, "--quiet", "--json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            output, errors = process.communicate()
        finally:
            process.kill()
            process.wait()
        if process.returncode != 0:
            raise RuntimeError(f"{' '.join(work)}: {errors.strip()}")
        return json.loads(output)

    def counts(self, outcome):
        # A short run is meant to be short.
        return outcome is None or outcome["counts"] or (self.is_quick and outcome["lost"] == 0 and outcome["per_second"] > 0)

    def result(self, row, peer, figure, pairs):
        good = [pair for pair in pairs if all(map(self.counts, pair))]
        other = peer.name if peer else (next(iter(row.against)) if row.kind == "crossing" else None)
        ours = [value(a, figure) for a, _ in good]
        theirs = [value(b, figure) for _, b in good if b]
        lost = [sum(outcome["lost"] for outcome in side if outcome) for side in zip(*pairs)]
        result = {
            "row": row.name, "figure": figure, "peer": other, "rounds": len(pairs), "rounds_that_count": len(good),
            "ours": median(ours), "theirs": median(theirs), "ratio": median([a / b for a, b in zip(ours, theirs) if b]),
            "lost": lost[0], "lost_by_peer": lost[1] if theirs else None,
            "cpu_s_per_million": median([cpu(a) for a, _ in good if cpu(a)]),
            "cpu_s_per_million_of_peer": median([cpu(b) for _, b in good if b and cpu(b)]),
            "cpu_ratio": median([cpu(b) / cpu(a) for a, b in good if b and cpu(a) and cpu(b)]),
            "disk_syncs_per_second": median([a["disk_syncs_per_second"] for a, _ in good if a.get("disk_syncs_per_second")]),
            "notes": sorted({brief(note) for pair in pairs for outcome in pair if outcome for note in outcome["notes"]}),
            "each_round": [[value(a, figure), b and value(b, figure)] for a, b in pairs],
        }
        aim = row.against.get(other)
        result["is_met"] = aim.is_met(result["ratio"]) if aim and result["ratio"] is not None else None
        result["is_own_met"] = row.own.is_met(result["ours"]) if row.own and ours else None
        return result


def value(outcome, figure):
    """A figure of an outcome of `corsac bench`."""
    if figure in ("p50_us", "p99_us"):
        return outcome["latency_us"][figure.removesuffix("_us")]
    return outcome["growth"]["bytes_each"] if figure == "bytes_each" else outcome[figure]


def cpu(outcome):
    return (outcome.get("router") or {}).get("cpu_s_per_million")


def median(values):
    return statistics.median(values) if values else None


def brief(note):
    """A note without its numbers, which differ from round to round."""
    return re.sub(r"\d[\d,.]*", "…", note.split(":")[0] if "bottleneck" in note else note)
