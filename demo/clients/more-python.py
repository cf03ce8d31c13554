# pip install autobahn
from autobahn.asyncio.component import Component, run
from autobahn.wamp.types import PublishOptions

component = Component(transports="ws://127.0.0.1:8080/ws", realm="realm1")


@component.on_join
async def joined(session, details):
    # An acknowledged message is on disk. The history gives back what came behind an id; 0 is before the first.
    done = await session.publish("demo.more", "kept", options=PublishOptions(acknowledge=True))
    page = await session.call("corsac.history.read", "demo.more", after=done.id - 1, limit=100)
    print("history", [event["args"] for event in page["events"]])

    # A lock is held by one session at a time. Its token is larger than that of every holder before.
    lock = await session.call("corsac.lock.acquire", "demo.printer", wait_ms=10000)
    print("lock", lock["token"] > done.id)
    await session.call("corsac.lock.release", "demo.printer", lock["token"])

    # A queue gives each item to one taker, and again to another if it is not acknowledged in time.
    await session.call("corsac.queue.put", "demo.jobs", {"page": 1})
    [item] = await session.call("corsac.queue.take", "demo.jobs", wait_ms=10000)
    print("queue", item["args"])
    await session.call("corsac.queue.ack", item["token"])


run([component])
