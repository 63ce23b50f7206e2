"""One scenario: a system, what is broken and repaired under its load, and the accounting at the end."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from tests.chaos.accounting import Account, account
from tests.chaos.setup import world
from tests.chaos.world import Ground, Setting, World

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Scenario:
    """`breaks` says in a line what is broken and how it is repaired; `act` does it and calls `repaired`."""

    name: str
    breaks: str
    act: Callable[[World], Awaitable[None]]
    setting: Setting = field(default_factory=Setting)


async def play(scenario: Scenario, ground: Ground) -> Account:
    """The account of it; of its failure, too, so that others can follow."""
    try:
        async with world(scenario.name, scenario.setting, ground) as made:
            await scenario.act(made)
            return await account(made)
    except Exception as error:
        log.exception("scenario_failed", scenario=scenario.name)
        return Account.of_failure(scenario.name, error)
