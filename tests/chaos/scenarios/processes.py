"""Usher's own processes: killed at random, killed between two steps, stopped and continued, restarted one by one."""

import asyncio
from typing import Final

from tests.chaos.scenario import Scenario
from tests.chaos.world import World
from tests.support.eventually import eventually
from tests.support.programs import Program

# Three deaths and the starts between them.
DYING_LASTS_S: Final = 8.0


async def _die_at(world: World, program: Program, point: str) -> None:
    """Have `program` die at its first, second and third passage of `point`, one life after the other."""
    for nth in (1, 2, 3):
        await world.again(program, CHAOS_FAILPOINT=f"{point}:{nth}")
        await eventually(lambda: not program.alive, timeout_s=60, what=f"died at {point}")
    await world.again(program)


async def _ingress_after_publish(world: World) -> None:
    async with world.load(lasts_s=DYING_LASTS_S):
        await _die_at(world, world.usher.ingress, "published")
        world.repaired()


async def _consumers_after_effect(world: World) -> None:
    async with world.load(lasts_s=DYING_LASTS_S):
        await asyncio.gather(*(_die_at(world, consumer, "settling") for consumer in world.consumers))
        world.repaired()


SCENARIOS: Final = (
    Scenario(
        "ingress_dies_unanswered",
        "the ingress is killed three times between the broker's confirm and its answer",
        _ingress_after_publish,
    ),
    Scenario(
        "consumers_die_unacked",
        "each consumer is killed three times between effect and acknowledgement",
        _consumers_after_effect,
    ),
)
