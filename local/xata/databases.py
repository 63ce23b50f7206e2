"""The real databases behind the branches: one database and one login for each, on the server of an admin's address.

All objects belong to one role that every login acts as, so that a copied database is the child's as it is; the right to
connect is each login's own. Promise: a login works only between `open` and `drop`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import quote, urlsplit

import asyncpg

from local.errors import ServerError
from shared.errors import EffectError
from shared.postgres import translated

OWNER: Final = "xata_owner"
BLANK: Final = "xata_blank"
_MAX_SESSIONS: Final = 4
_DEFAULT_PORT: Final = 5432
_TIMEOUT_S: Final = 60.0

# Two stand-ins may begin at once on one server.
_LOCK: Final = "select pg_advisory_lock(hashtextextended('xata stand-in', 0))"
_UNLOCK: Final = "select pg_advisory_unlock(hashtextextended('xata stand-in', 0))"
_HAS_ROLE: Final = "select exists (select from pg_roles where rolname = $1)"
_HAS_DATABASE: Final = "select exists (select from pg_database where datname = $1)"
_CREATE_OWNER: Final = "select format('create role %I nologin', $1::text)"
_GIVE_SCHEMA: Final = "select format('alter schema public owner to %I', $1::text)"
_CREATE: Final = "select format('create database %I template %I', $1::text, $2::text)"
# One statement list, so that a login is there with all its rights or not at all.
_CREATE_LOGIN: Final = """
select format('create role %1$I nologin password %2$L in role %3$I;'
              'alter role %1$I set role to %3$I;'
              'revoke all on database %1$I from public;'
              'grant connect on database %1$I to %1$I;'
              'grant create, temporary on database %1$I to %3$I', $1::text, $2::text, $3::text)
"""
_LET_LOG_IN: Final = "select format('alter role %I login', $1::text)"
_PASSWORD: Final = "select format('alter role %I password %L', $1::text, $2::text)"  # noqa: S105 - a statement
_DROP: Final = "select format('drop database if exists %I with (force)', $1::text)"
_DROP_LOGIN: Final = "select format('drop role if exists %I', $1::text)"
_DISCONNECT: Final = "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = $1"
_ACTIVITY: Final = """
select (select count(*) from pg_stat_activity where datname = $1 and backend_type = 'client backend') as connected,
       coalesce((select sessions from pg_stat_database where datname = $1), 0) as sessions
"""


class Databases:
    """`url` is a superuser's; its own database is only used to connect to."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        parts = urlsplit(url)
        self.host = parts.hostname or "localhost"
        self.port = parts.port or _DEFAULT_PORT

    async def start(self) -> None:
        """Raises: ServerError when the server does not let us in or lacks the rights."""
        try:
            async with translated():
                await self._start()
        except EffectError as error:
            raise ServerError(f"PostgreSQL at {self.host}:{self.port} for the stand-in: {error}") from error

    async def stop(self) -> None:
        if self._pool is not None:
            await self._pool.close()
            self._pool = None

    async def create(self, name: str, password: str, *, template: str | None) -> None:
        """A database that nobody can log in to yet: a copy of `template`, or an empty one."""
        async with self._session() as connection:
            await _copy(connection, name, template or BLANK)
            await _run(connection, _CREATE_LOGIN, name, password, OWNER)

    async def open(self, name: str) -> None:
        async with self._session() as connection:
            await _run(connection, _LET_LOG_IN, name)

    async def set_password(self, name: str, password: str) -> None:
        async with self._session() as connection:
            await _run(connection, _PASSWORD, name, password)

    async def drop(self, name: str) -> None:
        """With everybody in it; succeeds when it is not there."""
        async with self._session() as connection:
            await _run(connection, _DROP, name)
            await _run(connection, _DROP_LOGIN, name)

    async def exists(self, name: str) -> bool:
        """Whether anything of it is there, the database or the login."""
        async with self._session() as connection:
            return bool(await connection.fetchval(_HAS_DATABASE, name) or await connection.fetchval(_HAS_ROLE, name))

    async def complete(self, name: str) -> bool:
        """Whether all of it is there, the database and the login; whether it may log in is left open."""
        async with self._session() as connection:
            return bool(await connection.fetchval(_HAS_DATABASE, name) and await connection.fetchval(_HAS_ROLE, name))

    async def activity(self, name: str) -> tuple[int, int]:
        """How many are connected, and how many ever were."""
        async with self._session() as connection:
            row = await connection.fetchrow(_ACTIVITY, name)
        return (int(row["connected"]), int(row["sessions"])) if row else (0, 0)

    def login_url(self, name: str, password: str) -> str:
        return f"postgresql://{quote(name)}:{quote(password, safe='')}@{self.host}:{self.port}/{quote(name)}"

    async def _start(self) -> None:
        self._pool = await asyncpg.create_pool(
            self._url, min_size=0, max_size=_MAX_SESSIONS, command_timeout=_TIMEOUT_S, timeout=_TIMEOUT_S
        )
        async with self._session() as connection:
            await connection.execute(_LOCK)
            try:
                await self._make_common(connection)
            finally:
                await connection.execute(_UNLOCK)

    async def _make_common(self, connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record]) -> None:
        if not await connection.fetchval(_HAS_ROLE, OWNER):
            await _run(connection, _CREATE_OWNER, OWNER)
        if not await connection.fetchval(_HAS_DATABASE, BLANK):
            await _run(connection, _CREATE, BLANK, "template0")
        blank = await asyncpg.connect(self._url, database=BLANK, timeout=_TIMEOUT_S)
        try:
            await blank.execute(await blank.fetchval(_GIVE_SCHEMA, OWNER))
        finally:
            await blank.close()

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy[asyncpg.Record]]:
        if self._pool is None:
            raise RuntimeError("the stand-in is not started")
        async with self._pool.acquire() as connection:
            yield connection


async def _copy(connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record], name: str, template: str) -> None:
    try:
        await _run(connection, _CREATE, name, template)
    except asyncpg.ObjectInUseError:
        # PostgreSQL copies only what nobody is connected to; it has waited 5 s for that. Xata's storage can copy a
        # database in use, so here whoever sits in the template has to go.
        with contextlib.suppress(asyncpg.PostgresError):
            await connection.fetchval(_DISCONNECT, template)
        await _run(connection, _CREATE, name, template)


async def _run(connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record], statement: str, *names: str) -> None:
    """The server itself quotes: `format` makes statements whose values cannot be parameters."""
    await connection.execute(await connection.fetchval(statement, *names))
