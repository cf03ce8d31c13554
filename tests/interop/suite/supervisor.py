"""supervisord/: workers that take turns holding a resource, under the supervisord that people have."""
import asyncio
import os
import pathlib
import re
import signal
import socket

from .peers import expect
from .world import scenario

CONFIGURATION = pathlib.Path(__file__).resolve().parents[3] / "supervisord" / "resource-lock.ini"
LINE = re.compile(r"^(worker\d) \(pid (\d+)\) (holds|leaves) demo/resource, token (\d+)$")


def free_ports(count):
    """Ports of this machine that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Workers:
    """A running supervisord with a router and workers of its own, and what the workers said."""

    def __init__(self, world, ports=None):
        self.program = world.installed.resolve() / "venv" / "bin" / "supervisord"
        http, mqtt = ports or free_ports(2)
        path = f"{pathlib.Path(world.binary).resolve().parent}:{os.environ['PATH']}"
        ours = {"CORSAC_HTTP": f"127.0.0.1:{http}", "CORSAC_MQTT": f"127.0.0.1:{mqtt}", "CORSAC_URL": f"ws://127.0.0.1:{http}/ws"}
        theirs = {name: value for name, value in os.environ.items() if not name.startswith("CORSAC_")}
        self.environment = {**theirs, **ours, "PATH": path}
        self.said, self.router_said, self.news = [], [], asyncio.Event()

    async def __aenter__(self):
        self.process = await asyncio.create_subprocess_exec(
            self.program, "--configuration", CONFIGURATION, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=self.environment)
        self.reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_):
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.process.wait(), 15)
        finally:
            self.reader.cancel()

    async def _read(self):
        while line := await self.process.stdout.readline():
            text = line.decode(errors="replace").rstrip()
            if text.startswith("router: "):
                self.router_said.append(text)
            if found := LINE.match(text):
                worker, pid, word, token = found.groups()
                self.said.append((worker, int(pid), word, int(token)))
                self.news.set()

    async def next_holder(self, behind):
        """The next line after these many that says who holds the resource: worker, pid, token."""
        async def found():
            while True:
                for worker, pid, word, token in self.said[behind:]:
                    if word == "holds":
                        return worker, pid, token
                self.news.clear()
                await self.news.wait()
        try:
            return await asyncio.wait_for(found(), 20)
        except asyncio.TimeoutError:
            raise AssertionError(f"nobody took the resource; said so far: {self.said}") from None


@scenario("supervisord: workers take turns; one that is killed is followed by a larger token", "issue 3: locks, supervisord/")
async def workers_take_turns(world):
    expect(world.binary, "no binary to run")
    async with Workers(world) as workers:
        killed, behind = set(), 0
        for turn in range(6):
            worker, pid, token = await workers.next_holder(behind)
            behind = len(workers.said)
            if turn % 2:
                # supervisord gives each program a process group: the holder, its command and what that has started.
                os.killpg(os.getpgid(pid), signal.SIGKILL)
                killed.add(token)
        await workers.next_holder(behind)
        last, holder = 0, None
        for worker, pid, word, token in workers.said:
            if word == "holds":
                expect(token > last, f"token {token} after {last}: {workers.said}")
                expect(holder is None or holder[1] in killed, f"{worker} and {holder} hold it both: {workers.said}")
                last, holder = token, (worker, token)
            else:
                expect(holder == (worker, token), f"{worker} leaves what it does not hold: {workers.said}")
                holder = None
        expect(len(killed) == 3, f"{killed} were killed")
        expect(len({worker for worker, *_ in workers.said}) == 3, f"not all workers had a turn: {workers.said}")
        expect(any("ws://" in line for line in workers.router_said), f"the router's lines are {workers.router_said}")


@scenario("supervisord: where the ports are taken everything ends, and says why", "issue 10: B22")
async def ports_are_taken(world):
    expect(world.binary, "no binary to run")
    http, mqtt = (address.rsplit(":", 1)[1] for address in (world.router.http, world.router.mqtt))
    async with Workers(world, (http, mqtt)) as workers:
        await asyncio.wait_for(workers.process.wait(), 20)
        await workers.reader
        expect(any(f"port {http} on 127.0.0.1 is taken" in line for line in workers.router_said), f"the router said {workers.router_said}")
