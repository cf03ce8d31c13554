"""The README, typed from top to bottom in an empty directory, on the ports that it names. This runs behind everything else."""
import asyncio
import json
import os
import shutil
import socket
import urllib.request

from .clients import SNIPPETS
from .peers import Failure, expect
from .program import Program
from .readme import ROOT, blocks
from .world import empty_directory, scenario

URL = "https://github.com/corsac-router/corsac"
BUILDING_S = 1500  # of everything that is compiled, on a busy machine
# What is typed in a terminal that is left alone then, and what it has said when the README is at its end.
LISTENER = "mosquitto_sub -t 'demo/#' -v"
STAYS = {
    "corsac": ["ws://127.0.0.1:8080/ws", "mqtt://127.0.0.1:1883"],
    LISTENER: ["demo/hello hi", "demo/den/temperature", *(f"demo/hello {name} is here" for name, _ in SNIPPETS.values() if name != "nodered")],
    "corsac register demo.echo --echo": ["serving demo.echo"],
    "corsac demo": ["connected"],
    "venv/bin/python demo/clients/autobahn-python.py": ["Hello, fox!", "heard shell is here", "heard mqttjs is here"],
    "node demo/clients/autobahn-js.mjs": ["Hello, fox!", "heard paho is here"],
    "venv/bin/python demo/clients/paho-python.py": ["Hello, fox!", "demo/hello wampy is here"],
    "node demo/clients/mqtt-js.mjs": ["Hello, fox!", "demo/hello wampy is here"],
    "sh demo/clients/mosquitto.sh": ["Hello, fox!", "demo/hello shell is here"],
    "node demo/clients/wampy.mjs": ["Hello, fox!", "heard aiomqtt is here"],
    "venv/bin/python demo/clients/aiomqtt-python.py": ["Hello, fox!", "demo/hello rust is here"],
    "cargo run --release --example client": ["Hello, fox!"],
}
# What comes to an end with 0, and what it says.
ENDS = {
    "sudo apt install -y git curl gcc libc6-dev mosquitto-clients python3-venv": [],
    f"git clone {URL}": [],
    "cargo install --locked --path .": [],
    "corsac pub demo.hello hi": [],
    "corsac call demo.echo hello": ["hello"],
    "corsac call --url mqtt://127.0.0.1:1883 demo.echo hello": ["hello"],
    "mosquitto_rr -V 5 -t '$call/demo/echo' -e '$reply/1' -m hello": ["hello"],
    "python3 -m venv venv": [],
    "venv/bin/pip install autobahn": [],
    "venv/bin/pip install paho-mqtt": [],
    "venv/bin/pip install aiomqtt": [],
    "npm install autobahn@22": [],
    "npm install mqtt@5": [],
    "npm install wampy@8 ws@8": [],
    "corsac history 'demo/#' --last 10": ["is here"],
    """corsac lock demo/printer -- sh -c 'echo "one at a time, token $CORSAC_LOCK_TOKEN"'""": ["one at a time, token "],
    """corsac queue put demo.jobs '{"page":1}'""": [],
    "corsac queue take demo.jobs --ack": ['{"page":1}'],
    "corsac check --config corsac.toml": ["OK", "history sensors/#: everything"],
}
# What is not typed, and why.
SKIPPED = {
    "sudo install -m 755 ~/.cargo/bin/corsac /usr/local/bin/corsac": "it writes outside of this test's directory",
    "cargo test": ".ci/run has done it",
}


async def subscribed():
    """Waits until somebody has subscribed, who says nothing of it."""
    for _ in range(200):
        status = json.loads(await asyncio.to_thread(lambda: urllib.request.urlopen("http://127.0.0.1:8080/status.json", timeout=5).read()))
        if any(realm["subscriptions"] for realm in status["realms"]):
            return
        await asyncio.sleep(0.05)
    raise Failure(f"nobody has subscribed: {status}")


class Terminals:
    """Where the commands are typed: a directory, an environment, and the programs that were left alone."""

    def __init__(self, world, directory):
        self.directory, self.left = directory, {}
        target = ROOT / "target" / "readme"
        programs = directory / "installed"
        (directory / "shims").mkdir()
        if shutil.which("sudo") is None:
            shim = directory / "shims" / "sudo"
            shim.write_text('#!/bin/sh\nexec "$@"\n')
            shim.chmod(0o755)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CORSAC_")},
            "PATH": f"{programs}/bin:{directory}/shims:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1", "DEBIAN_FRONTEND": "noninteractive",
            # The repository is this one.
            "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{ROOT.as_uri()}.insteadOf", "GIT_CONFIG_VALUE_0": URL,
            # Beside nothing of the user's, and not optimized: that takes minutes.
            "CARGO_INSTALL_ROOT": str(programs), "CARGO_TARGET_DIR": str(target), "CARGO_PROFILE_RELEASE_LTO": "false",
            "CARGO_PROFILE_RELEASE_OPT_LEVEL": "0", "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16",
            # The versions that the other scenarios use.
            "PIP_CONSTRAINT": str(ROOT / "tests" / "interop" / "requirements.txt"), "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "npm_config_ignore_scripts": "true", "npm_config_audit": "false", "npm_config_fund": "false",
        }

    async def type(self, command):
        """One command, as the tables above say it goes on."""
        if command in SKIPPED:
            return
        if command.startswith("cd "):
            self.directory = self.directory / command.removeprefix("cd ")
            return
        program = Program("bash", "-c", command, cwd=self.directory, env=self.environment)
        if command in STAYS:
            self.left[command] = await program.__aenter__()
            # What it says first shows that it is there; then the reader goes on.
            return await (subscribed() if command == LISTENER else program.says(STAYS[command][0], BUILDING_S))
        expect(command in ENDS, f"{command!r} is new in the README: say in suite/readme.py what it prints")
        async with program:
            code = await asyncio.wait_for(program.process.wait(), BUILDING_S)
            await program.reader
            said = "\n".join(program.lines)
            expect(code == 0, f"{command!r} ended with {code}: {said[-2000:]}")
            for text in ENDS[command]:
                expect(text in said, f"{command!r} did not say {text!r} but {said[-2000:]}")

    async def check(self):
        """Everything that was left alone is there and has said what it had to."""
        for command, program in self.left.items():
            for text in STAYS[command]:
                try:
                    await program.says(text)
                except Failure as failure:
                    raise Failure(f"{command!r}: {failure}") from None
            expect(program.process.returncode is None, f"{command!r} has ended: {program.lines[-5:]}")

    async def close(self):
        """Ends what was left alone, the last first."""
        for program in reversed(self.left.values()):
            await program.kill()


@scenario("the README, typed from top to bottom in an empty directory", "issue 10: what a newcomer types", limit_s=3 * BUILDING_S)
async def typed(world):
    for port in (8080, 1883):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise Failure(f"port {port}, which the README names, is taken: {error}") from None
    with empty_directory() as directory:
        terminals = Terminals(world, directory)
        try:
            for language, text in blocks():
                if language == "sh":
                    for command in text.splitlines():
                        await terminals.type(command)
                elif language == "toml":  # its first line is its name
                    (terminals.directory / text.splitlines()[0].removeprefix("# ")).write_text(text)
            await terminals.check()
        finally:
            await terminals.close()
