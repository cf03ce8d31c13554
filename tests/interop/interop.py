"""Runs foreign clients against the router: `tests/interop/run` prepares the ground and calls this.

The router is started as a newcomer starts it: in an empty directory, without a flag but for ports that the system chooses.

Options: --only TEXT (in a scenario's title), --kinds NAME,… (parts of names), --skip-kinds NAME,…, --list,
--memory (a short pass: a router that writes nothing, one kind of each library, neither grids nor pages),
--grids (print them even where all passed), --external HTTP,MQTT (addresses of a router that runs already), --client BINARY
(of demo/clients/rumqttc.rs), --picture FILE (takes the README's picture of the demo page, and tests nothing).
"""
import argparse
import asyncio
import os
import pathlib
import signal
import sys
import time

sys.dont_write_bytecode = True  # the source tree stays as it is

from suite import report  # noqa: E402
from suite.kinds import KINDS, drivers  # noqa: E402
from suite.process import Driver, Router  # noqa: E402
from suite.world import SCENARIOS, World, empty_directory, run_scenario  # noqa: E402
from suite import calls, events, mapping, sessions, bridge, clients, numbering, readme, page, supervisor, stop, typed  # noqa: E402,F401  (they register their scenarios)

# A run takes two minutes on an idle machine, most of it in the browser and for what the README has one type, which begins with a
# build. That one comes last: this limit is for what comes before it.
LIMIT_S = float(os.environ.get("INTEROP_LIMIT_S", "900"))
PICTURE_LIMIT_S = 60


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default=os.environ.get("CORSAC_BIN"))
    parser.add_argument("--installed", type=pathlib.Path, required=True)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--kinds", default="")
    parser.add_argument("--skip-kinds", default="")
    parser.add_argument("--external")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--grids", action="store_true")
    parser.add_argument("--client", default=os.environ.get("CORSAC_CLIENT"))
    parser.add_argument("--picture", type=pathlib.Path)
    parser.add_argument("--list", action="store_true")
    return parser.parse_args()


def chosen_kinds(options):
    """The kinds that take part."""
    parts = [part for part in options.kinds.split(",") if part]
    without = [part for part in options.skip_kinds.split(",") if part]
    return [kind for kind in KINDS if (not parts or any(part in kind.name for part in parts))
            and not any(part in kind.name for part in without)]


def chosen_scenarios(options):
    """The scenarios to run, in their order."""
    chosen = [each for each in SCENARIOS if not options.only or any(text in each.title for text in options.only)]
    return [each for each in chosen if not options.memory or each.in_memory]


async def start_router(options, directory):
    """The router under test."""
    if options.external:
        http, mqtt = options.external.split(",")
        return Router(http, mqtt)
    log = open(options.installed / "router.log", "wb")
    return await Router.start(options.binary, log, directory, ("--memory",) if options.memory else ())


async def main(options, directory):
    """Runs everything against a router that is started in `directory`; the exit code."""
    kinds = chosen_kinds(options)
    options.installed.mkdir(parents=True, exist_ok=True)
    router = await start_router(options, directory)
    commands = drivers(options.installed)
    names = {kind.driver for kind in kinds} | {"browser"}
    started = {name: await Driver.start(name, *commands[name]) for name in names}
    world = World(router, started, kinds, options)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    try:
        if options.picture:
            await asyncio.wait_for(page.take_picture(world, options.picture), PICTURE_LIMIT_S)
            return 0
        passed, failed = await run_all(options, world)
    finally:
        await asyncio.gather(*(driver.stop() for driver in started.values()))
        await router.stop()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


async def run_all(options, world):
    """Runs the chosen scenarios one after the other; how many checks passed and how many failed."""
    passed = failed = 0
    began = time.monotonic()
    for scenario in chosen_scenarios(options):
        if time.monotonic() - began > LIMIT_S:
            print(f"not done after {LIMIT_S:g} s: {scenario.title} and what follows was not tried")
            return passed, failed + 1
        results = await run_scenario(world, scenario)
        report.show(scenario, results, options.grids, [kind.name for kind in world.kinds])
        failed += sum(1 for result in results if result.error)
        passed += sum(1 for result in results if not result.error)
        process = world.router.process
        if process is not None and process.returncode not in (None, 0):
            print(f"the router ended with {process.returncode}, see {options.installed}/router.log")
            return passed, failed + 1
    return passed, failed


if __name__ == "__main__":
    options = arguments()
    if options.list:
        for each in SCENARIOS:
            print(f"{each.title}  [{each.clause}]")
        sys.exit(0)
    began = time.monotonic()
    with empty_directory() as directory:
        code = asyncio.run(main(options, directory))
    print(f"{'in memory' if options.memory else 'on disk'}, in {time.monotonic() - began:.0f} s")
    sys.exit(code)
