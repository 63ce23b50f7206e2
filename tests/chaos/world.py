"""What a scenario breaks: a running Usher of its own on real servers, under a load that it starts.

A vhost, a control database and the programs are new for each scenario; the servers are shared.
"""

import asyncio
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aio_pika
import asyncpg

from local.postgres import PostgresCluster
from local.rabbitmq import RabbitNode
from shared import migrations, topology
from shared.declare import declare
from tests.chaos.broker import BrokerWatch
from tests.chaos.load import Load, make_load
from tests.support.broker import add_vhost, delete_vhost
from tests.support.eventually import eventually
from tests.support.programs import Program, System, system
from tests.support.tcp_proxy import TcpProxy

LAUNCHER: Final = "tests.chaos.launcher"
LOAD_WITHIN_S: Final = 120.0
LOAD_LASTS_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Setting:
    """How the system of a scenario is set up. `proxied`: a TCP proxy between the programs and that server."""

    copies: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    broker_proxied: bool = False
    postgres_proxied: bool = False
    amqp_query: str = ""


@dataclass(frozen=True, slots=True)
class Ground:
    """What all scenarios of a run stand on; `users` is the size of a load."""

    rabbit: RabbitNode
    postgres: PostgresCluster
    folder: Path
    users: int
    mutation: str | None = None


@dataclass(slots=True)
class World:
    """One scenario's system, and what it has sent. `repaired` marks the moment from which recovery is counted."""

    name: str
    ground: Ground
    setting: Setting
    amqp_url: str
    database_url: str
    usher: System
    broker_proxy: TcpProxy | None = None
    postgres_proxy: TcpProxy | None = None
    loads: list[Load] = field(default_factory=list)
    expected_dead: dict[str, set[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    repaired_at: float = 0.0
    watch: BrokerWatch | None = None

    @property
    def rabbit(self) -> RabbitNode:
        return self.ground.rabbit

    @property
    def postgres(self) -> PostgresCluster:
        return self.ground.postgres

    @property
    def consumers(self) -> list[Program]:
        return self.usher.consumers

    @asynccontextmanager
    async def load(self, *, users: int | None = None, lasts_s: float = LOAD_LASTS_S) -> AsyncIterator[Load]:
        """Webhooks are sent while the block runs; on leaving it all of them have been accepted."""
        seed = zlib.crc32(f"{self.name} {len(self.loads)}".encode())
        load = make_load(self.usher.order(), users=users or self.ground.users, rate=1, seed=seed)
        load.rate = len(load.webhooks) / lasts_s
        self.loads.append(load)
        async with load.under_way(LOAD_WITHIN_S):
            yield load

    def repaired(self) -> None:
        """Now nothing is broken any more; what is left to do the system does by itself."""
        self.repaired_at = time.monotonic()
        if self.watch is not None:
            self.watch.cancel()
        expected = self.setting.copies
        self.watch = BrokerWatch(self.amqp_url, consumers=expected, since=self.repaired_at)

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Any]:
        """A connection of our own to the control database."""
        connection = await asyncpg.connect(self.database_url, timeout=10)
        try:
            yield connection
        finally:
            await connection.close(timeout=5)

    async def existing(self, users: Mapping[str, str]) -> Counter[str]:
        """How many databases each user has at the provider; `users` by the database's name."""
        async with self.database() as connection:
            statement = "select datname from pg_database where datname = any($1) and datallowconn"
            return Counter(users[row["datname"]] for row in await connection.fetch(statement, list(users)))

    def expect(self, that: object, problem: str) -> None:
        """What a scenario sees on the way and the accounting cannot see afterwards."""
        if not that:
            self.problems.append(problem)

    async def applied(self, users: int = 1) -> None:
        """Returns when so many users have a row."""

        async def enough() -> bool:
            async with self.database() as connection:
                return bool(await connection.fetchval("select count(*) from user_guards") >= users)

        await eventually(enough, timeout_s=60, what=f"{users} users are in the table")

    async def again(self, program: Program, **environment: str) -> None:
        """Kill -9 if need be, and start again, with `environment` added for this life only."""
        if program.alive:
            program.kill()
        usual = program.environment
        program.environment = {**usual, **environment}
        program.start()
        program.environment = usual


@asynccontextmanager
async def world(name: str, setting: Setting, ground: Ground) -> AsyncIterator[World]:
    """Everything up and ready; taken away again on leaving."""
    folder = ground.folder / name
    folder.mkdir(parents=True)
    async with AsyncExitStack() as stack:
        amqp_url = await stack.enter_async_context(_vhost(ground.rabbit))
        database_url = await stack.enter_async_context(_database(ground.postgres, name))
        broker_proxy = TcpProxy("127.0.0.1", ground.rabbit.amqp_port) if setting.broker_proxied else None
        postgres_proxy = TcpProxy("127.0.0.1", ground.postgres.port) if setting.postgres_proxied else None
        for proxy in filter(None, (broker_proxy, postgres_proxy)):
            await stack.enter_async_context(proxy)
        mutated = {"CHAOS_MUTATION": ground.mutation} if ground.mutation else {}
        usher = await stack.enter_async_context(
            system(
                folder,
                amqp_url=_through(broker_proxy, amqp_url) + setting.amqp_query,
                database_url=_through(postgres_proxy, database_url),
                copies=setting.copies,
                environment={**mutated, **setting.environment},
                module=LAUNCHER,
            )
        )
        made = World(name, ground, setting, amqp_url, database_url, usher, broker_proxy, postgres_proxy)
        try:
            yield made
        finally:
            if made.watch is not None:
                made.watch.cancel()


def _through(proxy: TcpProxy | None, url: str) -> str:
    port = urlsplit(url).port
    return url if proxy is None else url.replace(f":{port}/", f":{proxy.port}/")


@asynccontextmanager
async def _vhost(rabbit: RabbitNode) -> AsyncIterator[str]:
    name = f"chaos-{time.monotonic_ns()}"
    url = await asyncio.to_thread(add_vhost, rabbit, name)
    try:
        async with await aio_pika.connect(url) as connection:
            await declare(connection, topology.topology())
        # RabbitMQ 3.10 writes a new queue's registration down within a second: a kill before that leaves it leaderless.
        await asyncio.to_thread(rabbit.ctl, "eval", "dets:sync(ra_directory_reverse).")
        yield url
    finally:
        await asyncio.to_thread(delete_vhost, rabbit, name)


@asynccontextmanager
async def _database(postgres: PostgresCluster, name: str) -> AsyncIterator[str]:
    database = f"chaos_{name}"
    await _as_admin(postgres, f'create database "{database}"')
    url = postgres.url(database)
    connection = await asyncpg.connect(url)
    await migrations.apply(connection, migrations.control_migrations())
    await connection.close()
    try:
        yield url
    finally:
        await _drop_all(postgres, database)


async def _drop_all(postgres: PostgresCluster, database: str) -> None:
    """The users' databases first, which the control database names."""
    connection = await asyncpg.connect(postgres.url(database))
    statement = "select datname from pg_database where datname in (select name from databases)"
    names = [row["datname"] for row in await connection.fetch(statement)]
    await connection.close()
    for name in [*names, database]:
        await _as_admin(postgres, f'drop database "{name}" with (force)')


async def _as_admin(postgres: PostgresCluster, statement: str) -> None:
    connection = await asyncpg.connect(postgres.url("postgres"))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
