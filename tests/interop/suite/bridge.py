"""A mosquitto beside the router that bridges to it with its defaults: it says by bit 7 of the protocol level that it is a bridge."""
import contextlib
import os
import shutil
import socket

from .peers import expect
from .program import Program
from .world import empty_directory, scenario

BROKER = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
VERSIONS = ("mqttv31", "mqttv311", "mqttv50")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listener(port, *arguments):
    """A mosquitto_sub at this port, which says when it has subscribed."""
    return Program("stdbuf", "-oL", "mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), "-V", "mqttv311", "-q", "1", "-d", "-F", "got %r %t %p",
                   *arguments)


async def publish(port, topic, text, *arguments):
    command = ("mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), "-q", "1", "-t", topic, "-m", text, *arguments)
    async with Program(*command) as program:
        await program.process.wait()


@scenario("a mosquitto bridges to the router with its defaults: each message once each way, RETAIN kept, its state and will told",
          "MAPPING.md, Topics: $SYS/broker/connection/+/state; MQTT.md: mosquitto as bridge", in_memory=True)
async def bridges(world):
    expect(BROKER, "no mosquitto to bridge with: install the package mosquitto")
    here = int(world.router.mqtt.rsplit(":", 1)[1])
    for version in VERSIONS:
        with empty_directory() as directory:
            there = free_port()
            (directory / "mosquitto.conf").write_text(
                f"listener {there} 127.0.0.1\nallow_anonymous true\nconnection up\nremote_clientid {version}\n"
                f"address 127.0.0.1:{here}\nbridge_protocol_version {version}\ntopic {version}/# both 1\nrestart_timeout 1\n")
            state = f"$SYS/broker/connection/{version}/state"
            async with contextlib.AsyncExitStack() as stack:
                watch = await stack.enter_async_context(listener(here, "-t", state))
                await watch.says("Subscribed")
                broker = await stack.enter_async_context(Program(BROKER, "-c", directory / "mosquitto.conf", "-v"))
                await watch.says(f"got 0 {state} 1")
                ours = await stack.enter_async_context(listener(here, "-t", f"{version}/#"))
                theirs = await stack.enter_async_context(listener(there, "-t", f"{version}/#"))
                await ours.says("Subscribed")
                await theirs.says("Subscribed")
                await publish(there, f"{version}/up", "from mosquitto", "-r")
                await publish(here, f"{version}/down", "from the router", "-r")
                for side in (ours, theirs):
                    await side.says(f"{version}/up from mosquitto")
                    await side.says(f"{version}/down from the router")
                # Whatever went round in circles is there before these.
                await publish(there, f"{version}/end", "up")
                await publish(here, f"{version}/end", "down")
                for side in (ours, theirs):
                    await side.says(f"{version}/end up")
                    await side.says(f"{version}/end down")
                    got = sorted(line for line in side.lines if line.startswith("got"))
                    expect(len(got) == len(set(got)) == 4, f"{version}: {got}")
                # What was retained on one side is retained on the other.
                for port, topic, text in ((here, "up", "from mosquitto"), (there, "down", "from the router")):
                    late = await stack.enter_async_context(listener(port, "-t", f"{version}/{topic}"))
                    await late.says(f"got 1 {version}/{topic} {text}")
                await broker.kill()
                await watch.says(f"got 0 {state} 0")
