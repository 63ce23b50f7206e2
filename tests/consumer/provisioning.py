"""What the tests of provisioning share: users of their own, an effect with its outside, ways to stop it anywhere."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final
from unittest.mock import patch
from uuid import uuid4

import asyncpg
import structlog

from consumer import databases
from consumer.databases import Database
from consumer.providers.names import database_name
from consumer.providers.postgres import PostgresProvider
from consumer.providers.protocol import DatabaseProvider, Found, Place, Usable, UserDatabase
from consumer.providers.regions import RegionMap
from consumer.provision_database import ProvisionDatabase
from shared import migrations
from shared import postgres as shared_postgres
from shared.errors import NotYet
from shared.events import DatabaseEvent, UserEvent
from tests.support.events import user_event

WEEK: Final = timedelta(days=7)
AT_ONCE: Final = timedelta(0)
# What a test waits for; longer waits are holdbacks, which end the delivery.
PATIENCE_S: Final = 60.0


def new_user() -> str:
    return f"user_{uuid4().hex}"


def postgres_provider(url: str) -> PostgresProvider:
    return PostgresProvider(url, region="local", migrations=migrations.user_migrations())


@dataclass
class World:
    """An effect with its table, its provider, and everything that it announced."""

    pool: asyncpg.Pool[asyncpg.Record]
    provider: DatabaseProvider
    announced: list[DatabaseEvent] = field(default_factory=list)

    async def announce(self, event: DatabaseEvent) -> None:
        self.announced.append(event)

    def effect(self, *, holdback: timedelta = WEEK, provider: DatabaseProvider | None = None) -> ProvisionDatabase:
        regions = RegionMap.single("local")
        return ProvisionDatabase(self.pool, provider or self.provider, regions, holdback, self.announce)

    @asynccontextmanager
    async def another(self) -> AsyncIterator[World]:
        """Another process on the same server of users' databases, with connections of its own."""
        assert isinstance(self.provider, PostgresProvider)
        provider = postgres_provider(self.provider._url)
        yield World(self.pool, provider, self.announced)
        await provider.close()

    async def row(self, user_id: str) -> Database:
        async with self.pool.acquire() as connection:
            row = await databases.find(connection, user_id)
        assert row is not None
        return row

    async def at_provider(self, user_id: str) -> list[Found]:
        """This user's databases as the provider has them, also one that was cut off before it was marked."""
        name = database_name(user_id)
        return [found for found in await self.provider.inventory() if name == found.name or found.user_id == user_id]

    async def exists(self, user_id: str) -> bool:
        """Whether the server has a database of the user's name, whoever made it."""
        name = database_name(user_id)
        return bool(await self.pool.fetchval("select 1 from pg_database where datname = $1", name))

    async def let_it_be_due(self, user_id: str) -> None:
        await self.pool.execute("update databases set erase_after = now() where user_id = $1", user_id)


async def deliver(effect: ProvisionDatabase, event: UserEvent) -> None:
    """Hand the event out as the retry ladder does, until it is done or has to wait for a holdback."""
    while True:
        try:
            return await effect(event)
        except NotYet as wait:
            if wait.retry_after_s > PATIENCE_S:
                return None
            await asyncio.sleep(0.01)


async def _nothing() -> None:
    pass


class Scripted:
    """A provider whose next calls raise what the test put there, then act as the real one; all has to be prepared."""

    def __init__(self, provider: DatabaseProvider) -> None:
        self._provider = provider
        self.create_errors: list[Exception] = []
        self.delete_errors: list[Exception] = []
        self.prepare_errors: list[Exception] = []
        self.deletions = 0
        self.before_create: Callable[[], Awaitable[None]] = _nothing
        self.before_prepare: Callable[[], Awaitable[None]] = _nothing

    @property
    def name(self) -> str:
        return self._provider.name

    async def create(self, wanted: UserDatabase) -> Place:
        await self.before_create()
        if self.create_errors:
            raise self.create_errors.pop(0)
        return replace(await self._provider.create(wanted), schema_version=None)

    async def prepare(self, database: UserDatabase) -> Usable:
        await self.before_prepare()
        if self.prepare_errors:
            raise self.prepare_errors.pop(0)
        return await self._provider.prepare(database)

    async def delete(self, database: UserDatabase) -> None:
        self.deletions += 1
        if self.delete_errors:
            raise self.delete_errors.pop(0)
        await self._provider.delete(database)

    async def connection_url(self, database: UserDatabase) -> str:
        return await self._provider.connection_url(database)

    async def inventory(self) -> Sequence[Found]:
        return await self._provider.inventory()

    async def check(self) -> None:
        await self._provider.check()


class Killed(asyncio.CancelledError):
    """Stands for kill -9: nothing catches it and goes on, and the driver ends the session it was in the middle of."""


@dataclass
class Failpoint:
    """Ends the work at its `at`-th await of the outside world, before or after that one acted.

    With `alike_once` awaits of the same statement, or of the same kind of request, count once. `here`: whether this is
    the process to be killed.
    """

    at: int
    after: bool
    alike_once: bool = False
    here: Callable[[], bool] = lambda: True
    seen: set[str] = field(default_factory=set)
    struck: bool = False
    where: str = ""

    async def pass_through(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        if self.struck or not self.here() or (self.alike_once and name in self.seen):
            return await call()
        self.seen.add(name if self.alike_once else f"{len(self.seen)} {name}")
        if len(self.seen) <= self.at:
            return await call()
        self.struck, self.where = True, f"{'after' if self.after else 'before'} await {self.at} ({name})"
        if self.after:
            made = await call()
            if isinstance(made, asyncpg.Connection):
                made.terminate()  # the process's sockets go with it
        raise Killed(self.where)


@dataclass(frozen=True)
class Kills:
    """Where to kill. `everywhere`: at each await, both before and after it acted.

    Otherwise at each kind of await once: the two cases, before and after, share them out between them.
    """

    everywhere: bool
    after: bool

    def points(self) -> Iterator[Failpoint]:
        first, step = (0, 1) if self.everywhere else (int(self.after), 2)
        return (Failpoint(at, after=self.after, alike_once=not self.everywhere) for at in range(first, 200, step))


@contextmanager
def killed_at(point: Failpoint, world: World) -> Iterator[None]:
    """Every statement on any connection, every connect, and the announcement pass through `point`."""
    with (
        patch.object(asyncpg, "connect", _wrapped(point, "connect", asyncpg.connect)),
        patch.object(asyncpg.connection, "connect", _wrapped(point, "connect for a pool", asyncpg.connect)),
        patch.object(asyncpg.Connection, "execute", _wrapped(point, "execute", asyncpg.Connection.execute)),
        patch.object(asyncpg.Connection, "fetch", _wrapped(point, "fetch", asyncpg.Connection.fetch)),
        patch.object(asyncpg.Connection, "fetchrow", _wrapped(point, "fetchrow", asyncpg.Connection.fetchrow)),
        patch.object(asyncpg.Connection, "fetchval", _wrapped(point, "fetchval", asyncpg.Connection.fetchval)),
        patch.object(world, "announce", _wrapped(point, "announce", world.announce)),
    ):
        yield


def _wrapped(point: Failpoint, name: str, original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def wrapper(*arguments: Any, **options: Any) -> Any:
        said = f"{name} {_kind(arguments)}"
        return await point.pass_through(said, lambda: original(*arguments, **options))

    return wrapper


# Names and ids of users, projects and branches.
_OF_ONE: Final = re.compile(r"user_\w+|prj_\w+|\b[a-v][0-9a-v]{25}\b|'[^']*'")


def _kind(arguments: Sequence[Any]) -> str:
    """What is asked for, whoever it is asked for."""
    words = " ".join(" ".join(argument.split()) for argument in arguments[1:3] if isinstance(argument, str))
    return _OF_ONE.sub("…", words)[:120]


async def _announce_for_ever(database_url: str, provider_url: str, user_id: str) -> None:
    async def announce(_event: DatabaseEvent) -> None:
        print("announcing", flush=True)  # noqa: T201 - how the test learns where this process is
        await asyncio.Event().wait()

    pool = await shared_postgres.create_pool(database_url, max_size=2, name="to be killed")
    regions = RegionMap.single("local")
    effect = ProvisionDatabase(pool, postgres_provider(provider_url), regions, WEEK, announce)
    await effect(user_event("user.created", user_id))


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(_announce_for_ever(*sys.argv[1:]))
