"""What a scenario has at hand: the router, peers of any kind, and where to write down what came out."""
import asyncio
import contextlib
import dataclasses
import pathlib
import tempfile
import time

from .kinds import BY_NAME
from .peers import DEADLINE_S, Failure, MqttPeer, WampPeer, expect, limited
from .process import Line, Refused, Router

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
    in_memory: bool = False  # belongs to the short pass with --memory
    limit_s: float = 6 * DEADLINE_S

    def fits(self, kind):
        return self.kinds is None or self.kinds(kind)


@dataclasses.dataclass
class Result:
    """One check that passed (no `error`) or failed."""

    scenario: Scenario
    label: tuple
    error: str | None
    seconds: float = 0.0


def scenario(title, clause, kinds=None, grid=False, needs=(), in_memory=None, limit_s=6 * DEADLINE_S):
    """Registers a scenario: `run(world)`, `run(world, kind)` for each of `kinds`, or `run(world, record)` for a grid. Those that
    run for each kind belong to the pass with --memory too, unless `in_memory` says otherwise."""
    def register(run):
        is_short = kinds is not None and not grid
        in_short = is_short if in_memory is None else in_memory
        SCENARIOS.append(Scenario(title, clause, run, kinds, needs, grid, in_short, limit_s))
        return run
    return register


@contextlib.contextmanager
def empty_directory():
    """A directory that is gone at the end."""
    with tempfile.TemporaryDirectory(prefix="corsac-interop-", ignore_cleanup_errors=True) as name:
        yield pathlib.Path(name)


class World:
    """One router and the drivers; `kinds` are those that take part. Of the command line's options, `binary` is that of the router,
    `client` that of the example in Rust, `installed` where the clients are, and `memory` is the short pass."""

    def __init__(self, router, drivers, kinds, options):
        self.router, self.drivers, self.kinds, self.options = router, drivers, kinds, options
        self.client, self.binary, self.installed = options.client, options.binary, options.installed

    def tried(self, scenario):
        """The kinds that a scenario runs for: in the short pass the last one of each library alone."""
        fitting = [kind for kind in self.kinds if scenario.fits(kind)]
        return list({kind.driver: kind for kind in fitting}.values()) if self.options.memory else fitting

    @contextlib.asynccontextmanager
    async def another(self, *arguments, configuration=None, directory=None):
        """A world like this one with a router of its own, for what the default start does not do: started with `arguments`, and
        with the text `configuration` as its file, in `directory` or an empty one."""
        expect(self.binary, "no binary to run")
        with contextlib.ExitStack() as stack:
            directory = directory or stack.enter_context(empty_directory())
            if configuration is not None:
                (directory / "corsac.toml").write_text(configuration)
                arguments = ("--config", "corsac.toml", *arguments)
            log = stack.enter_context(open(self.installed / "another-router.log", "ab"))
            router = await Router.start(self.binary, log, directory, arguments)
            try:
                yield World(router, self.drivers, self.kinds, self.options)
            finally:
                await router.stop()

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
        return [await attempt(scenario, (), scenario.run(world), scenario.limit_s)]
    gate = asyncio.Semaphore(6)

    async def one(kind):
        async with gate:
            return await attempt(scenario, (kind.name,), scenario.run(world, kind), scenario.limit_s)

    return list(await asyncio.gather(*(one(kind) for kind in world.tried(scenario))))
