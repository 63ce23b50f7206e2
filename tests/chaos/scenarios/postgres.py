"""Postgres: killed, full, locked, in conflict, and moved to another server."""

import asyncio
from typing import Final

from tests.chaos.scenario import Scenario
from tests.chaos.world import World


async def _killed(world: World) -> None:
    async with world.load() as load:
        await load.reached(0.3)
        world.postgres.kill()
        await load.reached(0.9)
        await asyncio.to_thread(world.postgres.start)
        world.repaired()


SCENARIOS: Final = (Scenario("postgres_killed", "kill -9 of all of Postgres under load; started again", _killed),)
