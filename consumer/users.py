"""The users table and its guards, in SQL.

Goes in: users' events, any number at once. Comes out: which of them won. Promise: the order of a user's events does not
matter; the greater state in the order (deleted, version, event id) stays, whoever comes first and however often.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from shared import postgres
from shared.errors import DependencyDown, PermanentError
from shared.events import UserEvent

# One statement for any number of users, each at most once: the guards' row locks make concurrent consumers wait for
# each other, and who waited compares again with what the other left. All take the guards in one order, so that no two
# wait for each other in a circle. Rows follow only guards that were won. `on conflict` sees rows that were committed
# while this statement waited, which a plain update would not. Texts are compared by bytes, as `rank` does, whatever the
# database's collation.
SYNC: Final = """
with event as (
    select * from unnest(
        $1::text[], $2::boolean[], $3::bigint[], $4::text[], $5::timestamptz[],
        $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[],
        $13::timestamptz[], $14::timestamptz[]
    ) as event (
        user_id, deleted, version, event_id, event_time,
        email, username, first_name, last_name, photo_url, phone_number, external_id,
        created_at, updated_at
    )
),
won as (
    insert into user_guards as guard (user_id, deleted, version, event_id, event_time)
    select user_id, deleted, version, event_id, event_time from event order by user_id collate "C"
    on conflict (user_id) do update
        set deleted = excluded.deleted,
            version = excluded.version,
            event_id = excluded.event_id,
            event_time = excluded.event_time,
            settled_at = now()
        where (excluded.deleted, excluded.version, excluded.event_id collate "C")
            > (guard.deleted, guard.version, guard.event_id collate "C")
    returning user_id, deleted
),
written as (
    insert into users (
        user_id, email, username, first_name, last_name, photo_url, phone_number, external_id, created_at, updated_at
    )
    select
        user_id, email, username, first_name, last_name, photo_url, phone_number, external_id, created_at, updated_at
    from event
    where user_id in (select user_id from won where not deleted)
    on conflict (user_id) do update
        set email = excluded.email,
            username = excluded.username,
            first_name = excluded.first_name,
            last_name = excluded.last_name,
            photo_url = excluded.photo_url,
            phone_number = excluded.phone_number,
            external_id = excluded.external_id,
            created_at = excluded.created_at,
            updated_at = excluded.updated_at,
            synced_at = now()
)
select user_id, deleted from won
"""

# A statement of its own, after the guards are locked: within one statement it would not see rows that another consumer
# committed while a guard was waited for, and the user would live on.
REMOVE: Final = "delete from users where user_id = any($1::text[])"

# What writing needs of the tables, asked for without waiting: only who holds a whole table is in its way.
REACH: Final = "do $$ begin lock table user_guards, users in row exclusive mode nowait; end $$"

# Nobody's fault, and gone when tried again at once: another's transaction was in the way, or the connection was closed.
_AGAIN_AT_ONCE: Final = (asyncpg.TransactionRollbackError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError)

_EPOCH: Final = datetime.fromtimestamp(0, UTC)


class Synced(StrEnum):
    """What an event did to the table."""

    APPLIED = "applied"
    STALE = "stale"


def rank(event: UserEvent) -> tuple[bool, int, str]:
    """The order of a user's events: the greatest stays. A deletion beats every version."""
    return (event.type == "user.deleted", 0 if event.type == "user.deleted" else event.data.version or 0, event.id)


def greatest(events: Iterable[UserEvent]) -> dict[str, UserEvent]:
    """Of each user's events the one that stays: the rule of the SQL, before it is asked."""
    kept: dict[str, UserEvent] = {}
    for event in events:
        other = kept.get(event.subject)
        if other is None or rank(event) > rank(other):
            kept[event.subject] = event
    return kept


async def sync(pool: asyncpg.Pool[asyncpg.Record], event: UserEvent) -> Synced:
    """`sync_all` for one event."""
    (synced,) = await sync_all(pool, [event])
    return synced


async def sync_all(pool: asyncpg.Pool[asyncpg.Record], events: Sequence[UserEvent]) -> list[Synced]:
    """Bring the users' rows in step with `events`, all or none; what each did, in their order.

    Raises:
        DependencyDown, TransientError: Postgres is away or busy.
        PermanentError: one of the rows can never be stored or removed as it is.
    """
    kept = greatest(events)
    async with postgres.translated():
        try:
            won = await _apply(pool, list(kept.values()))
        except _AGAIN_AT_ONCE:
            won = await _apply(pool, list(kept.values()))
    return [_synced(event, kept, won) for event in events]


async def check(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """See whether users can be synced at all.

    Raises:
        DependencyDown: Postgres is away, or its tables are missing, read-only or locked as a whole.
    """
    async with postgres.translated():
        try:
            await pool.execute(REACH, timeout=postgres.CONNECT_TIMEOUT_S)
        except asyncpg.LockNotAvailableError as error:
            raise DependencyDown("somebody holds a lock on a whole table: user_guards or users") from error


def _synced(event: UserEvent, kept: dict[str, UserEvent], won: set[str]) -> Synced:
    if event.subject not in won or kept[event.subject] is not event:
        return Synced.STALE
    won.discard(event.subject)  # its duplicates in the batch changed nothing
    return Synced.APPLIED


async def _apply(pool: asyncpg.Pool[asyncpg.Record], events: Sequence[UserEvent]) -> set[str]:
    """Returns the users whose event was greater than what was there."""
    columns = list(zip(*(_columns(event) for event in events), strict=True))
    if not any(event.type == "user.deleted" for event in events):
        return {row["user_id"] for row in await pool.fetch(SYNC, *columns)}
    async with pool.acquire() as connection, connection.transaction():
        won = await connection.fetch(SYNC, *columns)
        await _remove(connection, [row["user_id"] for row in won if row["deleted"]])
    return {row["user_id"] for row in won}


async def _remove(connection: PoolConnectionProxy[asyncpg.Record], users: Sequence[str]) -> None:
    try:
        await connection.execute(REMOVE, users)
    except asyncpg.ForeignKeyViolationError as error:
        raise PermanentError(
            f"table {error.table_name} refers to the user without ON DELETE CASCADE or SET NULL: "
            f"change constraint {error.constraint_name}, then redrive",
        ) from error


def _columns(event: UserEvent) -> tuple[object, ...]:
    deleted, version, event_id = rank(event)
    data = event.data
    return (
        event.subject,
        deleted,
        version,
        event_id,
        event.time,
        data.email,
        data.username or event.subject,
        data.first_name,
        data.last_name,
        data.photo_url,
        data.phone_number,
        data.external_id,
        _moment(data.created_at, event),
        _moment(data.version, event),
    )


def _moment(milliseconds: int | None, event: UserEvent) -> datetime:
    """Clerk's milliseconds as a time; the event's own where there are none or they are beyond what a date can say."""
    if milliseconds is None:
        return event.time
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return event.time
