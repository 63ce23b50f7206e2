"""One scenario: a system, what is broken and repaired under its load, and the accounting at the end."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import asyncpg
from aiormq.exceptions import AMQPError

from local.errors import ServerError
from tests.chaos.accounting import Account, account, failed
from tests.chaos.setup import world
from tests.chaos.world import Ground, Setting, World

# What does not come about, and what servers and their clients say; TimeoutError is an OSError.
TROUBLE: Final = (
    AssertionError,
    RuntimeError,
    ServerError,
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    AMQPError,
)
MAX_TEXT_CHARS: Final = 300


@dataclass(frozen=True, slots=True)
class Scenario:
    """`breaks` says in a line what is broken and how it is repaired; `act` does it and calls `repaired`."""

    name: str
    breaks: str
    act: Callable[[World], Awaitable[None]]
    setting: Setting = field(default_factory=Setting)


async def play(scenario: Scenario, ground: Ground) -> Account:
    """The account of it, also when it could not be set up, or did not come to an end."""
    try:
        async with world(scenario.name, scenario.setting, ground) as made:
            await _act(scenario, made)
            return await account(made)
    except TROUBLE as error:
        return failed(scenario.name, _text(error))


async def _act(scenario: Scenario, made: World) -> None:
    """When something on the way does not come about, the servers are mended, and what has been accepted is counted."""
    try:
        await scenario.act(made)
    except TROUBLE as error:
        made.problems.append(_text(error))
        await asyncio.to_thread(made.mend)
        made.repaired()


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:MAX_TEXT_CHARS]
