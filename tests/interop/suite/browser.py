"""A page in headless Chromium, and the demo's device, as the scenarios see them."""
import contextlib
import json

from .peers import DEADLINE_S, NUMBERS, Failure, expect, within
from .process import Refused
from .program import Program

OPENING_S = 60  # Chromium may have to start first, on a busy machine


class Page:
    """One page of the router's, in a browser profile of its own; `at` is an address other than the router's own."""

    def __init__(self, world, path, at=None, **options):
        self.driver, self.name = world.drivers["browser"], f"page-{next(NUMBERS)}"
        self.origin = f"http://{at or world.router.http}"
        self.path, self.options = path, options

    async def __aenter__(self):
        try:
            await within(self.driver.request("open", self.name, url=self.origin + self.path, **self.options),
                         f"{self.path} in Chromium", OPENING_S)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *failure):
        await self.close()

    async def close(self):
        """Forgets the page with its profile."""
        with contextlib.suppress(Failure, Refused):
            await within(self.driver.request("close", self.name), "the page to close", 5)

    async def request(self, op, deadline_s=DEADLINE_S + 5, **fields):
        """One operation of the driver, which has deadlines of its own within this one."""
        return await within(self.driver.request(op, self.name, **fields), f"{op} of {self.path} {fields}", deadline_s)

    async def until(self, condition, seconds=DEADLINE_S):
        """Waits until this JavaScript expression is true in the page; its value."""
        answer = await self.request("until", seconds + 5, expression=condition, ms=int(seconds * 1000))
        return answer["value"]

    async def value(self, expression):
        """What this JavaScript expression, or its promise, comes to in the page."""
        return (await self.request("evaluate", expression=expression))["value"]

    async def reads(self, selector, text, seconds=DEADLINE_S):
        """Waits until the first element that fits has exactly this text."""
        await self.until(f"document.querySelector({json.dumps(selector)}).textContent === {json.dumps(text)}", seconds)

    async def lists(self, selector, *texts, seconds=DEADLINE_S):
        """Waits until one line of a list contains all these texts."""
        await self.until(f"[...document.querySelectorAll({json.dumps(selector + ' li')})].some((line) => "
                         f"{json.dumps(texts)}.every((text) => line.textContent.includes(text)))", seconds)

    async def has_line(self, selector, text, seconds=DEADLINE_S):
        """Waits until one line of a list is exactly this text."""
        await self.until(f"[...document.querySelectorAll({json.dumps(selector + ' li')})].some((line) => "
                         f"line.textContent === {json.dumps(text)})", seconds)

    async def receives(self, start, times=1):
        """Waits until so many of the WebSocket messages that the page received begin with `start`."""
        await self.request("receives", start=start, times=times, ms=int(DEADLINE_S * 1000))

    async def click(self, selector):
        """A click of the mouse in the middle of an element, if nothing covers it."""
        await self.request("click", selector=selector)

    async def slide(self, selector, to):
        """Takes a slider by its thumb to a share (0 to 1) of its width."""
        await self.request("slide", selector=selector, to=to)

    async def fill(self, selector, text):
        """Types `text` over what stands in a field."""
        await self.request("fill", selector=selector, text=text)

    async def picture(self):
        """The view as PNG."""
        return (await self.request("picture", 30))["png"]

    async def complaints(self):
        """Errors and warnings of its console, exceptions, failed requests and violations of its policy so far."""
        return (await self.request("reports"))["complaints"]

    async def expect_quiet(self):
        """Fails if the browser complained about the page, or the page asked anybody but its router."""
        reports = await self.request("reports")
        expect(not reports["complaints"], f"the browser complains about {self.path}: {reports['complaints']}")
        expect(reports["requests"], f"the browser asked for nothing, not even for {self.path}")
        own = (self.origin + "/", self.origin.replace("http", "ws", 1) + "/", "data:")
        foreign = [url for url in reports["requests"] if not url.startswith(own)]
        expect(not foreign, f"{self.path} asks elsewhere: {foreign}")


class Device(Program):
    """The demo's device as its own process, connected to the router over MQTT; in no case does it say goodbye to the router."""

    def __init__(self, world):
        expect(world.binary, "no binary to run")
        super().__init__(world.binary, "demo", "--url", f"mqtt://{world.router.mqtt}")

    async def __aenter__(self):
        await super().__aenter__()
        try:
            await self.says("connected to")
        except BaseException:
            await self.kill()
            raise
        return self
