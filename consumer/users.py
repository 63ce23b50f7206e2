"""The users table and its guards, in SQL.

Goes in: a user's event. Comes out: whether it won. Promise: the order of a user's events does not matter; the greater
state in the order (deleted, version, event id) stays, whoever comes first and however often.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

import asyncpg

from shared import postgres
from shared.errors import PermanentError
from shared.events import UserEvent

# One statement: the guard's row lock makes concurrent consumers wait for each other, and who waited compares again
# with what the other left. The user's row follows only who won. `on conflict` sees rows that were committed while
# this statement waited, which a plain update would not.
UPSERT: Final = """
with won as (
    insert into user_guards as guard (user_id, deleted, version, event_id, event_time)
    values ($1, false, $2, $3, $4)
    on conflict (user_id) do update
        set deleted = excluded.deleted,
            version = excluded.version,
            event_id = excluded.event_id,
            event_time = excluded.event_time,
            settled_at = now()
        where (excluded.deleted, excluded.version, excluded.event_id)
            > (guard.deleted, guard.version, guard.event_id)
    returning user_id
)
insert into users (
    user_id, email, username, first_name, last_name, photo_url, phone_number, external_id, created_at, updated_at
)
select won.user_id, $5, $6, $7, $8, $9, $10, $11, $12, $13 from won
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
returning user_id
"""

# A deletion beats every version; among deletions the greater event id stays.
ENTOMB: Final = """
insert into user_guards as guard (user_id, deleted, version, event_id, event_time)
values ($1, true, 0, $2, $3)
on conflict (user_id) do update
    set deleted = true,
        version = 0,
        event_id = excluded.event_id,
        event_time = excluded.event_time,
        settled_at = now()
    where (excluded.deleted, excluded.version, excluded.event_id)
        > (guard.deleted, guard.version, guard.event_id)
returning user_id
"""

# A statement of its own, after the guard is locked: within one statement it would not see a row that another consumer
# committed while the guard was waited for, and the user would live on.
REMOVE: Final = "delete from users where user_id = $1"


class Synced(StrEnum):
    """What an event did to the table."""

    APPLIED = "applied"
    STALE = "stale"


async def sync(pool: asyncpg.Pool[asyncpg.Record], event: UserEvent) -> Synced:
    """Bring the user's row in step with `event`, or leave it when a greater state is there.

    Raises:
        DependencyDown, TransientError: Postgres is away or busy.
        PermanentError: the row can never be stored or removed as it is.
    """
    async with postgres.translated():
        if event.type == "user.deleted":
            return await _remove(pool, event)
        won = await pool.fetchval(UPSERT, event.subject, event.data.version, event.id, event.time, *_columns(event))
        return Synced.STALE if won is None else Synced.APPLIED


async def _remove(pool: asyncpg.Pool[asyncpg.Record], event: UserEvent) -> Synced:
    async with pool.acquire() as connection, connection.transaction():
        won = await connection.fetchval(ENTOMB, event.subject, event.id, event.time)
        if won is None:
            return Synced.STALE
        try:
            await connection.execute(REMOVE, event.subject)
        except asyncpg.ForeignKeyViolationError as error:
            raise PermanentError(
                f"table {error.table_name} refers to the user without ON DELETE CASCADE or SET NULL: "
                f"change constraint {error.constraint_name}, then redrive",
            ) from error
        return Synced.APPLIED


def _columns(event: UserEvent) -> tuple[object, ...]:
    data = event.data
    return (
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
        return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return event.time
