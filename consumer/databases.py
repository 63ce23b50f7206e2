"""The table `databases`: one row per user, and every way in which it may change.

Promise: each change is one statement that names the states it may start from, so that a worker that lost its lock, or
an event that comes late or twice, changes nothing. None back means: it was not in such a state (any more).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import asyncpg

from consumer.database_state import State
from consumer.providers.protocol import Place, Usable, UserDatabase
from shared import postgres

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]


@dataclass(frozen=True, slots=True)
class Database:
    """One row. `erase_in_s` is how long it is still held, by the database's own clock."""

    user_id: str
    provider: str
    project: str | None
    name: str
    provider_id: str | None
    region: str | None
    host: str | None
    state: State
    reason: str | None
    attempts: int
    schema_version: int
    event_id: str
    requested_at: datetime
    ready_at: datetime | None
    announced_at: datetime | None
    erase_after: datetime | None
    cancelled_at: datetime | None
    deleted_at: datetime | None
    changed_at: datetime
    erase_in_s: float | None

    @property
    def known(self) -> UserDatabase:
        """The row as a provider wants it."""
        return UserDatabase(self.user_id, self.name, self.region, self.project, self.provider_id)


_COLUMNS: Final = """
    user_id, provider, project, name, provider_id, region, host, state, reason, attempts, schema_version,
    event_id, requested_at, ready_at, announced_at, erase_after, cancelled_at, deleted_at, changed_at,
    extract(epoch from erase_after - now())::float8 as erase_in_s
"""

_FIND: Final = f"select {_COLUMNS} from databases where user_id = $1"  # noqa: S608 - a constant list of columns
_LIST: Final = f"""
select {_COLUMNS} from databases where $1::text is null or state = $1 order by changed_at desc, user_id limit $2
"""  # noqa: S608 - a constant list of columns
_ALL: Final = f"select {_COLUMNS} from databases order by user_id"  # noqa: S608 - a constant list of columns
_TRY_LOCK: Final = "select pg_try_advisory_lock(hashtextextended('usher.database.' || $1, 0))"

_WANT: Final = """
insert into databases (user_id, provider, name, region, event_id, state) values ($1, $2, $3, $4, $5, 'requested')
on conflict (user_id) do nothing
"""
# A deletion that comes first leaves a tombstone. Only a database that somebody may have used is held back. Void are:
# the event that is recorded already, and what happened before an operator cancelled.
_UNWANT: Final = """
insert into databases as row (user_id, provider, name, event_id, state, deleted_at)
values ($1, $2, $3, $4, 'deleted', now())
on conflict (user_id) do update set
    state = case when row.ready_at is null then 'deleting' else 'held' end,
    erase_after = case when row.ready_at is null then null else now() + $5::interval end,
    event_id = excluded.event_id,
    reason = null,
    changed_at = now()
where row.state in ('requested', 'creating', 'ready', 'quota_blocked', 'failed')
    and row.event_id <> excluded.event_id
    and (row.cancelled_at is null or row.cancelled_at < $6)
"""
_CANCEL: Final = """
update databases set state = 'ready', erase_after = null, cancelled_at = now(), changed_at = now()
where user_id = $1 and state = 'held'
returning user_id
"""

# As `want` and `begin`, for whoever can have the user's lock. That is taken before the row is touched, whose newest
# version then decides, whatever this statement could see of it when it began.
_BEGIN_AT_ONCE: Final = f"""
with mine as materialized (select pg_try_advisory_lock(hashtextextended('usher.database.' || $1, 0)) as locked)
insert into databases as row (user_id, provider, name, region, event_id, state, attempts)
select $1::text, $2, $3, $4, $5, 'creating', 1 from mine where locked
on conflict (user_id) do update set
    state = 'creating', reason = null, attempts = row.attempts + (row.state <> 'creating')::integer,
    region = coalesce(row.region, excluded.region), changed_at = now()
where row.state in ('requested', 'creating', 'quota_blocked', 'failed')
returning {_COLUMNS}
"""  # noqa: S608 - a constant list of columns
# Begun from `creating` it is the same attempt, which goes on after a wait or a kill.
_BEGIN: Final = f"""
update databases set
    state = 'creating', reason = null, attempts = attempts + (state <> 'creating')::integer,
    region = coalesce(region, $2), changed_at = now()
where user_id = $1 and state in ('requested', 'creating', 'quota_blocked', 'failed')
returning {_COLUMNS}
"""  # noqa: S608 - a constant list of columns
_LOCATE: Final = f"""
update databases set
    provider_id = $2, project = $3, region = coalesce($4, region), host = $5, changed_at = now()
where user_id = $1 and state = 'creating'
returning {_COLUMNS}
"""  # noqa: S608 - a constant list of columns
_MAKE_READY: Final = f"""
update databases set
    provider_id = $2, project = $3, region = coalesce($4, region), host = $5,
    state = 'ready', schema_version = $6, ready_at = now(), reason = null, changed_at = now()
where user_id = $1 and state = 'creating'
returning {_COLUMNS}
"""  # noqa: S608 - a constant list of columns
_STOP_CREATING: Final = """
update databases set state = $2, reason = $3, changed_at = now() where user_id = $1 and state = 'creating'
"""
_ANNOUNCED: Final = "update databases set announced_at = now() where user_id = $1 and announced_at is null"

_ERASE_WHEN_DUE: Final = f"""
update databases set state = 'deleting', erase_after = null, changed_at = now()
where user_id = $1 and state = 'held' and erase_after <= now()
returning {_COLUMNS}
"""  # noqa: S608 - a constant list of columns
_NOTE: Final = "update databases set reason = $2, changed_at = now() where user_id = $1 and state = 'deleting'"
_MAKE_DELETED: Final = f"""
update databases set state = 'deleted', reason = null, deleted_at = now(), changed_at = now()
where user_id = $1 and state = 'deleting'
returning {_COLUMNS}
"""  # noqa: S608 - a constant list of columns


async def find(connection: Connection, user_id: str) -> Database | None:
    return await _row(connection, _FIND, user_id)


async def listed(connection: Connection, *, state: State | None, limit: int) -> list[Database]:
    """The rows that changed last, newest first."""
    async with postgres.translated():
        return [_database(row) for row in await connection.fetch(_LIST, state, limit)]


async def everything(connection: Connection) -> list[Database]:
    """All rows, tombstones too: to be compared with what a provider has."""
    async with postgres.translated():
        return [_database(row) for row in await connection.fetch(_ALL)]


async def try_lock(connection: Connection, user_id: str) -> bool:
    """Become the only worker on this user, until the connection goes back to its pool or is lost."""
    async with postgres.translated():
        return bool(await connection.fetchval(_TRY_LOCK, user_id))


async def want(connection: Connection, database: UserDatabase, *, provider: str, event_id: str) -> None:
    """The user is to have a database, unless the user has been seen before (also: as deleted)."""
    async with postgres.translated():
        await connection.execute(_WANT, database.user_id, provider, database.name, database.region, event_id)


async def unwant(
    connection: Connection,
    database: UserDatabase,
    *,
    provider: str,
    event_id: str,
    happened_at: datetime,
    holdback: timedelta,
) -> None:
    """The user is gone: held for `holdback` when it was ever ready, to be deleted at once when not."""
    async with postgres.translated():
        await connection.execute(_UNWANT, database.user_id, provider, database.name, event_id, holdback, happened_at)


async def cancel_deletion(connection: Connection, user_id: str) -> bool:
    """`held` → `ready`; False when it is not held."""
    async with postgres.translated():
        return await connection.fetchval(_CANCEL, user_id) is not None


async def begin_at_once(
    connection: Connection, database: UserDatabase, *, provider: str, event_id: str
) -> Database | None:
    """`try_lock`, `want` and `begin` in one round trip; None when one of them did not come about: go step by step.

    The lock may be held then: it can be taken twice by one connection.
    """
    values = (database.user_id, provider, database.name, database.region, event_id)
    return await _row(connection, _BEGIN_AT_ONCE, *values)


async def begin(connection: Connection, user_id: str, region: str) -> Database | None:
    """`requested`, `quota_blocked`, `failed`, `creating` → `creating`; in `region` unless one was chosen before."""
    return await _row(connection, _BEGIN, user_id, region)


async def locate(connection: Connection, user_id: str, place: Place) -> Database | None:
    """Remember where the provider put it, while it is waited for."""
    return await _row(connection, _LOCATE, user_id, place.provider_id, place.project, place.region, place.host)


async def make_ready(connection: Connection, user_id: str, place: Place, usable: Usable) -> Database | None:
    """`creating` → `ready`, where the provider put it."""
    host = usable.host or place.host
    values = (user_id, place.provider_id, place.project, place.region, host, usable.schema_version)
    return await _row(connection, _MAKE_READY, *values)


async def stop_creating(connection: Connection, user_id: str, state: State, reason: str) -> None:
    """`creating` → `failed` or `quota_blocked`; nothing when it is wanted no more."""
    async with postgres.translated():
        await connection.execute(_STOP_CREATING, user_id, state, reason)


async def announced(connection: Connection, user_id: str) -> None:
    async with postgres.translated():
        await connection.execute(_ANNOUNCED, user_id)


async def erase_when_due(connection: Connection, user_id: str) -> Database | None:
    """`held` → `deleting`, when its time has come."""
    return await _row(connection, _ERASE_WHEN_DUE, user_id)


async def note(connection: Connection, user_id: str, reason: str) -> None:
    """Why the deletion does not come about."""
    async with postgres.translated():
        await connection.execute(_NOTE, user_id, reason)


async def make_deleted(connection: Connection, user_id: str) -> Database | None:
    """`deleting` → `deleted`."""
    return await _row(connection, _MAKE_DELETED, user_id)


async def _row(connection: Connection, statement: str, *values: object) -> Database | None:
    async with postgres.translated():
        row = await connection.fetchrow(statement, *values)
    return _database(row) if row else None


def _database(row: asyncpg.Record) -> Database:
    return Database(**{**row, "state": State(row["state"])})
