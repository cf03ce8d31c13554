"""The routers that are compared: how each is found, started fresh on loopback, and stopped."""
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = ROOT / "tests/bench"
INSTALLED = ROOT / "target/bench-peers"
START_S = 60
LOG_CHARACTERS = 4000
STOP_S = 10


class Failed(RuntimeError):
    """What a router, ours or another, has failed with."""

    def __init__(self, name, error):
        self.name, self.why = name, str(error).strip() or type(error).__name__
        super().__init__(f"{name} failed: {self.why}")


@contextlib.contextmanager
def blaming(name):
    """Whatever goes wrong in here is this router's failure, unless it is known to be another's."""
    try:
        yield
    except Failed:
        raise
    except Exception as error:
        raise Failed(name, error) from error


class Router:
    """A running router."""

    def __init__(self, name, process, directory, ports, mqtt_version):
        self.name, self.process, self.directory, self.ports, self.mqtt_version = name, process, directory, ports, mqtt_version

    def url(self, face):
        """Where `mqtt` or `wamp` is spoken."""
        return {"mqtt": "mqtt://127.0.0.1:{}", "wamp": "ws://127.0.0.1:{}/ws"}[face].format(self.ports[face])

    def rss_bytes(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024

    def wait_until(self, is_ready, pause_s=0.01):
        deadline = time.monotonic() + START_S
        while not is_ready():
            code = self.process.poll()
            if code is not None or time.monotonic() > deadline:
                why = f"not within {START_S} s" if code is None else f"exit code {code}"
                log = (self.directory / "log").read_text(errors="replace")[-LOG_CHARACTERS:]
                raise RuntimeError(f"does not start: {why}\n{log}")
            time.sleep(pause_s)


class Peer:
    """A router that may be installed."""

    faces = ("mqtt",)
    mqtt_version = "5"
    advice = ""

    def program(self):
        return shutil.which(self.name, path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")

    def version(self):
        output = subprocess.run([self.program(), "--version"], capture_output=True, text=True, timeout=STOP_S).stdout
        return re.search(r"\d+\.\d+[\w.-]*", output)[0]

    def environment(self):
        return os.environ

    def spawn(self, directory, ports, options=()):
        command = self.command(directory, ports, *options)
        log = open(directory / "log", "wb")
        # In a group of its own: some routers are several processes, and an interrupt is ours to handle.
        return subprocess.Popen(
            command, cwd=directory, env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )

    @contextlib.contextmanager
    def running(self, options=(), wait=True):
        """A fresh one, with an empty directory, that is stopped whatever happens."""
        (ROOT / "target").mkdir(exist_ok=True)
        with blaming(self.name), contextlib.ExitStack() as stack:
            directory = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir=ROOT / "target"))
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            ports = {face: free_port() for face in self.faces}
            process = self.spawn(directory, ports, options)
            stack.callback(stop, process)
            router = Router(self.name, process, directory, ports, self.mqtt_version)
            for port in ports.values() if wait else ():
                router.wait_until(lambda: is_open(port))
            yield router


class Corsac(Peer):
    name = "corsac"
    faces = ("mqtt", "wamp")
    advice = "cargo build --release"

    def __init__(self, program=None):
        self.path = pathlib.Path(program or ROOT / "target/release/corsac").resolve()

    def program(self):
        return str(self.path) if self.path.exists() else None

    def command(self, directory, ports, *options):
        addresses = ["--mqtt", f"127.0.0.1:{ports['mqtt']}", "--http", f"127.0.0.1:{ports['wamp']}"]
        # Without options it is as it comes: what is acknowledged is on disk, in corsac-data of its directory.
        return [self.program(), "run", *addresses, "--log", "error", *options]


class Mosquitto(Peer):
    name = "mosquitto"
    advice = "apt-get install mosquitto"

    def version(self):
        output = subprocess.run([self.program(), "-h"], capture_output=True, text=True, timeout=STOP_S).stdout
        return re.search(r"version ([\w.-]+)", output)[1]

    def command(self, directory, ports):
        # Persistence is off, as it comes. Its bounds of 20 messages in flight and 1,000 queued would make it wait or lose
        # messages where others go on, and Nagle's algorithm would make it late: it is measured without them.
        (directory / "mosquitto.conf").write_text(
            f"listener {ports['mqtt']} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type error\n"
            "max_inflight_messages 0\nmax_queued_messages 0\nset_tcp_nodelay true\n"
        )
        return [self.program(), "-c", "mosquitto.conf"]


class Nats(Peer):
    name = "nats-server"
    mqtt_version = "4"  # 3.1.1 is what its gateway speaks
    advice = "apt-get install nats-server"

    def command(self, directory, ports):
        # JetStream stores in files and syncs them every two minutes, as it comes.
        (directory / "nats.conf").write_text(
            f'server_name: bench\nhost: 127.0.0.1\nport: {free_port()}\njetstream {{ store_dir: "jetstream" }}\n'
            f"mqtt {{ host: 127.0.0.1, port: {ports['mqtt']} }}\n"
        )
        return [self.program(), "-c", "nats.conf"]


class FoxWamp(Peer):
    name = "fox-wamp"
    faces = ("mqtt", "wamp")
    mqtt_version = "4"
    advice = "tests/bench/install"
    modules = INSTALLED / "fox-wamp/node_modules"

    def program(self):
        return shutil.which("node") if (self.modules / "fox-wamp").exists() else None

    def version(self):
        return json.loads((self.modules / "fox-wamp/package.json").read_text())["version"]

    def environment(self):
        return {**os.environ, "NODE_PATH": str(self.modules)}

    def command(self, directory, ports):
        return [self.program(), str(HERE / "fox-wamp/serve.js"), str(ports["wamp"]), str(ports["mqtt"])]


class Crossbar(Peer):
    name = "crossbar"
    faces = ("wamp",)
    advice = "tests/bench/install"
    path = INSTALLED / "crossbar/bin/crossbar"

    def program(self):
        return str(self.path) if self.path.exists() else None

    def version(self):
        return next((self.path.parent.parent / "lib").glob("python*/site-packages/crossbar-*.dist-info")).name.split("-")[1].removesuffix(".dist")

    def command(self, directory, ports):
        (directory / ".crossbar").mkdir()
        (directory / ".crossbar/config.json").write_text(json.dumps(crossbar_config(ports["wamp"])))
        return [self.program(), "start"]


def crossbar_config(port):
    """One worker with a WebSocket listener, where anybody may do anything in realm1."""
    allow = {"call": True, "register": True, "publish": True, "subscribe": True}
    permission = {"uri": "", "match": "prefix", "allow": allow, "disclose": {"caller": False, "publisher": False}, "cache": True}
    realm = {"name": "realm1", "roles": [{"name": "anonymous", "permissions": [permission]}]}
    websocket = {"type": "websocket", "auth": {"anonymous": {"type": "static", "role": "anonymous"}}}
    listener = {
        "type": "universal",
        "endpoint": {"type": "tcp", "interface": "127.0.0.1", "port": port, "backlog": 1024},
        "websocket": {"ws": websocket},
    }
    worker = {"type": "router", "realms": [realm], "transports": [listener]}
    return {"version": 2, "controller": {}, "workers": [worker]}


PEERS = [Mosquitto(), Nats(), FoxWamp(), Crossbar()]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def stop(process):
    """Ends all processes of its group, gently first."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
            break
    # What the first process has left behind goes with it.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
