"""Libraries that give each request a random id, as early drafts of WAMP said: their second request is served as the first."""
import os

from .kinds import HERE, drivers
from .program import Program
from .world import scenario

PROGRAMS = {"python_wampy.py": "python_autobahn", "python_swampyer.py": "python_autobahn", "node_autobahn17.cjs": "node_autobahn"}


def added(file, like):
    """Registers the scenario of one library, which runs as the driver `like` does."""
    @scenario(f"random request ids: {file} calls, serves, publishes and subscribes, more than once", "WAMP.md, Basic: request ids",
              in_memory=True)
    async def run(world):
        (program, _), environment = drivers(world.installed.resolve())[like]
        path, url = HERE / "numbering" / file, f"ws://{world.router.http}/ws"
        async with Program(program, path, url, env={**os.environ, **environment}) as client:
            for line in ("result ONE", "result TWO", "event three", "event four"):
                await client.says(line)


for file, like in PROGRAMS.items():
    added(file, like)
