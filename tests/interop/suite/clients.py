"""demo/clients/: what the README shows of each client library, run as it stands there but for the ports."""
import os
import pathlib

from .bodies import Mqtt, Wamp
from .peers import expect
from .program import Program
from .world import empty_directory, scenario

CLIENTS = pathlib.Path(__file__).resolve().parents[3] / "demo" / "clients"
# File, the name that it gives itself, and how it is started with the file as last argument.
SNIPPETS = {
    "autobahn-python.py": ("autobahn", ["python"]),
    "autobahn-js.mjs": ("autobahnjs", ["node"]),
    "wampy.mjs": ("wampy", ["node"]),
    "paho-python.py": ("paho", ["python"]),
    "aiomqtt-python.py": ("aiomqtt", ["python"]),
    "mqtt-js.mjs": ("mqttjs", ["node"]),
    "mosquitto.sh": ("shell", ["sh"]),
    "node-red.json": ("nodered", ["node-red", "--settings", "settings.js", "--userDir", "."]),
    "rumqttc.rs": ("rust", ["client"]),
}
# Those that do what only Corsac does, and what they print.
MORE = {
    "more-python.py": (["python"], ["history [['kept']]", "lock True", "queue [{'page': 1}]"]),
    "more-js.mjs": (["node"], ["dedup true", "history order", "leader "]),
    "more-mqtt.py": (["python"], ["demo/more/mqtt order", '$queue/demo/work {"page":1}']),
}
STARTING_S = 30  # Node-RED takes some seconds, and more on a busy machine
# Node-RED without its editor, so that it needs no port.
SETTINGS = "module.exports = { httpAdminRoot: false, httpNodeRoot: false, uiPort: 0, flowFilePretty: true, logging: { console: { level: 'info' } } }"


class Snippet(Program):
    """A file of demo/clients, started in a directory of its own with the router's ports in place of the usual ones."""

    def __init__(self, world, file, start, directory):
        installed, tools = world.installed.resolve(), pathlib.Path(world.binary).resolve().parent
        programs = {"python": installed / "venv" / "bin" / "python", "node-red": installed / "node_modules" / ".bin" / "node-red",
                    "client": pathlib.Path(world.client).resolve()}
        # What a module imports is looked for beside it.
        (directory / "node_modules").symlink_to(installed / "node_modules")
        (directory / "settings.js").write_text(SETTINGS)
        http, mqtt = world.router.http, world.router.mqtt.rsplit(":", 1)[1]
        argument = mqtt
        if not file.endswith(".rs"):
            text = (CLIENTS / file).read_text()
            expect("127.0.0.1:8080" in text or "1883" in text, f"{file} names none of the usual ports")
            argument = directory / file
            argument.write_text(text.replace("127.0.0.1:8080", http).replace("1883", mqtt))
        environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1",
                       "CORSAC_URL": f"ws://{http}/ws"}
        super().__init__(programs.get(start[0], start[0]), *start[1:], argument, cwd=directory, env=environment)


def added(file, name, start):
    """Registers the scenario of one snippet."""
    @scenario(f"demo/clients/{file} subscribes, publishes, calls and serves", "issue 10: a snippet for each client",
              needs=("py-json", "paho-5"), in_memory=True)
    async def run(world):
        with empty_directory() as directory:
            async with world.peers("py-json", "paho-5") as peers:
                for peer in peers:
                    await peer.subscribe("demo/hello")
                async with Snippet(world, file, start, directory) as snippet:
                    await tried(snippet, name, peers)


for file, (name, start) in SNIPPETS.items():
    added(file, name, start)


def added_more(file, start, lines):
    """Registers the scenario of one file that does more."""
    @scenario(f"demo/clients/{file} prints what its comments promise", "issue 10: the same from any client")
    async def run(world):
        with empty_directory() as directory:
            async with Snippet(world, file, start, directory) as snippet:
                for line in lines:
                    await snippet.says(line)


for file, (start, lines) in MORE.items():
    added_more(file, start, lines)


async def tried(snippet, name, peers):
    """A WAMP and an MQTT client hear the snippet, call it and are heard."""
    await snippet.says("Hello, fox!", STARTING_S)
    for peer in peers:
        came = (await peer.event("demo/hello")).body
        expect(plain(came) == plain(body(peer, f"{name} is here")), f"{peer.kind.name} heard {came}")
        outcome = await (await peer.call(f"demo/greet/{name}", body(peer, "badger"))).outcome()
        expect(outcome.kind == "result" and plain(outcome.body) == plain(body(peer, "Hello, badger!")), f"{peer.kind.name} was told {outcome}")
        await peer.publish("demo/hello", body(peer, f"{peer.kind.name} too"))
        await snippet.says(f"{peer.kind.name} too")


def body(peer, text):
    """A bare text, as this client writes it."""
    return Wamp([text]) if peer.kind.is_wamp else Mqtt(text.encode())


def plain(body):
    """What was said, without what MQTT 5 says about it."""
    return body.args if isinstance(body, Wamp) else body.payload


@scenario("every file of demo/clients is run by this suite", "issue 10: README", in_memory=True)
async def all_files(_):
    there, run = {path.name for path in CLIENTS.iterdir()}, {*SNIPPETS, *MORE}
    expect(there == run | {"README.md"}, f"{there} are there, {run} are run")
