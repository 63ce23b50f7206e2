"""Control databases as they are after years of use: so many users, each with its guard, database and place."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import asyncpg

_FILL_TIMEOUT_S: Final = 900.0
# Ids begin with the time of creation, as Clerk's do: users were created in equal steps over two years. Their e-mail
# addresses and names lie anywhere in the index. Indexes are built afterwards, from their own definitions.
FIRST_S: Final = 1_700_000_000
YEARS_S: Final = 60_000_000
_KEYS: Final = {"users": "user_id", "user_guards": "user_id", "databases": "user_id", "xata_placements": "name"}
# Pages of an index that grew by keys from anywhere are two thirds full (ln 2). Built at once, all would split at once.
_GROWN: Final = " with (fillfactor = 70)"
_INDEXES: Final = """
select indexname as name, indexdef as definition from pg_indexes
where schemaname = 'public' and tablename = any($1) and indexname <> tablename || '_pkey'
"""
_ROOM: Final = "set maintenance_work_mem = '512MB'"
# Counting is for what is placed from then on: the projects of all these are not in the pool.
_NO_TRIGGERS: Final = "set session_replication_role = replica"
_PEOPLE: Final = """
create temporary table people as
select 'user_' || to_hex($2::bigint + number * $3::bigint / $1::int) || left(md5($4 || 'id' || number), 19) as user_id,
    md5($4 || 'e-mail' || number) as email, md5($4 || 'name' || number) as username,
    md5($4 || 'event' || number) as event, number
from generate_series(1, $1::int) as number
"""
_USERS: Final = """
insert into users (user_id, email, username, first_name, last_name, photo_url, created_at, updated_at)
select user_id, left(email, 12) || '@example.com', left(username, 12), 'Ada', 'Lovelace',
    'https://img.clerk.com/' || username, now(), now()
from people
"""
_GUARDS: Final = """
insert into user_guards (user_id, deleted, version, event_id, event_time)
select user_id, false, 1, 'msg_' || left(event, 27), now() from people
"""
_DATABASES: Final = """
insert into databases (user_id, provider, project, name, provider_id, region, host, state, event_id, ready_at)
select user_id, 'xata', 'project_' || number / 100, user_id, 'branch_' || left(event, 20), 'eu-central-1',
    left(event, 20) || '.eu-central-1.xata.tech', 'ready', 'msg_' || left(event, 27), now()
from people
"""
_PLACES: Final = """
insert into xata_placements (name, user_id, project, region, branch_id)
select user_id, user_id, 'project_' || number / 100, 'eu-central-1', 'branch_' || left(event, 20) from people
"""


async def fill(url: str, users: int) -> float:
    """Returns the seconds it took."""
    started = time.perf_counter()
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(_FILL_TIMEOUT_S):
            await connection.execute(_ROOM)
            indexes = await connection.fetch(_INDEXES, list(_KEYS))
            for index in indexes:
                await connection.execute(f"drop index {index['name']}")
            for table in _KEYS:
                await connection.execute(f"alter table {table} drop constraint {table}_pkey")
            await _insert(connection, "", users)
            for table, key in _KEYS.items():
                await connection.execute(f"alter table {table} add constraint {table}_pkey primary key ({key})")
            for index in indexes:
                definition, where, condition = index["definition"].partition(" WHERE ")
                await connection.execute(definition + _GROWN + where + condition)
                await connection.execute(f"alter index {index['name']} reset (fillfactor)")
            await connection.execute(f"vacuum analyze {', '.join(_KEYS)}")
            await connection.execute("checkpoint")
    finally:
        await connection.close()
    return time.perf_counter() - started


async def touch(url: str, tag: str, users: int) -> None:
    """Change every page after a checkpoint, as the seconds after it do: from then on changes alone are logged."""
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(_FILL_TIMEOUT_S):
            await connection.execute("checkpoint")
            await _insert(connection, tag, users)
    finally:
        await connection.close()


async def _insert(connection: asyncpg.Connection[asyncpg.Record], tag: str, users: int) -> None:
    await connection.execute(_NO_TRIGGERS)
    await connection.execute(_PEOPLE, users, FIRST_S, YEARS_S, tag)
    for rows in (_USERS, _GUARDS, _DATABASES, _PLACES):
        await connection.execute(rows)
