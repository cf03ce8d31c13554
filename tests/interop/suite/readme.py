"""What the README says, besides what it has one type: its table of payloads, and its unit for systemd."""
import json
import pathlib
import re

from .bodies import Mqtt, Wamp
from .peers import expect
from .world import empty_directory, scenario

ROOT = pathlib.Path(__file__).resolve().parents[3]


def blocks():
    """The fenced blocks of the README in their order: language, text."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.S | re.M)


@scenario("what the README shows of systemd starts a router", "issue 10: run it on a server")
async def unit(world):
    units = [text for language, text in blocks() if language == "ini"]
    expect(len(units) == 1, f"there are {len(units)} units")
    command = re.search(r"^ExecStart=/usr/local/bin/corsac (.*)$", units[0], re.M)[1].split()
    command[command.index("/var/lib/corsac")] = "kept"
    with empty_directory() as directory:
        async with world.another(*command, directory=directory) as other, other.peer("paho-5"):
            expect((directory / "kept").is_dir(), f"nothing is kept in {list(directory.iterdir())}")


def payloads():
    """The README's table of payloads: what WAMP has, the direction, what MQTT has."""
    text = (ROOT / "README.md").read_text()
    table = text[text.index("| WAMP arguments |"):].split("\n\n")[0].splitlines()[2:]
    for row in table:
        left, direction, right = (cell.strip() for cell in row.strip("|").split("|"))
        said = re.findall(r"`([^`]*)`", left)
        # Bytes that are no UTF-8 are what only a binary argument can be.
        wamp = Wamp(json.loads(said[0]), *map(json.loads, said[1:])) if said else Wamp([b"\xff\x00\x10"])
        quoted = re.fullmatch(r"`([^`]*)`", right)
        mqtt = quoted[1].encode() if quoted else b"" if "zero" in right else wamp.args[0]
        yield row, wamp, direction, mqtt


@scenario("the README's table of payloads is true", "MAPPING.md, Payloads", needs=("py-json", "paho-5"))
async def payload_table(world):
    rows = list(payloads())
    expect(len(rows) > 10, f"the table has {len(rows)} rows")
    async with world.peers("py-json", "paho-5", "py-json", "paho-5") as (app, device, hearing_app, hearing_device):
        for peer in (hearing_app, hearing_device):
            await peer.subscribe("readme/payload")
        for row, wamp, direction, mqtt in rows:
            expect(direction in "⇄→←", f"{row} has no direction")
            if direction in "⇄→":
                await app.publish("readme/payload", wamp)
                expect((came := (await hearing_device.event()).body.payload) == mqtt, f"{row}: to MQTT came {came!r}")
                await hearing_app.event()
            if direction in "⇄←":
                await device.publish("readme/payload", Mqtt(mqtt))
                expect((came := (await hearing_app.event()).body) == wamp, f"{row}: to WAMP came {came}")
                await hearing_device.event()
