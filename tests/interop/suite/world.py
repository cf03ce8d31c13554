"""What a scenario has at hand: the router, peers of any kind, and where to write down what came out."""
import asyncio
import contextlib
import dataclasses
import time

from .kinds import BY_NAME
from .peers import DEADLINE_S, Failure, MqttPeer, WampPeer, limited
from .process import Line, Refused

SCENARIOS = []


@dataclasses.dataclass
class Scenario:
    """One row of the report."""

    title: str
    clause: str
    run: object
    kinds: object = None  # a choice of kinds: run for each of them
    needs: tuple = ()  # names of kinds that it uses besides
    grid: bool = False  # reports pairs

    def fits(self, kind):
        return self.kinds is None or self.kinds(kind)


@dataclasses.dataclass
class Result:
    """One check that passed (no `error`) or failed."""

    scenario: Scenario
    label: tuple
    error: str | None
    seconds: float = 0.0


def scenario(title, clause, kinds=None, grid=False, needs=()):
    """Registers a scenario: `run(world)`, `run(world, kind)` for each of `kinds`, or `run(world, record)` for a grid."""
    def register(run):
        SCENARIOS.append(Scenario(title, clause, run, kinds, needs, grid))
        return run
    return register


class World:
    """One router and the drivers; `kinds` are those that take part, `device` is the binary of the demo's device, `binary` that of
    the router, and `installed` where the clients are."""

    def __init__(self, router, drivers, kinds, device=None, binary=None, installed=None):
        self.router, self.drivers, self.kinds, self.device = router, drivers, kinds, device
        self.binary, self.installed = binary, installed

    def has(self, *names):
        """Whether all these kinds take part."""
        return all(BY_NAME[name] in self.kinds for name in names)

    @contextlib.asynccontextmanager
    async def peer(self, kind, line=None, **options):
        """A connected client of `kind` (or of that name); over `line` instead of directly."""
        async with self.peers((kind, options), line=line) as (peer,):
            yield peer

    @contextlib.asynccontextmanager
    async def peers(self, *wanted, line=None):
        """Connected clients, closed at the end; each wanted one is a kind, a name, or a pair with options."""
        made = []
        try:
            for each in wanted:
                kind, options = each if isinstance(each, tuple) else (each, {})
                made.append(self.make(kind, line))
                await made[-1].connect(**options)
            yield made
        finally:
            await asyncio.gather(*(peer.close() for peer in made))

    def make(self, kind, line=None):
        """A client that is not connected yet."""
        kind = BY_NAME[kind] if isinstance(kind, str) else kind
        http, mqtt = self.router.http, self.router.mqtt
        if line is not None:
            http = mqtt = line.address
        peer = WampPeer if kind.is_wamp else MqttPeer
        return peer(kind, self.drivers[kind.driver], kind.url(http, mqtt))

    def line(self, kind):
        """A line to the port that this kind uses, to be cut."""
        return Line(self.router.mqtt if kind.transport == "tcp" else self.router.http)


async def attempt(scenario, label, awaitable, limit_s):
    """Runs one check."""
    began = time.monotonic()
    try:
        await limited(awaitable, limit_s)
        error = None
    except (Failure, Refused) as failure:
        error = str(failure)
    except asyncio.TimeoutError:
        error = f"not done after {limit_s:g} s"
    except Exception as failure:  # a mistake of the suite's own must not hide the other results
        at = failure.__traceback__
        while at.tb_next:
            at = at.tb_next
        error = f"{type(failure).__name__}: {failure} ({at.tb_frame.f_code.co_name}:{at.tb_lineno})"
    return Result(scenario, label, error, time.monotonic() - began)


async def run_scenario(world, scenario):
    """All results of one scenario; none if it needs a kind that does not take part."""
    if not world.has(*scenario.needs):
        return []
    if scenario.grid:
        results = []

        def record(row, column, error):
            results.append(Result(scenario, (row, column), error))

        whole = await attempt(scenario, ("all",), scenario.run(world, record), 240)
        for result in results:
            result.seconds = whole.seconds
        return results + ([whole] if whole.error else [])
    if scenario.kinds is None:
        return [await attempt(scenario, (), scenario.run(world), 6 * DEADLINE_S)]
    gate = asyncio.Semaphore(6)

    async def one(kind):
        async with gate:
            return await attempt(scenario, (kind.name,), scenario.run(world, kind), 6 * DEADLINE_S)

    return list(await asyncio.gather(*(one(kind) for kind in world.kinds if scenario.fits(kind))))
