"""Topics: one name on both sides (MAPPING.md, Topics)."""
import contextlib

from .bodies import Mqtt, Wamp
from .events import expect_body, slug
from .peers import expect
from .process import Refused
from .world import scenario

# MQTT spelling, WAMP spelling
TOPICS = [
    ("map/b/c", "map.b.c"),
    ("map/1.5/t", "map.1%2E5.t"),
    ("50%/map", "50%.map"),
    ("v%2E1/map", "v%252E1.map"),
    ("map%2Fb/c", "map/b.c"),
    ("map/a b/ü", "map.a%20b.ü"),
    ("map/100%25/x", "map.100%25.x"),
    ("map/v%252E1", "map.v%25252E1"),
]


@scenario("a topic is the same on both sides", "MAPPING.md, Topics: the table", lambda kind: kind.name in ("py-json", "py-raw-cbor", "js-msgpack"),
          needs=("paho-5", "mqttjs-3.1.1"))
async def bijection(world, kind):
    async with world.peers(kind, "paho-5", "mqttjs-3.1.1") as (app, device, other):
        for slashed, dotted in TOPICS:
            slashed, dotted = f"{slashed}/{slug(kind)}", f"{dotted}.{slug(kind)}"
            await app.request("subscribe", tag=dotted, topic=dotted)
            await device.subscribe(slashed)
            await other.publish(slashed, Mqtt(b'"to app"'))
            event = await app.take(f"an event on {dotted}", lambda m, d=dotted: m["event"] == "event" and m["tag"] == d)
            expect(event["topic"] == dotted and event["args"] == ["to app"], f"{slashed} came as {event['topic']} {event['args']}")
            expect_body(Mqtt(b'"to app"'), await device.event(slashed))
            await app.request("publish", topic=dotted, args=["to device"])
            event = await device.event()
            expect(event.topic == slashed, f"WAMP {dotted} came as MQTT {event.topic}, not {slashed}")
            expect_body(Mqtt(b"to device"), event)


@scenario("topics with empty levels reach WAMP by pattern", "MAPPING.md, Topics: last row of the table", lambda kind: kind.name in ("py-json", "wampy-json"),
          needs=("paho-5",))
async def empty_levels(world, kind):
    async with world.peers(kind, "paho-5") as (app, device):
        await app.request("subscribe", tag="pattern", topic="empties", match="prefix")
        await device.publish("empties//b/", Mqtt(b"1"))
        event = await app.take("an event", lambda m: m["event"] == "event")
        expect(event["topic"] == "empties..b.", f"empties//b/ came as {event['topic']}")


@scenario("$-topics match no filter that begins with a wildcard", "MAPPING.md, Topics: filters; [MQTT-4.7.2-1]",
          lambda kind: not kind.is_wamp and kind.driver != "mosquitto")
async def dollar_topics(world, kind):
    async with world.peers(kind, kind) as (subscriber, publisher):
        await subscriber.subscribe("#")
        await subscriber.subscribe("+/dollar")
        with contextlib.suppress(Refused):  # topics under $ belong to the router, which may say so
            await publisher.publish("$mine/dollar", Mqtt(b"no"))
        await publisher.publish(f"fence/{kind.name}", Mqtt(b"yes"))
        while (event := await subscriber.event()).topic != f"fence/{kind.name}":
            expect(not event.topic.startswith("$"), f"# brought {event.topic}")


@scenario("a WAMP publication reaches MQTT filters and an MQTT one WAMP patterns", "MAPPING.md, Topics: filters",
          lambda kind: kind.is_wamp, needs=("paho-3.1.1",))
async def across(world, kind):
    root = f"across_{kind.name.replace('-', '_')}"
    async with world.peers(kind, "paho-3.1.1") as (app, device):
        await device.subscribe(f"{root}/+/t")
        await app.request("subscribe", tag="prefix", topic=f"{root}.x", match="prefix")
        await app.request("subscribe", tag="wildcard", topic=f"{root}..t", match="wildcard")
        await app.publish(f"{root}/a/t", Wamp([1]))
        expect_body(Mqtt(b"1"), await device.event(f"{root}/a/t"))
        await device.publish(f"{root}/xyz/t", Mqtt(b"2"))
        tags = set()
        for _ in range(2):
            event = await app.take("an event by two patterns", lambda m: m["event"] == "event")
            expect(event["topic"] == f"{root}.xyz.t" and event["args"] == [2], f"came {event}")
            tags.add(event["tag"])
        expect(tags == {"prefix", "wildcard"}, f"came by {tags}")
