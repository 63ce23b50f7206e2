"""One scenario: a system, what is broken and repaired under its load, and the accounting at the end."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.chaos.accounting import Account, account
from tests.chaos.world import Ground, Setting, World, world


@dataclass(frozen=True, slots=True)
class Scenario:
    """`breaks` says in a line what is broken and how it is repaired; `act` does it and calls `repaired`."""

    name: str
    breaks: str
    act: Callable[[World], Awaitable[None]]
    setting: Setting = field(default_factory=Setting)


async def play(scenario: Scenario, ground: Ground) -> Account:
    async with world(scenario.name, scenario.setting, ground) as made:
        await scenario.act(made)
        return await account(made)
