# pip install autobahn
from autobahn.asyncio.component import Component, run

component = Component(transports="ws://127.0.0.1:8080/ws", realm="realm1")


@component.on_join
async def joined(session, details):
    await session.subscribe(lambda text: print("heard", text), "demo.hello")
    await session.register(lambda name: f"Hello, {name}!", "demo.greet.autobahn")
    session.publish("demo.hello", "autobahn is here")
    print(await session.call("demo.greet.autobahn", "fox"))


run([component])
