"""The provider of databases (the stand-in for Xata): down, hanging, lying, throttling. A load goes on meanwhile."""

from collections.abc import Sequence
from typing import Final

from local.xata import Fault, Garbling
from tests.chaos.scenario import Scenario
from tests.chaos.world import Setting, World

# A creation that was sent and never answered is waited for, for more than a minute: it may still come about.
ON_XATA: Final = Setting(on_xata=True, copies=2, patience_s=240)
DOWN: Final = (Fault.reset(),)
HANGING: Final = (Fault.hang(acts=True, probability=0.3), Fault.hang(probability=0.3))
LYING: Final = (
    *(Fault.garble(garbling, probability=0.15) for garbling in Garbling),
    Fault.answer(500, acts=True, probability=0.3),
    Fault.cut(7, probability=0.3),
)
THROTTLING: Final = (Fault.answer(429, retry_after_s=1.0, probability=0.7),)


async def _faulty(world: World, faults: Sequence[Fault]) -> None:
    assert world.xata is not None
    async with world.load() as load:
        await load.reached(0.2)
        for fault in faults:
            world.xata.faults.add(fault)
        await load.reached(1)
        world.xata.faults.clear()
        world.repaired()
    struck = sum(request.fault is not None for request in world.xata.requests)
    world.expect(struck > 0, "no request met a fault")


async def _down(world: World) -> None:
    await _faulty(world, DOWN)


async def _hanging(world: World) -> None:
    await _faulty(world, HANGING)


async def _lying(world: World) -> None:
    await _faulty(world, LYING)


async def _throttling(world: World) -> None:
    await _faulty(world, THROTTLING)


SCENARIOS: Final = (
    Scenario("provider_down", "the provider resets every connection; then no more", _down, ON_XATA),
    Scenario("provider_hanging", "requests are never answered, half of them after acting", _hanging, ON_XATA),
    Scenario("provider_lying", "garbled and cut answers, and errors after acting", _lying, ON_XATA),
    Scenario("provider_throttling", "most requests are answered 429", _throttling, ON_XATA),
)
