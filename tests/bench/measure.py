"""Runs a row against a peer, and says what it came to."""
import contextlib
import json
import re
import statistics
import subprocess
import time

import client
import peers

# Connections that are opened where the run shall be short.
QUICK_CONNECTIONS = 200


class Measuring:
    """How long, how often, and with which program."""

    def __init__(self, corsac, rounds, seconds, is_quick):
        self.corsac, self.rounds, self.seconds, self.is_quick = corsac, rounds, seconds, is_quick

    def row(self, row, peer):
        """The results of a row, one for each figure; `peer` is None for a row of ours alone."""
        pairs, failure = [], None
        try:
            getattr(self, row.kind)(row, peer, pairs)
        except peers.Failed as error:
            failure = error
        return [self.result(row, peer, figure, pairs, failure) for figure in row.figures]

    def rounds_of(self, row):
        # Memory varies little.
        return min(self.rounds, 3) if row.kind == "alone" else self.rounds

    # Each kind of row adds its rounds to `pairs`, ours and theirs; theirs is None without a peer.

    def bench(self, row, peer, pairs):
        with self.corsac.running(row.options) as ours, peer.running() if peer else contextlib.nullcontext() as theirs:
            version = ["--mqtt-version", (theirs or ours).mqtt_version]
            # What is stored depends on the disk, which is therefore measured with it.
            disk = [] if row.options else ["--disk", str(ours.directory)]
            # Not with --vs: it would not say which of both has failed.
            for _ in range(self.rounds_of(row)):
                outcome = self.once(row.work, ours, row.face, *version, *disk)
                pairs.append((outcome, theirs and self.once(row.work, theirs, row.face, *version)))

    def crossing(self, row, _, pairs):
        """The crossing and the slower of the two protocols alone."""
        with self.corsac.running(row.options) as router:
            wamp, mqtt = router.url("wamp"), router.url("mqtt")
            crossing = [wamp, "--subscribe-at", mqtt]
            # `--vs mqtt` subscribes at MQTT too, `--vs ws` at WAMP: each protocol by itself.
            rounds = self.rounds_of(row)
            reports = [self.generate(row.work, router, *crossing, "--vs", url, rounds=rounds) for url in (wamp, mqtt)]
            slower = min(reports, key=lambda report: report["b_median"]["per_second"])
            pairs += zip(slower["a"], slower["b"])

    def alone(self, row, peer, pairs):
        """A fresh router for each round: memory that was once used is not given back."""
        def once(program, options=()):
            with program.running(options) as router:
                return self.once(row.work, router, row.face, "--mqtt-version", (peer or program).mqtt_version)

        for _ in range(self.rounds_of(row)):
            pairs.append((once(self.corsac, row.options), peer and once(peer)))

    def start(self, row, peer, pairs):
        def once(program, options=()):
            start = time.perf_counter()
            with program.running(options, wait=False) as router:
                router.wait_until(lambda: client.returns_a_message(router.ports["mqtt"]), 0.0005)
                return {"start_ms": (time.perf_counter() - start) * 1e3, "lost": 0, "counts": True, "notes": []}

        for _ in range(self.rounds_of(row)):
            pairs.append((once(self.corsac, row.options), peer and once(peer)))

    def once(self, work, router, face="mqtt", *options):
        """The outcome of a single run."""
        return self.generate(work, router, router.url(face), *options)["a"][0]

    def generate(self, work, router, *arguments, rounds=1):
        """What `corsac bench` reports; should it fail, it is this router's failure."""
        if self.is_quick:
            work = [str(QUICK_CONNECTIONS) if word.isdigit() and int(word) > QUICK_CONNECTIONS else word for word in work]
        seconds = ["--rounds", str(rounds), "--duration", str(self.seconds), "--warm-up", str(min(1, self.seconds / 3))]
        command = [self.corsac.program(), "bench", *work, *arguments, *seconds, "--quiet", "--json"]
        with peers.blaming(router.name):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            try:
                output, errors = process.communicate()
            finally:
                process.kill()
                process.wait()
            if process.returncode != 0:
                why = errors.strip().removeprefix("corsac: ") or f"exit code {process.returncode}"
                raise RuntimeError(f"{' '.join(work)}: {why}")
            return json.loads(output)

    def counts(self, outcome, figure="per_second"):
        if outcome is None or value(outcome, figure) is None:
            return outcome is None  # there is no peer
        # A short run is meant to be short.
        return outcome["counts"] or (self.is_quick and outcome["lost"] == 0 and outcome["per_second"] > 0)

    def result(self, row, peer, figure, pairs, failure):
        good = [pair for pair in pairs if all(self.counts(outcome, figure) for outcome in pair)]
        other = peer.name if peer else (next(iter(row.against)) if row.kind == "crossing" else None)
        ours = [value(a, figure) for a, _ in good]
        theirs = [value(b, figure) for _, b in good if b]
        sides = [[pair[side] for pair in pairs if pair[side]] for side in (0, 1)]
        lost = [sum(outcome["lost"] for outcome in side) for side in sides]
        notes = [sorted({brief(note) for outcome in side for note in outcome["notes"]}) for side in sides]
        result = {
            "row": row.name, "figure": figure, "peer": other, "rounds": self.rounds_of(row), "rounds_that_count": len(good),
            "ours": median(ours), "theirs": median(theirs), "ratio": median([a / b for a, b in zip(ours, theirs) if b]),
            "lost": lost[0], "lost_by_peer": lost[1] if other else None,
            "failed": failure and failure.name, "error": failure and failure.why,
            "cpu_s_per_million": median([cpu(a) for a, _ in good if cpu(a)]),
            "cpu_s_per_million_of_peer": median([cpu(b) for _, b in good if b and cpu(b)]),
            "cpu_ratio": median([cpu(b) / cpu(a) for a, b in good if b and cpu(a) and cpu(b)]),
            "disk_syncs_per_second": median([a["disk_syncs_per_second"] for a, _ in good if a.get("disk_syncs_per_second")]),
            "notes": notes[0], "notes_of_peer": notes[1],
            "each_round": [[value(a, figure), b and value(b, figure)] for a, b in pairs],
        }
        aim = row.against.get(other)
        result["is_met"] = aim.is_met(result["ratio"]) if aim and result["ratio"] is not None else None
        result["is_own_met"] = row.own.is_met(result["ours"]) if row.own and ours else None
        return result


def value(outcome, figure):
    """A figure of an outcome of `corsac bench`, None if it could not be measured."""
    if figure in ("p50_us", "p99_us"):
        return (outcome["latency_us"] or {}).get(figure.removesuffix("_us"))
    return (outcome["growth"] or {}).get(figure) if figure == "bytes_each" else outcome[figure]


def cpu(outcome):
    return (outcome.get("router") or {}).get("cpu_s_per_million")


def median(values):
    return statistics.median(values) if values else None


def brief(note):
    """A note without its numbers, which differ from round to round."""
    return re.sub(r"\d[\d,.]*", "…", note.split(":")[0] if "bottleneck" in note else note)
