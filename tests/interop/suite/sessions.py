"""Connections that break: sessions that outlive them, wills, reconnecting, and who may hear what of whom."""
import asyncio

from .bodies import Mqtt, Wamp, difference, json_bytes
from .events import expect_body, one_value, slug
from .peers import Failure, expect
from .process import Refused
from .world import scenario


def is_mqtt(kind):
    return not kind.is_wamp


@scenario("the library reconnects by itself after the line was cut", "issue 2: reconnect",
          lambda kind: kind.driver != "mosquitto")
async def reconnects(world, kind):
    topic = f"again/{slug(kind)}"
    async with world.line(kind) as line, world.peer(kind) as publisher:
        session = {"clean": False, "session_expiry_s": 60} if not kind.is_wamp else {}
        async with world.peer(kind, line=line, reconnect=True, **session) as peer:
            await peer.subscribe(topic)
            for number in (1, 2):
                line.cut()
                await peer.joined()
                if kind.is_wamp and kind.driver != "node_wampy":  # wampy renews its subscriptions
                    await peer.subscribe(topic)
                await arrives(publisher, peer, topic, one_value(kind, number))


async def arrives(publisher, peer, topic, body):
    """What is published reaches the peer; again and again for 10 s, as wampy does not tell when its subscriptions are back."""
    for _ in range(500):
        await publisher.publish(topic, body)
        if peer.kind.driver != "node_wampy" or peer.events():
            break
        await asyncio.sleep(0.02)
    event = await peer.event(topic)
    # Its PUBACK was lost with the line; or it is one of several copies, published before wampy's subscription was back.
    while (peer.kind.driver == "node_wampy" or not peer.kind.is_wamp and event.raw["dup"]) and difference(body, event.body):
        event = await peer.event(topic)
    expect_body(body, event)
    peer.inbox[:] = [message for message in peer.inbox if message["event"] != "event"]


@scenario("a persistent session: what was published while away arrives, in order", "MQTT.md: session present, session expiry; DESIGN.md promise 4",
          is_mqtt)
async def persistent_session(world, kind):
    topic = f"away/{slug(kind)}"
    session = {"clean": False, "session_expiry_s": 60, "client_id": f"away-{kind.name}"}
    async with world.peer(kind) as publisher:
        first = world.make(kind)
        await first.connect(**session)
        await first.subscribe(topic, qos=1)
        await first.close()
        for number in range(5):
            await publisher.publish(topic, Mqtt(b"%d" % number), qos=1)
        second = world.make(kind)
        await second.connect(**session)
        if kind.driver == "mosquitto":  # its session is that of mosquitto_sub
            await second.subscribe(topic, qos=1)
        else:
            expect(second.session_present or kind.form == "3.1", "session present was not set")  # 3.1 has no such flag
        for number in range(5):
            event = await second.event(topic)
            expect(event.body.payload == b"%d" % number, f"message {number} came as {event.body.payload!r}")
        await second.close()
        third = world.make(kind)
        await third.connect(**{**session, "clean": True, "session_expiry_s": 0})
        expect(not third.session_present, "clean start found a session present")
        await third.close()


@scenario("a will is published when the connection breaks, and not after a goodbye", "MQTT.md: will; MAPPING.md: a will is a publication",
          is_mqtt, needs=("py-json", "paho-3.1.1", "paho-5", "wampy-msgpack"))
async def will(world, kind):
    topic = f"will/{slug(kind)}"
    observers = ("py-json", "paho-3.1.1", "paho-5", "wampy-msgpack")
    async with world.peers(*observers) as watching:
        for observer in watching:
            await observer.subscribe(topic)
        message = {"topic": topic, "payload": json_bytes({"gone": True}), "qos": 1}
        if kind.is_v5:
            message["properties"] = {"content_type": "application/json"}
        async with world.line(kind) as line:
            polite = world.make(kind, line)
            if kind.name != "mosquitto-5":  # it asks for its will when it is told to end (DISCONNECT 0x04)
                await polite.connect(will={**message, "payload": json_bytes("never")})
                await polite.subscribe(topic + "/nothing")
                await polite.close()
            lost = world.make(kind, line)
            await lost.connect(will=message)
            await lost.subscribe(topic + "/nothing")
            if kind.driver == "mosquitto":
                await lost.request("drop")
            else:
                line.cut()
            for observer in watching:
                expect_body(one_value(observer.kind, {"gone": True}), await observer.event(topic))
            await lost.close()


@scenario("a retained will stays as the topic's value", "MAPPING.md, Retained state; MQTT.md: will with retain", is_mqtt,
          needs=("py-cbor", "js-json", "wampy-json", "mqttjs-3.1", "paho-ws-5"))
async def retained_will(world, kind):
    topic = f"status/{slug(kind)}"
    async with world.line(kind) as line, world.peer(kind) as watching:
        await watching.subscribe(topic)
        lost = world.make(kind, line)
        await lost.connect(will={"topic": topic, "payload": b"offline", "qos": 1, "retain": True})
        await lost.subscribe(topic + "/nothing")
        if kind.driver == "mosquitto":
            await lost.request("drop")
        else:
            line.cut()
        await watching.event(topic)  # now it has happened
        for each in ("py-cbor", "js-json", "wampy-json", "mqttjs-3.1", "paho-ws-5"):
            async with world.peer(each) as late:
                await late.subscribe(topic, **({"get_retained": True} if late.kind.is_wamp else {}))
                event = await late.event(topic)
                expect_body(one_value(late.kind, "offline"), event)
                expect(event.retained, f"{each} got it without the mark of a retained one")
        await lost.close()


@scenario("a second connection with the client id takes over", "MQTT.md: takeover by the same client id",
          lambda kind: is_mqtt(kind) and kind.driver != "mosquitto")
async def takeover(world, kind):
    options = {"client_id": f"twin-{kind.name}"}
    async with world.peers((kind, options)) as (first,):
        async with world.peers((kind, options)):
            await first.disconnected()


@scenario("`user@realm` chooses the realm of an MQTT client where the configuration names it", "MAPPING.md, Realms",
          lambda kind: is_mqtt(kind) and kind.driver != "mosquitto", needs=("py-json",))
async def realm_of_user(world, kind):
    topic = f"realm/{slug(kind)}"
    async with world.another(configuration='[[realms]]\nname = "realm1"\n[[realms]]\nname = "factory"\n') as world:
        async with world.peers((kind, {"username": "joe@factory"}), (kind, {"username": "joe@example.com"})) as (inside, outside):
            await inside.subscribe(topic)
            await outside.publish(topic, Mqtt(b'"realm1"'))
            async with world.peers((kind, {"username": "ann@factory"})) as (colleague,):
                await colleague.publish(topic, Mqtt(b'"factory"'))
            event = await inside.event(topic)
            expect(event.body.payload == b'"factory"', f"from the other realm came {event.body.payload!r}")
        async with world.peers((kind, {"username": "joe@factory"}), ("py-json", {"realm": "factory"})) as (device, app):
            await app.subscribe(topic)
            await device.publish(topic, Mqtt(b"7"))
            expect_body(Wamp([7]), await app.event(topic))


@scenario("user names that are mail addresses meet in one realm", "MAPPING.md, Realms",
          lambda kind: is_mqtt(kind) and kind.driver != "mosquitto")
async def mail_addresses(world, kind):
    topic = f"mail/{slug(kind)}"
    names = ({"username": "ann@example.com"}, {"username": "bob@example.org"}, {"username": "carol"})
    async with world.peers(*((kind, name) for name in names)) as (ann, bob, carol):
        await ann.subscribe(topic)
        await bob.subscribe(topic)
        await carol.publish(topic, Mqtt(b"on"))
        for peer in (ann, bob):
            event = await peer.event(topic)
            expect(event.body.payload == b"on", f"came {event.body.payload!r}")


@scenario("the publisher does not hear itself, unless it asks to", "WAMP.md: publisher_exclusion", lambda kind: kind.is_wamp)
async def publisher_exclusion(world, kind):
    topic = f"self/{slug(kind)}"
    async with world.peer(kind) as peer:
        await peer.subscribe(topic)
        await peer.publish(topic, Wamp(["excluded"]))
        if kind.can("exclude_me false"):
            await peer.publish(topic, Wamp(["included"]), exclude_me=False)
        else:
            async with world.peer(kind) as other:
                await other.publish(topic, Wamp(["included"]))
        expect_body(Wamp(["included"]), await peer.event(topic))


@scenario("exclude and eligible by session", "WAMP.md: subscriber_blackwhite_listing", lambda kind: kind.is_wamp)
async def black_and_white(world, kind):
    topic = f"listed/{slug(kind)}"
    async with world.peers(kind, kind, kind) as (one, two, publisher):
        for subscriber in (one, two):
            await subscriber.subscribe(topic)
        await publisher.publish(topic, Wamp(["not one"]), exclude=[one.session])
        await publisher.publish(topic, Wamp(["only one"]), eligible=[one.session])
        await publisher.publish(topic, Wamp(["all"]))
        for subscriber, wanted in ((one, ["only one", "all"]), (two, ["not one", "all"])):
            for text in wanted:
                expect_body(Wamp([text]), await subscriber.event(topic))


@scenario("an invalid URI is answered, never met with silence", "WAMP.md, Basic: wamp.error.invalid_uri",
          lambda kind: kind.driver == "node_autobahn")
async def invalid_uri(world, kind):
    async with world.peer(kind) as peer:
        for op, fields in (("subscribe", {"topic": "a b"}), ("register", {"procedure": "a..b#"})):
            try:
                await peer.request(op, tag="bad", **fields)
            except Refused as refused:
                expect(refused.uri == "wamp.error.invalid_uri", f"{op} of {fields} was refused with {refused.uri}: {refused}")
            else:
                raise Failure(f"{op} of {fields} was accepted")
