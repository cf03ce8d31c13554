"""The demo page and the status page in headless Chromium, with the demo's device and with every other client."""
import asyncio
import contextlib
import json

from .bodies import Wamp
from .browser import Device, Page
from .events import one_value
from .peers import Failure, decoded, expect
from .process import Line, Refused
from .world import scenario

CLAUSE = "issue 2: demo/"
# They hear what the page and the device do: every version of MQTT, both transports, and WAMP.
OBSERVERS = ("mosquitto-5", "mosquitto-3.1.1", "mqttjs-3.1", "paho-ws-5", "py-msgpack")
LAMP, ONLINE, READINGS, CHAT, GREET = (
    "demo/lamp/state", "demo/device/online", "demo/den/temperature", "demo/chat", "demo/page/greet")
SAY = "#say button"
REGISTERED = "[65,"  # the last answer that it waits for after it has joined
POINTS = '(document.getElementById("curve").getAttribute("d") ?? "").split(/[ML]/).length - 1'
IS_LIT = 'document.getElementById("power").getAttribute("aria-pressed") === "true"'
MARKUP = "<img src=/nowhere onerror=alert(1)> & ü"


@contextlib.asynccontextmanager
async def demo_page(world, **options):
    """The demo page, joined; at the end the browser must have nothing to complain about."""
    async with Page(world, "/demo", **options) as page:
        await page.reads("#session", "joined realm1")
        await page.receives(REGISTERED)
        yield page
        await page.expect_quiet()


@contextlib.asynccontextmanager
async def page_and_device(world):
    """The demo page beside a device that has just started: the lamp is on, at 60 %."""
    async with Device(world) as device, demo_page(world) as page:
        await page.until('document.getElementById("hint").hidden')
        await page.reads("#lamp-text", "on, at 60 %")
        yield page, device


@contextlib.asynccontextmanager
async def listeners(world, *topics):
    """The observers, subscribed to these topics."""
    async with world.peers(*OBSERVERS) as peers:
        for peer in peers:
            for topic in topics:
                await peer.subscribe(topic, **({"get_retained": True} if peer.kind.is_wamp else {}))
        yield peers


def value_of(event):
    """The one value that an event carries."""
    values = decoded(event.body).args
    expect(len(values) == 1, f"{event.topic} carries {event.body}, not one value")
    return values[0]


async def hears(peer, topic, value):
    """Waits until this value arrives, whatever arrives before it; the event."""
    while True:
        event = await peer.event(topic)
        if value_of(event) == value:
            return event


async def keeps(world, topic, value):
    """Fails unless `value` is what somebody who comes now is given as the topic's retained value."""
    async with listeners(world, topic) as late:
        for peer in late:
            event = await peer.event(topic)
            expect(event.retained and value_of(event) == value,
                   f"{peer.name} was given {value_of(event)} (retained: {event.retained}), not {value}")


@scenario("the demo page joins; without a device it says how to start one", CLAUSE, needs=OBSERVERS)
async def without_device(world):
    async with demo_page(world) as page:
        await page.until('!document.getElementById("hint").hidden && document.getElementById("hint").innerText.includes("corsac demo")')
        expect(await page.value('document.getElementById("power").disabled'), "the lamp can be switched without a device")
        async with Device(world):
            await page.until('document.getElementById("hint").hidden && !document.getElementById("power").disabled')


@scenario("the page shows the device's readings live, as MQTT clients hear them", CLAUSE, needs=OBSERVERS)
async def readings(world):
    async with page_and_device(world) as (page, _), listeners(world, READINGS) as peers:
        began = await page.until(POINTS)
        for _ in range(3):
            reading = value_of(await peers[0].event(READINGS))["celsius"]
            await page.reads("#temperature", f"{reading:.1f}")
            for peer in peers[1:]:
                await hears(peer, READINGS, {"celsius": reading})
        await page.until(f"({POINTS}) >= {began + 3}")


@scenario("the page is given the lamp's retained state, and hears it live", CLAUSE, needs=OBSERVERS)
async def retained_state(world):
    async with Device(world), listeners(world, ONLINE) as peers:
        await hears(peers[0], ONLINE, True)
        async with listeners(world, LAMP) as there:
            for peer in there:
                await hears(peer, LAMP, {"on": True, "brightness": 60})
        async with demo_page(world) as page:  # it comes after the state was published
            await page.reads("#lamp-text", "on, at 60 %")
            await page.lists("#log", "retained", "demo.lamp.state", '"on":true')
            await page.lists("#log", "retained", "demo.device.online", "true")
            expect(await page.value(IS_LIT), "the lamp is not shown as on")


@scenario("a click on the page's lamp calls the device: the retained state changes for everybody", CLAUSE, needs=OBSERVERS)
async def lamp_clicked(world):
    async with page_and_device(world) as (page, device), listeners(world, LAMP) as peers:
        for is_on, text in ((False, "off"), (True, "on, at 60 %")):
            await page.click("#power")
            await page.reads("#lamp-text", text)
            expect(await page.value(IS_LIT) == is_on, f"the lamp's button does not show that it is {text}")
            state = {"on": is_on, "brightness": 60}
            for peer in peers:
                await hears(peer, LAMP, state)
            await keeps(world, LAMP, state)
            for kind in ("call", "result", "event"):
                await page.lists("#log", kind, "demo.lamp.", f'"on":{json.dumps(is_on)}')
        await device.says('demo.lamp.set({"on":false})')
        await page.reads("#lamp-error", "")


@scenario("the page's slider sets the brightness: the retained state changes for everybody", CLAUSE, needs=OBSERVERS)
async def lamp_dimmed(world):
    async with page_and_device(world) as (page, device), listeners(world, LAMP) as peers:
        for share, least, most in ((0.9, 80, 95), (0.2, 15, 40)):
            await page.slide("#brightness", share)
            brightness = int(await page.value('document.getElementById("brightness").value'))
            expect(least <= brightness <= most, f"the slider at {share:.0%} stands at {brightness}")
            await page.reads("#lamp-text", f"on, at {brightness} %")
            await page.reads("#brightness-text", f"{brightness} %")
            for peer in peers:
                await hears(peer, LAMP, {"on": True, "brightness": brightness})
            await keeps(world, LAMP, {"on": True, "brightness": brightness})
        await device.says(f'"brightness":{brightness}')


async def attempted(record, row, column, check):
    """Records how one pair went."""
    try:
        await check
        record(row, column, None)
    except (Failure, Refused) as failure:
        record(row, column, str(failure))


@scenario("one topic both ways: the page with every client", CLAUSE, grid=True)
async def talk(world, record):
    async with demo_page(world) as page, world.peers(*world.kinds) as peers:
        await asyncio.gather(*(peer.subscribe(CHAT) for peer in peers))
        await page.fill("#text", MARKUP)
        await page.click(SAY)
        await page.lists("#log", "publish", "demo.chat", "/nowhere")
        said = {"from": "page", "text": MARKUP}
        await asyncio.gather(*(attempted(record, "page", peer.kind.name, hears(peer, CHAT, said)) for peer in peers))

        async def answer(peer):
            await peer.publish(CHAT, one_value(peer.kind, {"from": peer.kind.name, "text": MARKUP}))
            await page.has_line("#chat", f"{peer.kind.name}: {MARKUP}")

        await asyncio.gather(*(attempted(record, peer.kind.name, "page", answer(peer)) for peer in peers))
        expect(await page.value('document.querySelectorAll("main img").length') == 0, "the page took text for markup")


@scenario("the page and the device talk", CLAUSE, needs=OBSERVERS)
async def device_answers(world):
    async with page_and_device(world) as (page, device), listeners(world, CHAT) as peers:
        await page.click(SAY)  # what it proposes to say
        await page.lists("#chat", "How warm is it?")
        await page.lists("#chat", "device: It is ", " °C in here, and the lamp is on at 60 %.")
        await device.says("How warm is it?")
        for peer in peers:
            await hears(peer, CHAT, {"from": "page", "text": "How warm is it?"})
            answer = value_of(await peer.event(CHAT))
            expect(answer["from"] == "device", f"{peer.name} heard {answer}, not the device's answer")


@scenario("the device's call of the page's procedure is answered", CLAUSE)
async def page_called_by_device(world):
    async with page_and_device(world) as (page, device):
        await page.fill("#greeting", "Guten Abend")
        # It calls with every tenth reading.
        await page.lists("#calls", "den called, and was told: Guten Abend, den!", seconds=20)
        await device.says("demo.page.greet: Guten Abend, den!")


@scenario("every caller calls the procedure of the page", CLAUSE, grid=True)
async def page_called(world, record):
    async with demo_page(world) as page, world.peers(*world.kinds) as peers:
        async def call(peer):
            outcome = await (await peer.call(GREET, Wamp([peer.kind.name]))).outcome()
            answer = decoded(outcome.body).args
            expect(outcome.kind == "result" and answer == [f"Good evening, {peer.kind.name}!"], f"came {outcome}")
            await page.lists("#calls", f"called, and was told: Good evening, {peer.kind.name}!")

        await asyncio.gather(*(attempted(record, peer.kind.name, "page", call(peer)) for peer in peers))


@scenario("the device is killed: the page and MQTT clients are told by its will, and when it is back", "issue 2: demo/, wills", needs=OBSERVERS)
async def device_killed(world):
    async with demo_page(world) as page, listeners(world, ONLINE) as peers:
        async with Device(world) as device:
            for peer in peers:
                await hears(peer, ONLINE, True)
            await page.until('!document.getElementById("power").disabled')
            await device.kill()
            await page.until('!document.getElementById("hint").hidden && document.getElementById("power").disabled '
                             '&& document.getElementById("brightness").disabled')
            await page.lists("#log", "event", "demo.device.online", "false")
            for peer in peers:
                await hears(peer, ONLINE, False)
            await keeps(world, ONLINE, False)
        async with Device(world):
            await page.until('document.getElementById("hint").hidden && !document.getElementById("power").disabled')
            await page.click("#power")
            await page.reads("#lamp-text", "off")


@scenario("the page joins again after its line was cut", "issue 2: demo/, reconnect", needs=OBSERVERS)
async def page_cut_off(world):
    async with Line(world.router.http) as line, Device(world), Page(world, "/demo", at=line.address) as page:
        for times in (1, 2):
            await page.reads("#session", "joined realm1")
            await page.receives(REGISTERED, times)
            points = await page.until(POINTS)
            await page.until(f"({POINTS}) > {points}")
            async with world.peer("mosquitto-5") as peer:
                await peer.publish(CHAT, one_value(peer.kind, {"from": "mosquitto", "text": f"time {times}"}))
            await page.has_line("#chat", f"mosquitto: time {times}")
            if times == 1:
                line.cut()
                await page.until('document.getElementById("session").textContent.startsWith("not joined") '
                                 '&& document.getElementById("hint").innerText.includes("The router does not answer")')
                expect(await page.value('document.getElementById("power").disabled'), "the lamp can be switched without a router")


@scenario("the status page shows the router's numbers live", "issue 2: a small status page at /", needs=OBSERVERS)
async def status_page(world):
    number = "(id) => Number(document.getElementById(id).textContent.replaceAll(',', ''))"
    async with Page(world, "/") as page:
        await page.reads("#state", "running")
        reported = await page.value('fetch("/status.json").then((answer) => answer.json())')
        await page.reads("#version", reported["version"])
        rows = await page.value('[...document.querySelectorAll("#listeners tr")].map((row) => row.firstElementChild.textContent)')
        expect(set(rows) == {world.router.http, world.router.mqtt}, f"it lists the listeners {rows}")
        uptime = await page.value('document.getElementById("uptime").textContent')
        connections, came, went = [await page.value(f"({number})({json.dumps(id)})")
                                   for id in ("connections", "messages_in", "messages_out")]
        async with world.peers(*OBSERVERS) as peers:
            await asyncio.gather(*(peer.subscribe("status/shown") for peer in peers))
            for at in range(len(peers)):  # equal subscriptions count once
                await peers[-1].subscribe(f"status/shown/{at}")
            await page.until(f"({number})('connections') >= {connections + len(peers)}")
            for count in range(3):
                await peers[-1].publish("status/shown", one_value(peers[-1].kind, count), acknowledge=True, exclude_me=False)
            for peer in peers:
                await hears(peer, "status/shown", 2)
            await page.until(f"({number})('messages_in') >= {came + 3}")
            await page.until(f"({number})('messages_out') >= {went + 3 * len(peers)}")
            row = '[...document.querySelectorAll("#realms tr")].find((row) => row.firstElementChild.textContent === "realm1")'
            await page.until(f"Number({row}.children[1].textContent) >= {len(peers)} && Number({row}.children[2].textContent) >= {len(peers)}")
        await page.until(f"({number})('connections') < {connections + len(peers)}")
        await page.until(f'document.getElementById("uptime").textContent !== {json.dumps(uptime)}')
        await page.expect_quiet()


# What the browser must not let pass or must report; the check below is worth nothing if it stays silent on these.
PROVOCATIONS = {
    "console.error: provoked": 'console.error("provoked")',
    "exception": 'setTimeout(() => { throw new Error("provoked") })',
    "script-src": 'document.body.append(Object.assign(document.createElement("script"), { textContent: "window.ran = true" }))',
    "style-src": 'document.body.append(Object.assign(document.createElement("style"), { textContent: "body { color: red }" }))',
    "connect-src": 'fetch("http://127.0.0.1:9/").catch(() => true)',
    "404": 'fetch("/not-there").then((answer) => answer.status)',
}


@scenario("neither page has errors in the console, violates its policy or asks elsewhere", "issue 2: demo/; LIMITS.md: web pages")
async def quiet(world):
    async with Device(world):
        for path, shown in (("/demo", "#temperature"), ("/", "#connections")):
            for scheme in ("light", "dark"):
                async with Page(world, path, scheme=scheme) as page:
                    await page.until(f"!isNaN(parseFloat(document.querySelector('{shown}').textContent))")
                    await page.expect_quiet()
                    for sign, provocation in PROVOCATIONS.items():
                        await page.value(f"void ({provocation})")
                        await reported(page, sign)
                    expect(not await page.value("window.ran"), "a script that stands in the page was run")


async def reported(page, sign):
    """Waits until the browser has complained so."""
    for _ in range(100):
        complaints = await page.complaints()
        if any(sign in complaint for complaint in complaints):
            return
        await asyncio.sleep(0.05)
    raise Failure(f"the browser should complain about {sign}, it says {complaints}")


async def take_picture(world, file, readings=45):
    """Writes the demo page to `file` after so many readings, with a conversation and the lamp on."""
    async with Device(world) as device, demo_page(world) as page, world.peer("mosquitto-5") as guest:
        await page.until('document.getElementById("hint").hidden')
        await page.until(f"({POINTS}) >= {readings // 3}", seconds=readings)
        await page.click("#power")
        await page.reads("#lamp-text", "off")
        await page.click(SAY)
        await page.lists("#chat", "device: ")
        await page.until(f"({POINTS}) >= {readings // 3 + 4}", seconds=readings)
        await guest.publish(CHAT, one_value(guest.kind, {"from": "mosquitto_pub", "text": "Good night!"}))
        await page.until('document.querySelectorAll("#chat li").length === 4')
        await page.until(f"({POINTS}) >= {readings // 2}", seconds=readings)
        await page.slide("#brightness", 0.9)
        await page.until(f"({POINTS}) >= {readings}", seconds=readings)
        await page.value("document.activeElement.blur()")
        await page.value("scrollTo(0, 0)")
        file.write_bytes(await page.picture())
