"""The end: the router says goodbye to everybody and goes, and is there again with what it kept. This runs behind all that needs it."""
import asyncio
import signal
import time

from .bodies import Mqtt, Wamp
from .events import expect_body
from .peers import expect
from .world import empty_directory, scenario


@scenario("started again in the same directory, the router has what it kept", "issue 10: the default start", needs=("py-json", "paho-5"))
async def started_again(world):
    session = ("paho-5", {"client_id": "away", "clean": False, "session_expiry_s": 600})
    with empty_directory() as directory:
        async with world.another(directory=directory) as first, first.peer("py-json") as app:
            async with first.peers(session) as (device,):
                await device.subscribe("kept/work")
            await app.publish("kept/state", Wamp([{"on": True}]), retain=True)
            before = (await app.publish("kept/work", Wamp([1])))["publication"]
            expect((directory / "corsac-data").is_dir(), f"no corsac-data in {list(directory.iterdir())}")
        async with world.another(directory=directory) as second, second.peers("py-json", session) as (app, device):
            expect(device.session_present, "the session was not kept")
            expect_body(Mqtt(b"1"), await device.event("kept/work"))
            await app.subscribe("kept/state", get_retained=True)
            expect_body(Wamp([{"on": True}]), await app.event("kept/state"))
            after = (await app.publish("kept/work", Wamp([2])))["publication"]
            expect(after > before, f"event {after} came after event {before}")


@scenario("SIGTERM: every client is told, exit code 0 within 5 s", "issue 2: graceful stop", in_memory=True)
async def graceful_stop(world):
    expect(world.router.process is not None, "a router that this run did not start is not stopped either")
    async with world.peers(*(kind for kind in world.kinds if kind.driver != "mosquitto")) as peers:
        began = time.monotonic()
        code = await world.router.stop(signal.SIGTERM)
        took = time.monotonic() - began
        expect(code == 0, f"the exit code was {code}")
        expect(took < 5, f"it took {took:.1f} s")
        ends = await asyncio.gather(*(peer.disconnected() for peer in peers))
        for peer, end in zip(peers, ends):
            if peer.kind.driver == "python_autobahn":
                left = await peer.take("GOODBYE", lambda m: m["event"] == "left")
                expect(left["reason"] == "wamp.close.system_shutdown", f"{peer.name} was told {left['reason']}")
            if peer.kind.driver == "python_paho" and peer.kind.is_v5:
                expect(end["code"] == 0x8B, f"{peer.name} got the reason {end['code']:#x}")
