"""Drives autobahn-python (asyncio): JSON, MsgPack and CBOR over WebSocket and RawSocket."""
import asyncio

import txaio

txaio.use_asyncio()

from autobahn.asyncio.component import Component  # noqa: E402
from autobahn.wamp.exception import ApplicationError  # noqa: E402
from autobahn.wamp.types import (  # noqa: E402
    CallOptions, CallResult, PublishOptions, RegisterOptions, SubscribeOptions)

from lines import Lines, Refused  # noqa: E402

LINES = Lines()
CLIENTS = {}


def refusal(error):
    """What the library raised, as an answer that names the URI."""
    if isinstance(error, ApplicationError):
        return Refused(f"{error.error} {error.args}", uri=error.error, args=error.args, kwargs=error.kwargs)
    return Refused(f"{type(error).__name__}: {error}")


def transport(url, serializer, retries):
    """The description of one transport as Component wants it."""
    common = {"url": url, "max_retries": retries, "initial_retry_delay": 0.05, "max_retry_delay": 0.2}
    if not url.startswith("rs://"):
        return {"type": "websocket", "serializers": [serializer], **common}
    host, port = url[len("rs://"):].split(":")
    return {"type": "rawsocket", "serializer": serializer,
            "endpoint": {"type": "tcp", "host": host, "port": int(port)}, **common}


class Client:
    """One component with its sessions, one after the other."""

    def __init__(self, name):
        self.name = name
        self.session = None
        self.subscriptions = {}
        self.registrations = {}
        self.invocations = {}
        self.calls = {}

    async def connect(self, url, serializer, realm, reconnect):
        """Opens the first session; later ones are reported as `joined`."""
        joined = asyncio.get_running_loop().create_future()
        component = Component(transports=[transport(url, serializer, -1 if reconnect else 0)], realm=realm)

        @component.on_join
        async def on_join(session, details):
            self.session = session
            LINES.event(self.name, "joined", session=details.session)
            if not joined.done():
                joined.set_result({"session": details.session})

        @component.on_leave
        async def on_leave(_session, details):
            LINES.event(self.name, "left", reason=details.reason)

        @component.on_disconnect
        async def on_disconnect(_session, was_clean):
            LINES.event(self.name, "disconnected", clean=bool(was_clean))

        self.component = component
        txaio.config.loop = asyncio.get_running_loop()
        done = asyncio.ensure_future(component.start(loop=txaio.config.loop))
        await asyncio.wait([done, joined], return_when=asyncio.FIRST_COMPLETED)
        if not joined.done():
            raise Refused(f"no session: {done.exception()}")
        self.done = done
        done.add_done_callback(lambda future: future.cancelled() or future.exception())
        return joined.result()

    def endpoint(self, tag):
        """A procedure that is answered by later `yield`, `progress` and `fail` requests."""
        async def endpoint(*args, details=None, **kwargs):
            number = f"{self.name}.{len(self.invocations) + 1}"
            answer = asyncio.get_running_loop().create_future()
            self.invocations[number] = (answer, details)
            LINES.event(self.name, "invocation", tag=tag, invocation=number, args=args, kwargs=kwargs,
                        progress=details.progress is not None, caller=details.caller, procedure=details.procedure)
            try:
                return await answer
            except asyncio.CancelledError:
                LINES.event(self.name, "interrupted", invocation=number)
                # Left alone the library answers wamp.error.runtime_error.
                raise ApplicationError(ApplicationError.CANCELED) from None
        return endpoint


async def connect(client, url, serializer, realm="realm1", reconnect=False):
    CLIENTS[client] = Client(client)
    return await CLIENTS[client].connect(url, serializer, realm, reconnect)


async def subscribe(client, tag, topic, match=None, get_retained=None):
    peer = CLIENTS[client]

    def handler(*args, details=None, **kwargs):
        LINES.event(client, "event", tag=tag, topic=details.topic, args=args, kwargs=kwargs,
                    publication=details.publication, publisher=details.publisher, retained=bool(details.retained))

    options = SubscribeOptions(match=match, get_retained=get_retained, details=True)
    try:
        peer.subscriptions[tag] = await peer.session.subscribe(handler, topic, options=options)
    except Exception as error:
        raise refusal(error) from error
    return {"subscription": peer.subscriptions[tag].id}


async def unsubscribe(client, tag):
    await CLIENTS[client].subscriptions.pop(tag).unsubscribe()


async def publish(client, topic, args=(), kwargs=None, **options):
    options.setdefault("acknowledge", True)
    try:
        done = CLIENTS[client].session.publish(topic, *args, options=PublishOptions(**options), **(kwargs or {}))
        return {"publication": (await done).id if options["acknowledge"] else None}
    except Exception as error:
        raise refusal(error) from error


async def register(client, tag, procedure, match=None, invoke=None):
    peer = CLIENTS[client]
    options = RegisterOptions(match=match, invoke=invoke, details_arg="details")
    try:
        peer.registrations[tag] = await peer.session.register(peer.endpoint(tag), procedure, options=options)
    except Exception as error:
        raise refusal(error) from error
    return {"registration": peer.registrations[tag].id}


async def unregister(client, tag):
    await CLIENTS[client].registrations.pop(tag).unregister()


async def call(client, call, procedure, args=(), kwargs=None, timeout_ms=None, progress=False):
    """Starts the call; its outcome comes as `progress`, `result`, `error` events."""
    peer = CLIENTS[client]

    def on_progress(*args, **kwargs):
        LINES.event(client, "progress", call=call, args=args, kwargs=kwargs)

    # The library hands the number on as it is, and on the wire it is in milliseconds. With `details` it fails on
    # progressive results without keywords.
    options = CallOptions(timeout=timeout_ms, on_progress=on_progress if progress else None, details=not progress)
    future = asyncio.ensure_future(peer.session.call(procedure, *args, options=options, **(kwargs or {})))
    peer.calls[call] = future

    def finished(future):
        if future.cancelled():
            return LINES.event(client, "error", call=call, uri="cancelled by the library", args=[], kwargs={})
        error = future.exception()
        if isinstance(error, ApplicationError):
            return LINES.event(client, "error", call=call, uri=error.error, args=error.args, kwargs=error.kwargs)
        if error is not None:
            return LINES.event(client, "error", call=call, uri=type(error).__name__, args=[str(error)], kwargs={})
        result = future.result()
        if not isinstance(result, CallResult):
            result = CallResult(result)
        return LINES.event(client, "result", call=call, args=result.results, kwargs=result.kwresults)

    future.add_done_callback(finished)


async def cancel(client, call):
    CLIENTS[client].calls[call].cancel()


async def answer(client, invocation, args=(), kwargs=None):
    CLIENTS[client].invocations[invocation][0].set_result(CallResult(*args, **(kwargs or {})))


async def progress(client, invocation, args=(), kwargs=None):
    CLIENTS[client].invocations[invocation][1].progress(*args, **(kwargs or {}))


async def fail(client, invocation, uri, args=(), kwargs=None):
    CLIENTS[client].invocations[invocation][0].set_exception(ApplicationError(uri, *args, **(kwargs or {})))


async def close(client):
    peer = CLIENTS.pop(client)
    if peer.session.is_attached():
        await peer.session.leave()
    elif not peer.done.done():
        await peer.component.stop()  # ends the attempts to connect again


OPERATIONS = {"connect": connect, "subscribe": subscribe, "unsubscribe": unsubscribe, "publish": publish,
              "register": register, "unregister": unregister, "call": call, "cancel": cancel, "yield": answer,
              "progress": progress, "fail": fail, "close": close}

if __name__ == "__main__":
    asyncio.run(LINES.serve(OPERATIONS))
