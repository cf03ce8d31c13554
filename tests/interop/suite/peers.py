"""A client of some kind as the scenarios see it: the same verbs for WAMP and MQTT, spelled as MAPPING.md says."""
import asyncio
import dataclasses
import itertools
import json
import os

from .bodies import Mqtt, Wamp, plain, spelled, to_mqtt
from .process import Refused

DEADLINE_S = float(os.environ.get("INTEROP_DEADLINE_S", "10"))
NUMBERS = itertools.count(1)


class Failure(Exception):
    """An expectation that was not met."""


def expect(condition, text):
    """Fails the scenario with `text` unless `condition` holds."""
    if not condition:
        raise Failure(text)


async def limited(awaitable, seconds):
    """As asyncio.wait_for, which before Python 3.12 may swallow a cancellation that comes together with the result."""
    task = asyncio.ensure_future(awaitable)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not done:
        task.cancel()
        raise asyncio.TimeoutError
    return task.result()


async def within(awaitable, what, seconds=DEADLINE_S):
    """Waits, but not for ever."""
    try:
        return await limited(awaitable, seconds)
    except asyncio.TimeoutError:
        raise Failure(f"waited {seconds:g} s for {what}") from None


@dataclasses.dataclass
class Event:
    """A publication as it arrived."""

    topic: str
    body: object
    retained: bool
    raw: dict


@dataclasses.dataclass
class Outcome:
    """How a call went on: `kind` is result, progress or error; `uri` None where the caller cannot see it."""

    kind: str
    body: object
    uri: str | None = None


@dataclasses.dataclass
class Invocation:
    """A call as it reached its callee."""

    number: str
    body: object
    raw: dict


class Peer:
    """One connected client; what it received waits in `inbox` until somebody takes it."""

    def __init__(self, kind, driver, url):
        self.kind, self.driver, self.url = kind, driver, url
        self.name = f"{kind.name}-{next(NUMBERS)}"
        self.inbox, self.news = [], asyncio.Event()
        driver.clients[self.name] = self

    def hear(self, message):
        """Called by the driver for each event."""
        self.inbox.append(message)
        self.news.set()

    async def request(self, op, **fields):
        """One operation of the driver."""
        return await within(self.driver.request(op, self.name, **fields), f"{op} by {self.name} {fields}")

    async def take(self, what, match):
        """Waits for the first message that fits, and removes it."""
        async def taken():
            while True:
                for index, message in enumerate(self.inbox):
                    if match(message):
                        return self.inbox.pop(index)
                self.news.clear()
                await self.news.wait()
        try:
            return await limited(taken(), DEADLINE_S)
        except asyncio.TimeoutError:
            there = [brief(message) for message in self.inbox[-6:]]
            raise Failure(f"{self.name} waited {DEADLINE_S:g} s for {what}; it has {there}") from None

    async def joined(self):
        """Waits until the client is connected (again)."""
        return await self.take("a session", lambda m: m["event"] == "joined")

    async def disconnected(self):
        """Waits until the connection has ended."""
        return await self.take("the end of its connection", lambda m: m["event"] == "disconnected")

    async def close(self):
        """Says goodbye."""
        self.driver.clients.pop(self.name, None)
        try:
            await limited(self.driver.request("close", self.name), 5)
        except (asyncio.TimeoutError, Refused):
            pass


def brief(message):
    """A message in an error text."""
    text = str({key: value for key, value in message.items() if key != "client" and value not in (None, [], {})})
    return text if len(text) < 220 else text[:220] + "…"


class WampPeer(Peer):
    """A WAMP client."""

    async def connect(self, **options):
        welcome = await self.request("connect", url=self.url, serializer=self.kind.form, **options)
        self.session, self.roles = welcome["session"], welcome.get("roles")
        await self.joined()
        return self

    async def subscribe(self, topic, **options):
        """Subscribes to a topic in its slashed spelling; `tag` for its events is that spelling."""
        return await self.request("subscribe", tag=topic, topic=topic.replace("/", "."), **options)

    async def subscribe_below(self, topic, **options):
        """Everything below `topic/`."""
        # Without a dot at the end: wampy takes no such pattern.
        return await self.request("subscribe", tag=topic, topic=topic.replace("/", "."), match="prefix", **options)

    async def unsubscribe(self, topic):
        await self.request("unsubscribe", tag=topic)

    async def publish(self, topic, body, **options):
        return await self.request("publish", topic=topic.replace("/", "."), **arguments(body), **options)

    async def event(self, topic=None):
        """The next event on this topic (slashed)."""
        dotted = topic and topic.replace("/", ".")
        message = await self.take(f"an event on {dotted}", lambda m: m["event"] == "event" and dotted in (None, m["topic"]))
        body = Wamp(plain(message["args"] or []), plain(message["kwargs"] or {}))
        return Event(message["topic"].replace(".", "/"), body, message["retained"], message)

    async def event_below(self, topic):
        """The next event on a topic that begins with `topic` (slashed)."""
        dotted = topic.replace("/", ".")
        message = await self.take(f"an event below {dotted}",
                                  lambda m: m["event"] == "event" and m["topic"].startswith(dotted))
        self.inbox.insert(0, message)
        return await self.event(message["topic"].replace(".", "/"))

    def events(self):
        """What arrived and was not taken."""
        return [message for message in self.inbox if message["event"] == "event"]

    async def register(self, procedure, **options):
        return await self.request("register", tag=procedure, procedure=procedure.replace("/", "."), **options)

    async def unregister(self, procedure):
        await self.request("unregister", tag=procedure)

    async def invocation(self, procedure):
        message = await self.take(f"an invocation of {procedure}",
                                  lambda m: m["event"] == "invocation" and m["tag"] == procedure)
        return Invocation(message["invocation"], Wamp(plain(message["args"] or []), plain(message["kwargs"] or {})), message)

    async def answer(self, invocation, body):
        await self.request("yield", invocation=invocation.number, **arguments(body))

    async def progress(self, invocation, body):
        await self.request("progress", invocation=invocation.number, **arguments(body))

    async def fail(self, invocation, uri, body):
        await self.request("fail", invocation=invocation.number, uri=uri, **arguments(body))

    async def interrupted(self, invocation):
        await self.take("an interrupt", lambda m: m["event"] == "interrupted" and m["invocation"] == invocation.number)

    async def call(self, procedure, body, timeout_ms=None, progress=False, expected=None, **options):
        """Starts a call; `expected` is the kind of outcome (needed by mosquitto_rr alone)."""
        call = Call(self, str(next(NUMBERS)))
        await self.request("call", call=call.id, procedure=procedure.replace("/", "."), timeout_ms=timeout_ms,
                           progress=progress, **arguments(body), **options)
        return call

    async def outcome(self, call):
        message = await self.take(f"an outcome of its call {call.id}",
                                  lambda m: m["event"] in ("result", "progress", "error") and m["call"] == call.id)
        body = Wamp(plain(message["args"] or []), plain(message["kwargs"] or {}))
        return Outcome(message["event"], body, message.get("uri"))

    async def cancel(self, call, mode=None):
        await self.request("cancel", call=call.id, **({"mode": mode} if mode else {}))


def arguments(body):
    """Args and kwargs for a driver; left out where they are empty."""
    fields = {}
    if body.args or body.kwargs:
        fields["args"] = body.args
    if body.kwargs:
        fields["kwargs"] = body.kwargs
    return fields


class MqttPeer(Peer):
    """An MQTT client."""

    replies = None

    async def connect(self, **options):
        options.setdefault("client_id", self.name)
        connack = await self.request("connect", url=self.url, version=self.kind.form, **options)
        self.session_present = connack["session_present"]
        if self.kind.driver != "mosquitto":
            await self.joined()
        return self

    async def subscribe(self, topic, qos=1, **options):
        return (await self.request("subscribe", filter=topic, qos=qos, **options))["granted"]

    async def subscribe_below(self, topic):
        """Everything below `topic/`."""
        return await self.subscribe(topic + "/#")

    async def unsubscribe(self, topic):
        await self.request("unsubscribe", filter=topic)

    async def publish(self, topic, body, qos=1, retain=False, properties=None):
        properties = dict(properties or {})
        if self.kind.is_v5:
            for name in ("content_type", "utf8"):
                if getattr(body, name) is not None:
                    properties[name] = getattr(body, name)
        return await self.request("publish", topic=topic, payload=body.payload, qos=qos, retain=retain,
                                  properties=properties or None)

    async def event(self, topic=None):
        """The next message on this topic."""
        message = await self.take(f"a message on {topic}", lambda m: m["event"] == "message" and topic in (None, m["topic"]))
        return Event(message["topic"], self.body(message), message["retain"], message)

    async def event_below(self, topic):
        """The next message on a topic that begins with `topic`."""
        message = await self.take(f"a message below {topic}",
                                  lambda m: m["event"] == "message" and m["topic"].startswith(topic))
        return Event(message["topic"], self.body(message), message["retain"], message)

    def events(self):
        """What arrived and was not taken."""
        return [message for message in self.inbox if message["event"] == "message"]

    def body(self, message):
        """The application message with what MQTT 5 says about it."""
        properties = message["properties"]
        return Mqtt(message["payload"], properties.get("content_type"), properties.get("utf8"))

    async def register(self, procedure):
        """Serves `procedure`, by `$id` before MQTT 5."""
        await self.subscribe("$cancel/#", qos=1)
        return await self.subscribe(self.callee_filter(procedure))

    async def unregister(self, procedure):
        await self.unsubscribe(self.callee_filter(procedure))

    def callee_filter(self, procedure):
        return f"$callee/{procedure}" if self.kind.is_v5 else f"$callee/{procedure}/$id/+"

    async def invocation(self, procedure):
        prefix = f"$callee/{procedure}" if self.kind.is_v5 else f"$callee/{procedure}/$id/"
        message = await self.take(f"an invocation on {prefix}", lambda m: m["event"] == "message" and (
            m["topic"] == prefix if self.kind.is_v5 else m["topic"].startswith(prefix)))
        if self.kind.is_v5:
            topic = message["properties"].get("response_topic", "")
            expect(topic.startswith("$yield/"), f"the invocation has the response topic {topic!r}, not $yield/…")
        else:
            topic = "$yield/" + message["topic"][len(prefix):]
        return Invocation(topic, self.body(message), message)

    async def answer(self, invocation, body):
        await self.publish(invocation.number, mqtt_form(body))

    async def progress(self, invocation, body):
        await self.publish(invocation.number + "/progress", mqtt_form(body))

    async def fail(self, invocation, uri, body):
        properties = {"user": [["corsac-error", uri]]} if self.kind.is_v5 else None
        await self.publish(invocation.number + "/error", mqtt_form(body), properties=properties)

    async def interrupted(self, invocation):
        topic = invocation.number.replace("$yield/", "$cancel/")
        await self.take(f"a message on {topic}", lambda m: m["event"] == "message" and m["topic"] == topic)

    async def call(self, procedure, body, timeout_ms=None, progress=False, expected="result"):
        """Starts a call: MQTT 5 by response topic and correlation data, before it by `$id`."""
        call = Call(self, str(next(NUMBERS)))
        user = []
        if timeout_ms is not None:
            user.append(["corsac-timeout-ms", str(timeout_ms)])
        if progress:
            user.append(["corsac-receive-progress", "true"])
        if self.kind.driver == "mosquitto":
            call.task = asyncio.create_task(self._request(call, procedure, body, user, expected))
            return call
        if self.replies is None:
            self.replies = asyncio.ensure_future(self.subscribe("$reply/#"))
        await self.replies
        if self.kind.is_v5:
            properties = {"response_topic": f"$reply/{call.id}", "correlation": call.id.encode()}
            if user:
                properties["user"] = user
            await self.publish(f"$call/{procedure}", mqtt_form(body), properties=properties)
        else:
            await self.publish(f"$call/{procedure}/$id/{call.id}", mqtt_form(body))
        return call

    async def _request(self, call, procedure, body, user, expected):
        """A call by mosquitto_rr."""
        payload = mqtt_form(body).payload
        if self.kind.is_v5:
            topic, response = f"$call/{procedure}", f"$reply/{call.id}"
            properties = {"correlation": call.id.encode(), "user": user}
        else:
            topic, response, properties = f"$call/{procedure}/$id/{call.id}", f"$reply/{call.id}/{expected}", None
        return await self.request("request", topic=topic, payload=payload, response_topic=response,
                                  properties=properties)

    async def outcome(self, call):
        if call.task is not None:
            message = await call.task
        else:
            message = await self.take(f"an outcome of its call {call.id}", lambda m: m["event"] == "message" and (
                m["topic"] == f"$reply/{call.id}" or m["topic"].startswith(f"$reply/{call.id}/")))
        if not self.kind.is_v5:
            kind, body = message["topic"].rsplit("/", 1)[1], self.body(message)
            return error_by_text(body) if kind == "error" else Outcome(kind, body)
        user = dict(message["properties"]["user"])
        expect(message["properties"].get("correlation") == call.id.encode(),
               f"the answer has the correlation data {message['properties'].get('correlation')!r}, not {call.id!r}")
        return Outcome(user.get("corsac-status", "no corsac-status"), self.body(message), user.get("corsac-error"))


def error_by_text(body):
    """An error as a caller before MQTT 5 gets it: {"error": URI, "args": …, "kwargs": …}."""
    value = json.loads(body.payload)
    expect(isinstance(value, dict) and "error" in value, f"an error without its URI: {body.payload!r}")
    return Outcome("error", spelled(Wamp(value.get("args", []), value.get("kwargs", {}))), value["error"])


def mqtt_form(body):
    """As an MQTT client writes it."""
    return spelled(body) if isinstance(body, Wamp) else body


@dataclasses.dataclass
class Call:
    """A call that was started."""

    caller: Peer
    id: str
    task: asyncio.Task | None = None

    async def outcome(self):
        """What came of it, or comes next."""
        return await self.caller.outcome(self)


def decoded(body):
    """The arguments in a body of either protocol, when they were sent as `spelled` writes them."""
    if isinstance(body, Wamp):
        return body
    try:
        value = json.loads(body.payload or b"null")
    except ValueError:  # a lone text comes bare
        return Wamp([body.payload.decode()])
    if isinstance(value, dict) and value.keys() == {"args", "kwargs"}:
        return Wamp(value["args"], value["kwargs"])
    return Wamp([] if value is None else value if isinstance(value, list) else [value])


def shown(body, kind):
    """The arguments `body` as a client of `kind` receives them."""
    return body if kind.is_wamp else to_mqtt(body)
