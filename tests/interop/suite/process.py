"""The processes of a run: the router, one driver for each client library, and lines that can be cut."""
import asyncio
import collections
import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE / "drivers"))

from lines import pack, unpack  # noqa: E402  (the drivers' own, so that both ends agree)


class Refused(Exception):
    """A request that a client library or the router refused."""

    def __init__(self, text, fields):
        super().__init__(text)
        self.uri = fields.get("uri")
        self.code = fields.get("code")
        self.args_, self.kwargs_ = fields.get("args"), fields.get("kwargs")


class Router:
    """The router under test, on ports that the system chose."""

    def __init__(self, http, mqtt, process=None, directory=None):
        self.http, self.mqtt, self.process, self.directory = http, mqtt, process, directory

    @classmethod
    async def start(cls, binary, log, directory, arguments=()):
        """Runs `binary` in `directory` as a newcomer does, without a flag but for the ports, and reads from its banner where it
        listens; `arguments` are what a suite of its own needs beyond that."""
        process = await asyncio.create_subprocess_exec(
            os.path.abspath(binary), "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", *arguments, cwd=directory,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log,
            env={name: value for name, value in os.environ.items() if not name.startswith("CORSAC_")})
        banner, http, mqtt = "", None, None
        while http is None or mqtt is None:
            line = await asyncio.wait_for(process.stdout.readline(), 20)
            if not line:
                raise SystemExit(f"the router did not start, see its log: {banner}")
            banner += line.decode()
            if found := re.search(r"ws://([\d.]+:\d+)/ws", banner):
                http = found[1]
            others = [address for address in re.findall(r"mqtt://([\d.]+:\d+)", banner) if address != http]
            mqtt = others[0] if others else None
        router = cls(http, mqtt, process, directory)
        router.drain = asyncio.create_task(process.stdout.read())
        return router

    async def stop(self, how=signal.SIGTERM):
        """Ends the router; its exit code."""
        if self.process is None:
            return 0
        if self.process.returncode is None:
            self.process.send_signal(how)
        try:
            return await asyncio.wait_for(self.process.wait(), 10)
        except asyncio.TimeoutError:
            self.process.kill()
            return await self.process.wait()


class Driver:
    """One driver process; it holds any number of clients of its library."""

    def __init__(self, name, process):
        self.name, self.process = name, process
        self.waiting, self.clients, self.number = {}, {}, 0
        self.said = collections.deque(maxlen=30)

    @classmethod
    async def start(cls, name, command, environment):
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **environment}, limit=1 << 26)
        driver = cls(name, process)
        driver.tasks = [asyncio.create_task(driver._read()), asyncio.create_task(driver._listen())]
        return driver

    async def _read(self):
        while line := await self.process.stdout.readline():
            message = unpack(json.loads(line))
            if "event" not in message:
                future = self.waiting.pop(message["id"], None)
                if future is None or future.done():
                    continue
                if "error" in message:
                    future.set_exception(Refused(message["error"], message))
                else:
                    future.set_result(message["ok"])
            elif (peer := self.clients.get(message["client"])) is not None:
                peer.hear(message)
        for future in self.waiting.values():
            if not future.done():
                future.set_exception(Refused(f"the driver {self.name} ended: {list(self.said)[-5:]}", {}))

    async def _listen(self):
        while line := await self.process.stderr.readline():
            self.said.append(line.decode(errors="replace").rstrip())

    async def request(self, op, client, **fields):
        """Sends one request and waits for its answer."""
        self.number += 1
        self.waiting[self.number] = future = asyncio.get_running_loop().create_future()
        message = {"id": self.number, "op": op, "client": client, **fields}
        self.process.stdin.write(json.dumps(pack(message)).encode() + b"\n")
        await self.process.stdin.drain()
        return await future

    async def stop(self):
        """Ends the process by ending its input."""
        self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), 3)
        except asyncio.TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()


class Line:
    """A way to the router that can be cut, as a cable can."""

    def __init__(self, target):
        self.host, port = target.split(":")
        self.port, self.writers = int(port), set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        self.address = "127.0.0.1:%d" % self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()
        self.cut()

    def cut(self):
        """Resets every connection at once on both sides; new ones can be made."""
        for writer in list(self.writers):
            # A reset, not an end: autobahn-js over RawSocket takes an end for half of one and waits for ever.
            linger = struct.pack("ii", 1, 0)
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()

    async def _join(self, reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection(self.host, self.port)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self.writers |= ends
        await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))
        self.writers -= ends

    @staticmethod
    async def _copy(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()
