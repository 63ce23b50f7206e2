"""`usher databases retry`: have a creation tried again now.

In: a user id. Out: the event that asked for the database, once more in the effect's queue, confirmed. Promise: nothing
is done here that the effect does not do; it goes on from the row's state, and doing so twice is doing it once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import structlog
import typer
from rich.markup import escape

from cli import terminal
from cli.settings import OperatorSettings
from consumer.database_state import State
from shared.errors import UsherError
from shared.events import UserData, UserEvent

if TYPE_CHECKING:
    from consumer.databases import Database

log = structlog.get_logger()

EFFECT: Final = "provision_database"
SOURCE: Final = "usher/operator"
CONFIRM_TIMEOUT_S: Final = 10.0
_RETRIED: Final = frozenset({State.REQUESTED, State.CREATING, State.QUOTA_BLOCKED, State.FAILED})


def retry(user: Annotated[str, typer.Argument(metavar="USER", help="The Clerk user id.")]) -> None:
    """Have a database that is not there yet tried again now, instead of when the retry ladder comes to it.

    Also for one whose event was given up and discarded. For a dead letter, `usher dead redrive` does the same.

    [bold]Examples[/bold]

        usher databases ls --state failed
        usher databases retry user_2abc

    Exit codes: 0 handed to the consumer, 1 there is nothing to retry or failed, 2 misused.
    """
    row = terminal.run(_retry(user), level="info")
    terminal.out().print(f"Handed to the consumer: {escape(user)}, {row.state} until now. See: usher databases show")


async def _retry(user: str) -> Database:
    from cli import connections
    from consumer import databases

    settings = OperatorSettings.find()
    addresses = settings.broker_addresses()
    async with connections.database(settings.database_address()) as connection:
        row = await databases.find(connection, user)
    if row is None:
        raise UsherError(f"no database of {user} is known")
    if row.state not in _RETRIED:
        raise UsherError(f"the database of {user} is {row.state}: there is nothing to retry")
    event = again(row)
    await _publish(addresses, event)
    log.info("database_retry_requested", user_id=user, id=event.id, state=row.state, attempts=row.attempts)
    return row


def again(row: Database) -> UserEvent:
    """The event that asked for this database, as far as the row remembers it: the same id, so it is the same event."""
    asked_at_ms = int(row.requested_at.timestamp() * 1000)
    return UserEvent(
        id=row.event_id,
        source=SOURCE,
        type="user.created",
        subject=row.user_id,
        time=row.requested_at,
        data=UserData(version=asked_at_ms, region=row.region),
    )


async def _publish(addresses: list[str], event: UserEvent) -> None:
    from cli import connections
    from shared.messages import event_message
    from shared.topology import queue_of

    async with connections.broker(addresses) as connection:
        # To the one queue, past the exchange: no other effect, and no application, hears of a creation anew.
        await connections.publish_to_queue(
            connection, queue_of(EFFECT), event_message(event), timeout_s=CONFIRM_TIMEOUT_S
        )
