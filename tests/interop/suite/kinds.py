"""The kinds of clients: each library with each serializer or version and transport that it has."""
import dataclasses
import os
import pathlib
import shutil
import sys

HERE = pathlib.Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of client, and what its library cannot do (whatever the router does)."""

    name: str
    driver: str
    protocol: str  # "wamp" or "mqtt"
    transport: str  # "ws", "raw" or "tcp"
    form: str  # serializer or version
    cannot: frozenset = frozenset()

    def can(self, *things):
        """Whether the library can do all of these."""
        return not self.cannot.intersection(things)

    @property
    def is_wamp(self):
        return self.protocol == "wamp"

    @property
    def is_v5(self):
        return self.form == "5"

    def url(self, http, mqtt):
        """Where it connects, given the two addresses of the router."""
        return {("wamp", "ws"): f"ws://{http}/ws", ("wamp", "raw"): f"rs://{http}",
                ("mqtt", "ws"): f"ws://{http}/mqtt", ("mqtt", "tcp"): f"mqtt://{mqtt}"}[self.protocol, self.transport]


def wamp(name, driver, transport, *cannot):
    """A WAMP library with its three serializers."""
    return [Kind(f"{name}-{form}", driver, "wamp", transport, form, frozenset(cannot))
            for form in ("json", "msgpack", "cbor")]


def mqtt(name, driver, transport, *cannot):
    """An MQTT library with its three versions. Before 5 a call has no options, so no progress and no timeout."""
    return [Kind(f"{name}-{form}", driver, "mqtt", transport, form,
                 frozenset(cannot) | (frozenset() if form == "5" else {"ask for progress", "set a timeout"}))
            for form in ("3.1", "3.1.1", "5")]


# "hear interrupts": neither JavaScript library announces call_canceling as callee.
# "cancel": MQTT callers have no way to cancel but to leave.
KINDS = [
    *wamp("py", "python_autobahn", "ws", "choose a cancel mode"),
    *wamp("py-raw", "python_autobahn", "raw", "choose a cancel mode"),
    *wamp("js", "node_autobahn", "ws", "hear interrupts"),
    Kind("js-raw-json", "node_autobahn", "wamp", "raw", "json", frozenset({"hear interrupts"})),
    # wampy drops the option `retain` of a publication.
    *wamp("wampy", "node_wampy", "ws", "hear interrupts", "publish retained", "exclude_me false"),
    *mqtt("paho", "python_paho", "tcp", "cancel"),
    *mqtt("paho-ws", "python_paho", "ws", "cancel"),
    *mqtt("mqttjs", "node_mqtt", "tcp", "cancel"),
    *mqtt("mqttjs-ws", "node_mqtt", "ws", "cancel"),
    # A subscription and a publication are two processes, so nobody can answer what the other one was asked.
    *mqtt("mosquitto", "mosquitto", "tcp", "cancel", "serve", "ask for progress", "keep one session"),
]
BY_NAME = {kind.name: kind for kind in KINDS}


def drivers(installed):
    """Command and environment of each driver, given where the libraries were installed."""
    directory = HERE / "drivers"
    python = str(installed / "venv" / "bin" / "python")
    node = shutil.which("node") or "node"
    environment = {"NODE_PATH": str(installed / "node_modules"), "PYTHONDONTWRITEBYTECODE": "1",
                   "PATH": os.environ.get("PATH", "")}
    return {
        "python_autobahn": ([python, str(directory / "python_autobahn.py")], environment),
        "python_paho": ([python, str(directory / "python_paho.py")], environment),
        "node_autobahn": ([node, str(directory / "node_autobahn.cjs")], environment),
        "node_wampy": ([node, str(directory / "node_wampy.cjs")], environment),
        "node_mqtt": ([node, str(directory / "node_mqtt.cjs")], environment),
        "browser": ([node, str(directory / "browser.cjs")], environment),
        "mosquitto": ([sys.executable, str(directory / "mosquitto.py")], environment),
    }
