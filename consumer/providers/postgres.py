"""Users' databases by `CREATE DATABASE` on one Postgres server: the embedded default, no account needed.

Promise: a database is ours only with our mark on it (its comment names the user); one without is neither adopted nor
dropped. It is born closed and opened in the transaction that marks it: a kill in between leaves no doubt whose it is.
It is a copy of a template that carries the schema, so that nobody has to log in to it to make it usable.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from consumer.providers import schema
from consumer.providers.addresses import at_database, host_of
from consumer.providers.postgres_template import Template
from consumer.providers.protocol import Found, Place, Usable, UserDatabase
from shared import postgres
from shared.errors import DependencyDown, PermanentError, TransientError
from shared.migrations import Migration

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Session = PoolConnectionProxy[asyncpg.Record]

log = structlog.get_logger()

# Copies a template, so it takes as long as the disk; a cut-off one is rolled back by the server.
CREATE_TIMEOUT_S: Final = 45.0
# Creating and dropping load the server's disk: more at once would not be quicker.
MAX_SESSIONS: Final = 8
CLOSE_TIMEOUT_S: Final = 3.0
_SESSION: Final = {"application_name": "usher provider", "lock_timeout": "20s"}
_MARK: Final = "usher: "

# Serializes all that is done to one name, on any copy of Usher, even where the user's lock was lost.
_LOCK: Final = "select pg_advisory_lock(hashtextextended('usher.provider.' || $1, 0))"
_LOOK: Final = """
select
    oid::text as provider_id,
    datallowconn as open,
    shobj_description(oid, 'pg_database') as mark,
    pg_has_role(datdba, 'usage') as owned
from pg_database where datname = $1
"""
# The server itself quotes: `format` makes statements whose values cannot be parameters.
# One statement list is one transaction.
_MARK_AND_OPEN: Final = """
select format('comment on database %1$I is %2$L; alter database %1$I allow_connections true', $1::text, $2::text)
"""
# The lock, and what follows where nothing is there, in one round trip. "Nothing" may be from before the lock was had:
# then the creation fails. The template never has a session, so that creations cannot get into each other's way as with
# template1.
_BEGIN: Final = """
select
    pg_advisory_lock(hashtextextended('usher.provider.' || $1, 0)),
    not exists (select from pg_database where datname = $1) as missing,
    format('create database %I template %I allow_connections false', $1::text, $3::text) as create,
    format('comment on database %1$I is %2$L; alter database %1$I allow_connections true', $1::text, $2::text) as open
"""
_DROP_FORCED: Final = "select format('drop database if exists %I with (force)', $1::text)"
_DROP: Final = "select format('drop database if exists %I', $1::text)"
_INVENTORY: Final = """
select datname as name, oid::text as provider_id, substr(shobj_description(oid, 'pg_database'), $2) as user_id
from pg_database where starts_with(shobj_description(oid, 'pg_database'), $1) order by datname
"""
_MAY_CREATE: Final = "select rolcreatedb or rolsuper from pg_roles where rolname = current_user"


@dataclass(frozen=True, slots=True)
class _Seen:
    provider_id: str
    open: bool
    mark: str | None
    owned: bool

    @property
    def unfinished(self) -> bool:
        """Ours, and the creation was cut off: nobody else leaves a closed database without a comment behind."""
        return self.mark is None and not self.open

    def belongs_to(self, user_id: str) -> bool:
        return self.unfinished or self.mark == _mark(user_id)


class PostgresProvider:
    """`url` is a login that may create databases; its own database is only used to connect to."""

    name: Final = "postgres"

    def __init__(self, url: str, *, region: str, migrations: Sequence[Migration]) -> None:
        self._url = url
        self._region = region
        self._migrations = tuple(migrations)
        self._template = Template(url, self._migrations)
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._slots = asyncio.Semaphore(MAX_SESSIONS)

    async def close(self) -> None:
        """End the connections; what hangs is cut."""
        pool, self._pool = self._pool, None
        if pool is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await pool.close()
            pool.terminate()

    async def warm(self) -> None:
        """Have the template and all sessions there before the first creation."""
        async with self._session() as connection:
            await self._template.ready(connection)
        await postgres.open_ahead(await self._opened(), MAX_SESSIONS)

    async def create(self, wanted: UserDatabase) -> Place:
        async with self._session() as connection:
            template = await self._template.ready(connection)
            begun = await connection.fetchrow(_BEGIN, wanted.name, _mark(wanted.user_id), template)
            assert begun is not None  # noqa: S101 - a select without a table has one row
            made = begun["missing"] and await self._made(connection, wanted.name, begun)
            provider_id = await _adopted(connection, wanted)
        version = self._template.version if made else None
        return Place(provider_id, self._region, host_of(self._url), schema_version=version)

    async def prepare(self, database: UserDatabase) -> Usable:
        async with self._slots:
            return Usable(await schema.migrate(at_database(self._url, database.name), self._migrations))

    async def delete(self, database: UserDatabase) -> None:
        async with self._session(database.name) as connection:
            seen = await _look(connection, database.name)
            if seen is None:
                return
            if not seen.belongs_to(database.user_id):
                log.warning("strangers_database_left_alone", user_id=database.user_id, name=database.name)
                return
            _refuse_unowned(seen, database.name)
            await _drop(connection, database.name)

    async def connection_url(self, database: UserDatabase) -> str:
        async with self._session() as connection:
            seen = await _look(connection, database.name)
        if seen is None or not seen.belongs_to(database.user_id):
            raise PermanentError(f"there is no database {database.name}")
        return at_database(self._url, database.name)

    async def inventory(self) -> Sequence[Found]:
        async with self._session() as connection:
            rows = await connection.fetch(_INVENTORY, _MARK, len(_MARK) + 1)
        return [Found(region=self._region, **row) for row in rows]

    async def check(self) -> None:
        async with self._session() as connection:
            if not await connection.fetchval(_MAY_CREATE):
                raise DependencyDown(
                    "PROVIDER_POSTGRES_URL: this login may not create databases (alter role … createdb)"
                )

    async def _made(self, connection: Session, name: str, begun: asyncpg.Record) -> bool:
        """Created, marked and open; False when a database of that name was there."""
        try:
            await connection.execute(begun["create"], timeout=CREATE_TIMEOUT_S)
            await connection.execute(begun["open"])
        except (asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
            log.info("database_was_there", name=name)  # the mark decides whose it is
            return False
        except asyncpg.InvalidCatalogNameError as error:
            self._template.forget()
            raise TransientError(f"the template of {name} was dropped, or {name} itself: it is made anew") from error
        return True

    @asynccontextmanager
    async def _session(self, name: str | None = None) -> AsyncIterator[Session]:
        """A connection to work with; with `name`, nobody else does anything to that database meanwhile."""
        async with postgres.translated(), (await self._opened()).acquire() as connection:
            if name is not None:
                await connection.execute(_LOCK, name)  # until it goes back to the pool
            yield connection

    async def _opened(self) -> asyncpg.Pool[asyncpg.Record]:
        if self._pool is None:
            self._pool = asyncpg.create_pool(
                self._url,
                connection_class=postgres.Locking,
                min_size=0,
                max_size=MAX_SESSIONS,
                timeout=postgres.CONNECT_TIMEOUT_S,
                command_timeout=postgres.COMMAND_TIMEOUT_S,
                server_settings=_SESSION,
            )
        return await self._pool


async def _look(connection: Session, name: str) -> _Seen | None:
    row = await connection.fetchrow(_LOOK, name)
    return _Seen(**row) if row else None


async def _adopted(connection: Session, wanted: UserDatabase) -> str:
    """The id of the database that is there, marked and open; under the lock.

    Raises:
        PermanentError: it is not this user's.
    """
    seen = await _look(connection, wanted.name)
    if seen is None:
        raise TransientError(f"database {wanted.name} vanished while it was looked at")
    if not seen.belongs_to(wanted.user_id):
        raise PermanentError(f"a database {wanted.name} is there and is not ours: rename or drop it, then redrive")
    _refuse_unowned(seen, wanted.name)
    if seen.unfinished:
        await _mark_and_open(connection, wanted)
    return seen.provider_id


def _refuse_unowned(seen: _Seen, name: str) -> None:
    """Made with another login. Postgres would refuse it as it refuses a login without any rights, for all alike."""
    if not seen.owned:
        raise PermanentError(
            f"database {name} belongs to another login than that of PROVIDER_POSTGRES_URL: "
            "alter database … owner to …, then redrive"
        )


async def _mark_and_open(connection: Session, wanted: UserDatabase) -> None:
    await connection.execute(await connection.fetchval(_MARK_AND_OPEN, wanted.name, _mark(wanted.user_id)))


async def _drop(connection: Session, name: str) -> None:
    try:
        await connection.execute(await connection.fetchval(_DROP_FORCED, name))
    except asyncpg.InsufficientPrivilegeError:
        # It is ours, but sessions of others are in it, which this login may not end. Autovacuum leaves when it is
        # asked; for anybody else this fails with "in use" and is tried again.
        await connection.execute(await connection.fetchval(_DROP, name))


def _mark(user_id: str) -> str:
    return f"{_MARK}{user_id}"
