"""The line protocol of the drivers written in Python: one JSON object a line, requests in, answers and events out.

A request is {"id": n, "op": name, …} and is answered by {"id": n, "ok": {…}} or {"id": n, "error": text, …}. What a
client receives comes as {"client": name, "event": kind, …}. Byte strings are {"$bytes": base64} on both ways.
"""
import asyncio
import base64
import json
import os
import sys
import threading


def pack(value):
    """The JSON form of `value`: byte strings become {"$bytes": …}."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$bytes": base64.b64encode(bytes(value)).decode()}
    if isinstance(value, dict):
        return {str(key): pack(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [pack(item) for item in value]
    return value


def unpack(value):
    """The opposite of `pack`."""
    if isinstance(value, dict):
        if set(value) == {"$bytes"}:
            return base64.b64decode(value["$bytes"])
        return {key: unpack(item) for key, item in value.items()}
    if isinstance(value, list):
        return [unpack(item) for item in value]
    return value


class Refused(Exception):
    """A request that the router, or the client library, refused; `fields` are added to the answer."""

    def __init__(self, text, **fields):
        super().__init__(text)
        self.fields = fields


class Lines:
    """Standard input and output as a stream of requests, answers and events."""

    def __init__(self):
        # Whatever a library prints must not end up between the lines.
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._lock = threading.Lock()

    def write(self, message):
        """Writes one line; callable from any thread."""
        text = json.dumps(pack(message), separators=(",", ":"))
        with self._lock:
            self._out.write(text + "\n")
            self._out.flush()

    def event(self, client, event, **fields):
        """Reports what `client` received."""
        self.write({"client": client, "event": event, **fields})

    async def serve(self, operations):
        """Answers requests with the coroutine functions in `operations` until the input ends."""
        reader = asyncio.StreamReader(limit=64 * 1024 * 1024)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        tasks = set()
        while line := await reader.readline():
            # Tasks start in the order in which they are made, so requests of one client keep theirs.
            task = asyncio.create_task(self._answer(operations, unpack(json.loads(line))))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _answer(self, operations, request):
        number, operation = request.pop("id"), request.pop("op")
        try:
            self.write({"id": number, "ok": await operations[operation](**request) or {}})
        except Refused as refused:
            self.write({"id": number, "error": str(refused), **refused.fields})
        except Exception as error:
            self.write({"id": number, "error": f"{type(error).__name__}: {error}"})
