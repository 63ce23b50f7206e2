"""The database that users' databases are copies of: empty but for Usher's user migrations, and as small as can be.

In: the migrations. Out: the name of a template that carries them, made when it is missing. Promise: nobody ever has a
session in a finished one, so that copying never waits; other migrations or another login have another template.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from consumer.providers import schema
from consumer.providers.addresses import at_database
from consumer.providers.session import session
from shared.errors import DependencyDown
from shared.migrations import Migration

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Session = PoolConnectionProxy[asyncpg.Record]

log = structlog.get_logger()

MARK: Final = "Usher's template: made anew when it is dropped"
MARK_UNFINISHED: Final = "Usher's template, being made"
CREATE_TIMEOUT_S: Final = 45.0

_LOCK: Final = "select pg_advisory_lock(hashtextextended('usher.provider.template', 0))"
_UNLOCK: Final = "select pg_advisory_unlock(hashtextextended('usher.provider.template', 0))"
# What is in a copy belongs to whom it belongs to in the template, so that every login needs its own. Older templates,
# which are not compact, have other names.
_NAME: Final = """
select 'usher_template_' || left(encode(sha256(convert_to('compact ' || $1 || current_user, 'UTF8')), 'hex'), 16)
"""
_LOOK: Final = """
select shobj_description(oid, 'pg_database') as mark, datallowconn as open from pg_database where datname = $1
"""
# template0 never has a session either.
_CREATE: Final = "select format('create database %I template template0 allow_connections false', $1::text)"
_BEGIN: Final = """
select format('comment on database %1$I is %2$L; alter database %1$I allow_connections true', $1::text, $2::text)
"""
# Every copy pays for each page and each file of the template: a rewritten table has no free space, nor the maps of it.
# What is shared by all databases is not copied; and who rewrites it has the whole server wait.
_REWRITE: Final = """
select format('vacuum full %s', oid::regclass) from pg_class
where relkind = 'r' and relpersistence = 'p' and not relisshared
"""
_FINISH: Final = """
select format('alter database %1$I allow_connections false; comment on database %1$I is %2$L', $1::text, $2::text)
"""


class Template:
    """Remembers for as long as the process lives that it is there."""

    def __init__(self, url: str, migrations: Sequence[Migration]) -> None:
        self._url = url
        self._migrations = tuple(migrations)
        self._name: str | None = None
        self._making = asyncio.Lock()

    @property
    def version(self) -> int:
        """The schema version of a copy."""
        return max((migration.version for migration in self._migrations), default=0)

    async def ready(self, connection: Session) -> str:
        """Its name, once it is there.

        Raises:
            DependencyDown: a database of that name is there and is not Usher's.
            EffectError: the migrations fail.
        """
        async with self._making:
            if self._name is None:
                self._name = await self._made(connection)
            return self._name

    def forget(self) -> None:
        """It is gone."""
        self._name = None

    async def _made(self, connection: Session) -> str:
        name: str = await connection.fetchval(_NAME, "".join(each.checksum for each in self._migrations))
        await connection.execute(_LOCK)
        try:
            await self._make(connection, name)
        finally:
            await connection.execute(_UNLOCK)
        return name

    async def _make(self, connection: Session, name: str) -> None:
        seen = await connection.fetchrow(_LOOK, name)
        if seen is None:
            await connection.execute(await connection.fetchval(_CREATE, name), timeout=CREATE_TIMEOUT_S)
        elif seen["mark"] == MARK:
            return
        elif seen["mark"] != MARK_UNFINISHED and (seen["mark"] is not None or seen["open"]):
            raise DependencyDown(f"A DATABASE {name} IS THERE AND IS NOT USHER'S: rename or drop it")
        # A kill anywhere below leaves what the next one carries on from.
        await connection.execute(await connection.fetchval(_BEGIN, name, MARK_UNFINISHED))
        await schema.migrate(at_database(self._url, name), self._migrations)
        await _compact(at_database(self._url, name))
        await connection.execute(await connection.fetchval(_FINISH, name, MARK))
        log.info("template_made", name=name, version=self.version)


async def _compact(url: str) -> None:
    async with session(url, application_name=schema.APPLICATION_NAME) as connection:
        for (rewrite,) in await connection.fetch(_REWRITE):
            await connection.execute(rewrite)
