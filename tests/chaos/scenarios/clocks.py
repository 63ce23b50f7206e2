"""The sender's clock and ours, minutes apart: within what a signature may be old, and beyond it."""

from typing import Final

from tests.chaos.scenario import Scenario
from tests.chaos.world import World

WITHIN_S: Final = 240
BEYOND_S: Final = 900


async def _within(world: World) -> None:
    async with world.load(users=10, skew_s=WITHIN_S) as fast, world.load(users=10, skew_s=-WITHIN_S) as slow:
        world.repaired()
    world.expect(fast.refused + slow.refused == 0, "refused, though within the tolerance")


async def _beyond(world: World) -> None:
    """Refused as long as the clocks disagree, and accepted by the same ids when they agree again."""
    world.may_blame = True
    async with world.load(skew_s=BEYOND_S) as fast, world.load(users=10, skew_s=-BEYOND_S) as slow:
        await fast.felt(20)
        await slow.felt(20)
        world.expect(fast.done + slow.done == 0, "accepted beyond the tolerance")
        world.expect(set(fast.answers) | set(slow.answers) == {401}, "answered otherwise than 401")
        fast.skew_s = slow.skew_s = 0
        world.repaired()


SCENARIOS: Final = (
    Scenario("clocks_within", f"the sender's clock is {WITHIN_S // 60} minutes fast, and as much slow", _within),
    Scenario("clocks_beyond", f"it is {BEYOND_S // 60} minutes fast, and as much slow; then right", _beyond),
)
