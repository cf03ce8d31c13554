"""Publications: each kind alone, patterns, retained values, and every publisher with every subscriber."""
import asyncio

from .bodies import Mqtt, Wamp, difference, json_bytes, plain, to_mqtt
from .peers import Failure, expect
from .process import Refused
from .world import scenario


def one_value(kind, value):
    """A body with one value, as this kind sends it and gets it from others."""
    return Wamp([value]) if kind.is_wamp else to_mqtt(Wamp([value]))


def expect_body(expected, event, unaltered=False):
    """Fails unless the event carries `expected`."""
    wrong = difference(expected, event.body, unaltered)
    expect(wrong is None, f"on {event.topic}: {wrong}")


@scenario("connect, subscribe, publish, unsubscribe", "issue 2: each client, every serializer or version", lambda kind: True)
async def publish_and_subscribe(world, kind):
    topic = f"basic/{kind.name}"
    async with world.peers(kind, kind) as (subscriber, publisher):
        await subscriber.subscribe(topic)
        await publisher.publish(topic, one_value(kind, "€ 1"))
        expect_body(one_value(kind, "€ 1"), await subscriber.event(topic))
        await subscriber.unsubscribe(topic)
        await publisher.publish(topic, one_value(kind, "nobody hears this"))
        if kind.driver == "mosquitto":
            return  # its subscription was the whole client
        # A second topic is the fence: what comes on it came later.
        await subscriber.subscribe(topic + "/fence")
        await publisher.publish(topic + "/fence", one_value(kind, 2))
        await subscriber.event(topic + "/fence")
        expect(not subscriber.events(), f"after unsubscribing came {subscriber.events()}")


@scenario("QoS 0, 1 and 2, published and granted", "MQTT.md: QoS 0, 1, 2 in both directions", lambda kind: not kind.is_wamp)
async def every_qos(world, kind):
    async with world.peers(kind, kind) as (subscriber, publisher):
        for granted in (0, 1, 2):
            topic = f"qos/{kind.name}/{granted}"
            answer = await subscriber.subscribe(topic + "/+", qos=granted)
            expect(answer == [granted], f"asked for QoS {granted}, granted {answer}")
            for qos in (0, 1, 2):
                await publisher.publish(f"{topic}/{qos}", Mqtt(b"m"), qos=qos)
                event = await subscriber.event(f"{topic}/{qos}")
                expect(event.raw["qos"] == min(qos, granted), f"QoS {qos} on a grant of {granted} came as {event.raw['qos']}")


@scenario("an acknowledged publication has an id, an unacknowledged one arrives too", "WAMP.md: Basic; publication ids",
          lambda kind: kind.is_wamp)
async def acknowledged(world, kind):
    async with world.peers(kind, kind) as (subscriber, publisher):
        topic = f"acknowledged/{kind.name}"
        await subscriber.subscribe(topic)
        done = await publisher.publish(topic, Wamp([1]), acknowledge=True)
        event = await subscriber.event(topic)
        expect(1 <= done["publication"] <= 2**53, f"PUBLISHED carried the id {done['publication']}")
        published = event.raw.get("publication")
        expect(published in (None, done["publication"]), f"PUBLISHED says {done['publication']}, EVENT says {published}")
        await publisher.publish(topic, Wamp([2]), acknowledge=False)
        expect_body(Wamp([2]), await subscriber.event(topic))


MQTT_PATTERNS = [  # filter, topics that match, topics that do not
    ("{}/+/c", ["{}/b/c", "{}//c"], ["{}/c", "{}/b/d/c"]),
    ("{}/#", ["{}", "{}/x", "{}/x/y"], ["{}x"]),
    ("+/{}/+", ["a/{}/b"], ["{}/b"]),
]
WAMP_PATTERNS = [  # pattern, match, topics that match, topics that do not
    ("{}.em", "prefix", ["{}.em", "{}.emergency", "{}.em.x"], ["{}.e"]),
    ("{}..c", "wildcard", ["{}.b.c", "{}.x.c"], ["{}.c", "{}.b.d.c", "{}.b.c.d"]),
]


@scenario("patterns: MQTT + and #, WAMP prefix and wildcard", "MAPPING.md, Topics: filters; WAMP.md: pattern_based_subscription",
          lambda kind: True)
async def patterns(world, kind):
    root = f"pat_{kind.name.replace('-', '_').replace('.', '_')}"
    rows = [(pattern, match, hits, misses) for pattern, match, hits, misses in WAMP_PATTERNS] if kind.is_wamp else [
        (pattern, None, hits, misses) for pattern, hits, misses in MQTT_PATTERNS]
    for number, (pattern, match, hits, misses) in enumerate(rows):
        base = f"{root}_{number}"
        async with world.peers(kind, kind) as (subscriber, publisher):
            if kind.is_wamp:
                await subscriber.request("subscribe", tag="pattern", topic=pattern.format(base), match=match)
            else:
                await subscriber.subscribe(pattern.format(base))
            for topic in misses + hits:  # the hits are the fence for the misses
                topic = topic.format(base)
                await publisher.publish(topic.replace(".", "/"), one_value(kind, topic))
            came = [(await subscriber.event()).body for _ in hits]
            for topic, body in zip(hits, came):
                wrong = difference(one_value(kind, topic.format(base)), body)
                expect(wrong is None, f"{pattern} {match or ''}: {wrong}")
            expect(not subscriber.events(), f"{pattern} {match or ''} came too: {subscriber.events()}")


@scenario("fox-wamp's patterns: * as a level and # at the end of an exact SUBSCRIBE", "MAPPING.md, Topics: filters",
          lambda kind: kind.is_wamp)
async def fox_patterns(world, kind):
    root = f"fox_{kind.name.replace('-', '_')}"
    async with world.peers(kind, kind) as (subscriber, publisher):
        await subscriber.request("subscribe", tag="star", topic=f"{root}.*.c")
        try:
            await subscriber.request("subscribe", tag="hash", topic=f"{root}.d.#")
        except Refused as refused:
            if "URI" not in str(refused) or refused.uri:
                raise
            return await one_star(subscriber, publisher, root)  # the library's own check allows no #
        await one_star(subscriber, publisher, root)
        for topic in (f"{root}/d", f"{root}/d/e/f"):
            await publisher.publish(topic, Wamp([topic]))
            expect_body(Wamp([topic]), await subscriber.event(topic))


async def one_star(subscriber, publisher, root):
    """`*` stands for one level."""
    await publisher.publish(f"{root}/b/x", Wamp(["no"]))
    await publisher.publish(f"{root}/b/c", Wamp(["yes"]))
    expect_body(Wamp(["yes"]), await subscriber.event())


@scenario("retained: kept, given to a new subscriber, cleared by an empty value", "MAPPING.md, Retained state; MQTT.md: retained",
          lambda kind: True, needs=("py-json",))
async def retained(world, kind):
    topic = f"retained/{kind.name}"
    wanted = {"get_retained": True} if kind.is_wamp else {}
    async with world.peer(kind) as publisher:
        setter = publisher
        if not kind.can("publish retained"):
            async with world.peer("py-json") as other:
                await other.publish(topic, Wamp([{"on": True}]), retain=True)
                await retained_seen(world, kind, topic, wanted)
                await other.publish(topic, Wamp(), retain=True)
                return await retained_gone(world, kind, topic, wanted, publisher)
        await setter.publish(topic, one_value(kind, {"on": True}), retain=True)
        await retained_seen(world, kind, topic, wanted)
        await setter.publish(topic, Wamp() if kind.is_wamp else Mqtt(b""), retain=True)
        await retained_gone(world, kind, topic, wanted, publisher)


async def retained_seen(world, kind, topic, wanted):
    """A new subscriber gets the value first, marked as retained, and then live events, not so marked."""
    async with world.peers(kind, kind) as (subscriber, publisher):
        await subscriber.subscribe(topic, **wanted)
        event = await subscriber.event(topic)
        expect_body(one_value(kind, {"on": True}), event)
        expect(event.retained, f"the retained value came without its mark: {event.raw}")
        await publisher.publish(topic, one_value(kind, "live"))
        event = await subscriber.event(topic)
        expect_body(one_value(kind, "live"), event)
        expect(not event.retained, f"a live event came with the mark of a retained one: {event.raw}")


async def retained_gone(world, kind, topic, wanted, publisher):
    """After the value was cleared a new subscriber gets live events alone."""
    async with world.peer(kind) as subscriber:
        await subscriber.subscribe(topic, **wanted)
        await publisher.publish(topic, one_value(kind, "live"))
        expect_body(one_value(kind, "live"), await subscriber.event(topic))


@scenario("retained as published, retain handling 0, 1, 2, no local", "MQTT.md: retained; no local",
          lambda kind: kind.is_v5 and kind.driver != "mosquitto")
async def subscribe_options(world, kind):
    topic = f"options/{kind.name}"
    async with world.peers(kind, kind) as (peer, other):
        await other.publish(topic, Mqtt(b"kept"), retain=True)
        await peer.subscribe(topic, retain_handling=2, retain_as_published=True, no_local=True)
        await peer.publish(topic, Mqtt(b"mine"))
        await other.publish(topic, Mqtt(b"kept 2"), retain=True)
        event = await peer.event(topic)
        expect(event.body.payload == b"kept 2", f"retain handling 2 and no local, but came {event.raw}")
        expect(event.retained, "retain as published, but RETAIN was taken away")
        await peer.subscribe(topic, retain_handling=1)
        await peer.subscribe(topic, retain_handling=0)
        event = await peer.event(topic)
        expect(event.retained and event.body.payload == b"kept 2", f"retain handling 0 gave {event.raw}")
        await other.publish(topic, Mqtt(b""), retain=True)
        event = await peer.event(topic)
        expect(event.body.payload == b"", f"retain handling 1 on an old subscription gave {event.raw}")


@scenario("properties of MQTT 5 pass unaltered and in order", "MQTT.md: request / response, user properties, content type",
          lambda kind: kind.is_v5, needs=("paho-5",))
async def properties(world, kind):
    topic = f"properties/{kind.name}"
    sent = {"content_type": "text/plain", "utf8": True, "response_topic": "answers/here", "correlation": b"c-1",
            "user": [["a", "2"], ["c", "3"], ["a", "4"]], "expiry_s": 100}
    if kind.driver == "node_mqtt":
        sent["user"] = [["a", "2"], ["a", "4"], ["c", "3"]]  # MQTT.js groups equal names
    async with world.peers(kind, "paho-5") as (subscriber, publisher):
        await subscriber.subscribe(topic)
        await publisher.publish(topic, Mqtt(b"x"), properties=sent)
        came = (await subscriber.event(topic)).raw["properties"]
        expect(came.get("expiry_s") in (99, 100), f"message expiry 100 came as {came.get('expiry_s')}")
        for name in ("content_type", "utf8", "response_topic", "correlation", "user"):
            expect(came.get(name) == sent[name], f"{name}: sent {sent[name]}, came {came.get(name)}")


@scenario("request and response over ordinary topics", "MQTT.md: request / response", lambda kind: kind.is_v5, needs=("paho-5",))
async def request_response(world, kind):
    topic = f"ask/{kind.name}"
    async with world.peers("paho-5", kind) as (responder, asker):
        await responder.subscribe(topic)
        if kind.driver == "mosquitto":
            asking = asyncio.ensure_future(asker.request(
                "request", topic=topic, payload=b"?", response_topic=topic + "/r", properties={"correlation": b"77"}))
        else:
            await asker.subscribe(topic + "/r")
            await asker.publish(topic, Mqtt(b"?"), properties={"response_topic": topic + "/r", "correlation": b"77"})
        question = (await responder.event(topic)).raw["properties"]
        await responder.publish(question["response_topic"], Mqtt(b"!"), properties={"correlation": question["correlation"]})
        answer = (await asking) if kind.driver == "mosquitto" else (await asker.event(topic + "/r")).raw
        expect(answer["payload"] == b"!", f"the answer was {answer}")
        expect(answer["properties"].get("correlation") == b"77", f"the answer was {answer}")


@scenario("a shared subscription gives each message to one member", "MQTT.md: shared subscriptions",
          lambda kind: not kind.is_wamp and kind.driver != "mosquitto")
async def shared_subscription(world, kind):
    topic = f"shared/{kind.name}"
    async with world.peers(kind, kind, kind) as (one, two, publisher):
        for member in (one, two):
            await member.subscribe(f"$share/group/{topic}")
            await member.subscribe(f"{topic}/fence")
        for number in range(10):
            await publisher.publish(topic, Mqtt(b"%d" % number))
        await publisher.publish(f"{topic}/fence", Mqtt(b""))
        came = []
        for member in (one, two):
            await member.event(f"{topic}/fence")
            came.append([int(event["payload"]) for event in member.events()])
        expect(sorted(came[0] + came[1]) == list(range(10)), f"ten messages came as {came}")
        expect(came[0] and came[1], f"one member got everything: {came}")


# What is sent -> what WAMP sees, what MQTT sees (MAPPING.md, Payloads). None: exactly what was sent.
JSON = {"content_type": "application/json", "utf8": True}
TEXT = {"content_type": "text/plain", "utf8": True}
WAMP_ROWS = [
    ("one text", Wamp(["héllo €"]), Mqtt("héllo €".encode(), **TEXT)),
    ("a word of commands", Wamp(["ON"]), Mqtt(b"ON", **TEXT)),
    ("text in several lines and colours", Wamp(["a\n\tb \x1b[1mc\x1b[0m"]), Mqtt(b"a\n\tb \x1b[1mc\x1b[0m", **TEXT)),
    ("text like a number", Wamp(["1"]), Mqtt(b'"1"', **JSON)),
    ("text like a truth", Wamp(["true"]), Mqtt(b'"true"', **JSON)),
    ("text like an object", Wamp(['{"a": 1}']), Mqtt(json_bytes('{"a": 1}'), **JSON)),
    ("text in quotes", Wamp(['"x"']), Mqtt(json_bytes('"x"'), **JSON)),
    ("empty text", Wamp([""]), Mqtt(b'""', **JSON)),
    ("one number", Wamp([21.5]), Mqtt(b"21.5", **JSON)),
    # Not below -2^31: wampy's CBOR library makes 1 of -2^53 + 1.
    ("large integers", Wamp([[0, -1, 2**32, 2**53 - 1, -(2**31)]]), Mqtt(json_bytes([0, -1, 2**32, 2**53 - 1, -(2**31)]))),
    ("one object", Wamp([{"t": 21.5, "on": True, "n": None}]), Mqtt(json_bytes({"t": 21.5, "on": True, "n": None}), **JSON)),
    ("one binary", Wamp([b"\x00\xff\x10binary"]), Mqtt(b"\x00\xff\x10binary", "application/octet-stream")),
    ("null", Wamp([None]), Mqtt(b"null", **JSON)),
    ("several args", Wamp([1, "two", None, [3]]), Mqtt(json_bytes([1, "two", None, [3]]), **JSON)),
    # MAPPING.md, Retained state: no args and no kwargs is the empty value, as zero bytes are.
    ("no args", Wamp(), Mqtt(b"")),
    ("kwargs only", Wamp([], {"k": "v", "n": {"a": [1, 2]}}), Mqtt(json_bytes({"k": "v", "n": {"a": [1, 2]}}), **JSON)),
    ("args and kwargs", Wamp([1, "x"], {"k": [True]}), Mqtt(json_bytes({"args": [1, "x"], "kwargs": {"k": [True]}}), **JSON)),
]
MQTT_ROWS = [
    ("json object", Mqtt(b'{"t":21.5, "on":true}'), Wamp([{"t": 21.5, "on": True}])),
    ("json number", Mqtt(b"42"), Wamp([42])),
    ("json text", Mqtt('"é"'.encode()), Wamp(["é"])),
    ("bare text", Mqtt("wörd".encode()), Wamp(["wörd"])),
    ("nearly json", Mqtt(b'{"a":'), Wamp(['{"a":'])),
    ("text with escapes", Mqtt(b"a\x00b\x1b[0m"), Wamp(["a\0b\x1b[0m"])),
    ("text that begins with NUL", Mqtt(b"\x00a!"), Wamp([b"\x00a!"])),
    ("json array", Mqtt(b"[1,2]"), Wamp([[1, 2]])),
    ("args and kwargs", Mqtt(b'{"args":[1,"x"],"kwargs":{"k":null}}'), Wamp([1, "x"], {"k": None})),
    ("nearly args and kwargs", Mqtt(b'{"args":[1],"kwargs":{},"more":0}'), Wamp([{"args": [1], "kwargs": {}, "more": 0}])),
    ("other bytes", Mqtt(b"\x00\x01\xfe\xff"), Wamp([b"\x00\x01\xfe\xff"])),
    ("empty", Mqtt(b""), Wamp()),
]
V5_ROWS = [
    ("msgpack", Mqtt(bytes.fromhex("82a174cb4035800000000000a26f6ec3"), "application/msgpack"), Wamp([{"t": 21.5, "on": True}])),
    ("cbor", Mqtt(bytes.fromhex("a26174fb4035800000000000626f6ef5"), "application/cbor"), Wamp([{"t": 21.5, "on": True}])),
    ("text", Mqtt(b'"x"', "text/plain", True), Wamp(["x"])),
]


def rows_of(kind):
    """The rows that this publisher can send."""
    if kind.is_wamp:
        return WAMP_ROWS
    return MQTT_ROWS + (V5_ROWS if kind.is_v5 else [])


def expected_at(publisher, subscriber, sent, other):
    """What the subscriber should see of a row."""
    if publisher.is_wamp == subscriber.is_wamp:
        expected = sent
    else:
        expected = other
    if isinstance(expected, Mqtt) and not subscriber.is_v5:
        return Mqtt(expected.payload)
    return expected


@scenario("every publisher with every subscriber, every payload", "MAPPING.md, Payloads; DESIGN.md promise 3 (order)", grid=True)
async def event_matrix(world, record):
    async with world.peers(*world.kinds) as subscribers:
        for subscriber in list(subscribers):
            try:
                await subscriber.subscribe_below("matrix")
            except Refused as refused:  # one column fails, not the whole grid
                record(subscriber.kind.name, subscriber.kind.name, f"SUBSCRIBE was refused: {refused}")
                subscribers = [each for each in subscribers if each is not subscriber]
        async with world.peers(*world.kinds) as publishers:
            await asyncio.gather(*(publish_rows(publisher) for publisher in publishers))

        async def check(publisher, subscriber):
            record(publisher.kind.name, subscriber.kind.name, await wrong_rows(publisher.kind, subscriber))

        for publisher in publishers:
            await asyncio.gather(*(check(publisher, subscriber) for subscriber in subscribers))


async def publish_rows(publisher):
    """Each row on its own topic, one after the other."""
    for number, (_, sent, _) in enumerate(rows_of(publisher.kind)):
        await publisher.publish(f"matrix/{slug(publisher.kind)}/{number}", sent)


def slug(kind):
    """The name as one level that both protocols spell the same."""
    return kind.name.replace(".", "_")


async def wrong_rows(publisher, subscriber):
    """What is wrong with what `subscriber` got from `publisher`, or None."""
    wrong = []
    for number, (title, sent, other) in enumerate(rows_of(publisher)):
        topic = f"matrix/{slug(publisher)}/"
        event = await subscriber.event_below(topic)
        if event.topic != f"{topic}{number}":
            return f"out of order: expected row {number} ({title}), came {event.topic}"
        expected = expected_at(publisher, subscriber.kind, sent, other)
        both_mqtt = not publisher.is_wamp and not subscriber.kind.is_wamp
        if text := difference(expected, event.body, unaltered=both_mqtt):
            wrong.append(f"{title}: {text}")
    return "; ".join(wrong) or None


@scenario("publication details of MQTT reach WAMP", "MAPPING.md, Payloads: EVENT.Details.mqtt", lambda kind: kind.driver == "node_wampy",
          needs=("paho-5",))
async def details_mqtt(world, kind):
    topic = f"details/{kind.name}"
    async with world.peers(kind, "paho-5") as (subscriber, publisher):
        await subscriber.subscribe(topic)
        sent = {"content_type": "application/json", "user": [["a", "1"], ["b", "2"]]}
        await publisher.publish(topic, Mqtt(b"1"), qos=1, properties=sent)
        details = (await subscriber.event(topic)).raw.get("mqtt")
        expect(isinstance(details, dict), f"EVENT.Details.mqtt is {details}")
        for name, value in (("qos", 1), ("content_type", "application/json")):
            expect(details.get(name) == value, f"EVENT.Details.mqtt.{name} is {details.get(name)!r}, not {value!r}")
        expect("user_properties" in details and "retain" in details, f"EVENT.Details.mqtt is {plain(details)}")


@scenario("the retained values of every publisher for every late subscriber", "MAPPING.md, Retained state; WAMP.md: event_retention on patterns",
          grid=True)
async def retained_matrix(world, record):
    setters = [kind for kind in world.kinds if kind.can("publish retained")]
    async with world.peers(*setters) as publishers:
        for publisher in publishers:
            await publisher.publish(f"kept/{slug(publisher.kind)}", one_value(publisher.kind, {"by": publisher.kind.name}), retain=True)
    async with world.peers(*world.kinds) as subscribers:
        for subscriber in subscribers:
            await subscriber.subscribe_below("kept", **({"get_retained": True} if subscriber.kind.is_wamp else {}))

        async def check(subscriber):
            for kind in setters:
                error = None
                try:
                    event = await subscriber.event(f"kept/{slug(kind)}")
                    expect_body(one_value(subscriber.kind, {"by": kind.name}), event)
                    expect(event.retained, "it came without the mark of a retained one")
                except Failure as failure:
                    error = str(failure)
                record(kind.name, subscriber.kind.name, error)

        await asyncio.gather(*(check(subscriber) for subscriber in subscribers))


@scenario("200 publications in flight arrive in order", "DESIGN.md promise 3; MQTT.md: order kept 4.6",
          lambda kind: kind.driver != "mosquitto", needs=("py-cbor", "paho-5"))
async def burst(world, kind):
    topic = f"burst/{slug(kind)}"
    async with world.peers(kind, "py-cbor", "paho-5", kind) as (publisher, *subscribers):
        for subscriber in subscribers:
            await subscriber.subscribe(topic)
        await asyncio.gather(*(publisher.publish(topic, one_value(kind, number)) for number in range(200)))
        for subscriber in subscribers:
            for number in range(200):
                expect_body(one_value(subscriber.kind, number), await subscriber.event(topic))


@scenario("a payload of 300,000 bytes", "issue 2: publish and subscribe; LIMITS.md: 16 MiB", lambda kind: True, needs=("py-raw-msgpack", "paho-ws-5"))
async def large(world, kind):
    topic, text = f"large/{slug(kind)}", "0123456789" * 30_000
    async with world.peers(kind, "py-raw-msgpack", "paho-ws-5", kind) as (publisher, *subscribers):
        for subscriber in subscribers:
            await subscriber.subscribe(topic)
        await publisher.publish(topic, one_value(kind, text))
        for subscriber in subscribers:
            event = await subscriber.event(topic)
            expect(difference(one_value(subscriber.kind, text), event.body) is None, f"{subscriber.kind.name} got something else")


@scenario("the publisher is shown where it asks for it", "WAMP.md: publisher_identification",
          lambda kind: kind.driver in ("node_autobahn", "node_wampy"), needs=("py-json",))
async def publisher_shown(world, kind):
    topic = f"shown/{slug(kind)}"
    async with world.peers("py-json", kind) as (subscriber, publisher):
        await subscriber.subscribe(topic)
        for asked, wanted in ((False, None), (True, publisher.session)):
            await publisher.publish(topic, Wamp([1]), **({"disclose_me": True} if asked else {}))
            came = (await subscriber.event(topic)).raw["publisher"]
            expect(came == wanted, f"with disclose_me {asked} EVENT says {came}, not {wanted}")
