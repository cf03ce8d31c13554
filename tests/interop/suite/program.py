"""A program that a scenario starts, and the lines that it prints."""
import asyncio
import contextlib
import os
import signal

from .peers import DEADLINE_S, Failure, within


class Program:
    """One program in a process group of its own, from `async with` on; its standard error counts as output."""

    def __init__(self, *command, **options):
        self.command, self.options = command, options
        self.lines, self.news = [], asyncio.Event()

    async def __aenter__(self):
        self.process = await asyncio.create_subprocess_exec(
            *self.command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            start_new_session=True, **self.options)
        self.reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_):
        await self.kill()

    async def _read(self):
        while line := await self.process.stdout.readline():
            self.lines.append(line.decode(errors="replace").rstrip())
            self.news.set()
        self.news.set()

    async def says(self, text, seconds=DEADLINE_S):
        """Waits until a line that it printed contains `text`."""
        async def said():
            while not any(text in line for line in self.lines):
                if self.reader.done():
                    raise Failure(f"{self.command[-1]} ended without saying {text!r}")
                self.news.clear()
                await self.news.wait()
        try:
            await within(said(), f"{self.command[-1]} to say {text!r}", seconds)
        except Failure as failure:
            raise Failure(f"{failure}; it said {self.lines[-8:]}") from None

    async def kill(self, how=signal.SIGKILL):
        """Ends it and what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, how)
        try:
            await asyncio.wait_for(self.process.wait(), DEADLINE_S)
        except asyncio.TimeoutError:
            os.killpg(self.process.pid, signal.SIGKILL)
        await self.reader
