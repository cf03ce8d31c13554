"""The rows of the table: what is measured, against whom, and what is aimed at."""
from dataclasses import dataclass, field


@dataclass
class Aim:
    """What a figure, ours or the ratio of ours to theirs, is meant to be."""

    at_least: float = None
    at_most: float = None

    def is_met(self, value):
        return value >= self.at_least if self.at_least is not None else value <= self.at_most

    def text(self, unit):
        return f"≥ {self.at_least:g}{unit}" if self.at_least is not None else f"≤ {self.at_most:g}{unit}"


def at_least(value):
    return Aim(at_least=value)


def at_most(value):
    return Aim(at_most=value)


@dataclass
class Row:
    """One kind of work. `against` has, for each peer, the aim of the ratio, or None where it is only shown."""

    name: str
    title: str
    kind: str  # bench: both take turns; alone: fresh routers one after the other; crossing: against itself; start
    work: list = field(default_factory=list)  # arguments of `corsac bench`, of which the first names the work
    face: str = "mqtt"
    options: tuple = ("--memory",)  # of corsac
    against: dict = field(default_factory=dict)
    figures: tuple = ("per_second",)
    own: Aim = None  # the aim of our own figure
    in_brief: str = None  # its title in the README, if it stands there


MEMORY, STORED = ("--memory",), ()
IDLE = ["idle", "--connections", "10000"]

ROWS = [
    Row("qos0", "MQTT QoS 0, 1 to 1", "bench", ["pubsub"],
        against={"mosquitto": at_least(10), "nats-server": None, "fox-wamp": None}, own=at_least(1_500_000),
        in_brief="MQTT QoS 0, one publisher, one subscriber"),
    Row("qos0-history", "the same with history on", "bench", ["pubsub"], options=STORED,
        against={"mosquitto": at_least(10)}, own=at_least(1_500_000)),
    Row("fan-out", "MQTT QoS 0, 1 to 10", "bench", ["pubsub", "-s", "10"],
        against={"mosquitto": at_least(10), "nats-server": None}),
    Row("qos1", "MQTT QoS 1, in memory", "bench", ["pubsub", "--qos", "1", "--window", "200"],
        against={"mosquitto": at_least(8)}),
    Row("qos1-stored", "MQTT QoS 1, stored and synced by Corsac alone", "bench", ["pubsub", "--qos", "1", "--window", "200"],
        options=STORED, against={"mosquitto": at_least(3), "nats-server": at_least(1)},
        in_brief="MQTT QoS 1, 200 unacknowledged at a time; Corsac alone has each message on disk before it acknowledges it"),
    # With 200 at a time the disk is the bound, as it does not sync more often for anybody.
    Row("qos1-stored-2000", "the same, 2,000 at a time", "bench", ["pubsub", "--qos", "1", "--window", "2000"],
        options=STORED, against={"mosquitto": at_least(3), "nats-server": at_least(1)}),
    Row("qos2", "MQTT QoS 2, in memory", "bench", ["pubsub", "--qos", "2", "--window", "200"],
        against={"mosquitto": at_least(6)}),
    Row("wamp", "WAMP events, JSON, 1 to 1", "bench", ["pubsub"], face="wamp",
        against={"fox-wamp": at_least(12), "crossbar": at_least(100)}),
    Row("rpc", "WAMP calls, 100 at a time", "bench", ["rpc", "--window", "100"], face="wamp",
        against={"fox-wamp": at_least(12), "crossbar": at_least(50)}, in_brief="WAMP calls, 100 at a time"),
    Row("rpc-1", "WAMP calls, one at a time", "bench", ["rpc", "--window", "1"], face="wamp", figures=("p50_us",),
        against={"fox-wamp": at_most(1), "crossbar": at_most(0.2)}),
    Row("latency", "MQTT at 5,000 messages/s", "bench", ["latency", "--rate", "5000"], figures=("p50_us", "p99_us"),
        against={"mosquitto": at_most(1)}),
    Row("crossing", "WAMP publisher to MQTT subscriber, 1 to 1", "crossing", ["pubsub"],
        against={"the slower alone": at_least(0.7)}),
    Row("idle-mqtt", "memory of an idle MQTT connection", "alone", IDLE, figures=("bytes_each",),
        against={"mosquitto": None, "nats-server": None}, own=at_most(8 * 1024)),
    Row("idle-wamp", "memory of an idle WAMP WebSocket", "alone", IDLE, face="wamp", figures=("bytes_each",),
        against={"fox-wamp": None, "crossbar": None}, own=at_most(16 * 1024)),
    Row("start", "from start to the first message", "start", options=STORED, figures=("start_ms",),
        against={"mosquitto": None, "nats-server": None}, own=at_most(50)),
]
