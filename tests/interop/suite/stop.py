"""The end: the router says goodbye to everybody and goes. This runs last."""
import asyncio
import signal
import time

from .peers import expect
from .world import scenario


@scenario("SIGTERM: every client is told, exit code 0 within 5 s", "issue 2: graceful stop")
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
