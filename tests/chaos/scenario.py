"""One scenario: a system, what is broken and repaired under its load, and the accounting at the end."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.chaos.accounting import Account, account
from tests.chaos.setup import world
from tests.chaos.world import Ground, Setting, World


@dataclass(frozen=True, slots=True)
class Scenario:
    """`breaks` says in a line what is broken and how it is repaired; `act` does it and calls `repaired`."""

    name: str
    breaks: str
    act: Callable[[World], Awaitable[None]]
    setting: Setting = field(default_factory=Setting)


async def play(scenario: Scenario, ground: Ground) -> Account:
    """The account of it, also when something on the way did not come about: the servers are mended then."""
    async with world(scenario.name, scenario.setting, ground) as made:
        try:
            await scenario.act(made)
        except AssertionError as error:
            made.problems.append(str(error))
            await asyncio.to_thread(made.mend)
            made.repaired()
        return await account(made)
