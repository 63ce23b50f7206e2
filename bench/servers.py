"""The servers under the benchmarks: one RabbitMQ node and one PostgreSQL cluster, in a folder of their own.

Both sync to disk. What a run leaves behind is cleared before the next, so that none is measured on another's remains.
"""

import itertools
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aio_pika
import asyncpg
import psutil

from local.ports import free_port
from local.postgres import PostgresCluster
from local.rabbitmq import RabbitNode
from shared import migrations, topology
from shared.declare import declare

_TEMPLATE: Final = "bench_template"
WORK_QUEUES: Final = tuple(topology.queue_of(effect) for effect in topology.EFFECTS)
# As on a server of this size: a quarter of its memory. Checkpoints come when a scenario asks for one, so that none
# falls into one of two measurements. Everything that is compared runs on it, and every commit is synced to disk.
_SHARED_BUFFERS_MB: Final = psutil.virtual_memory().total // 4 // 2**20
_POSTGRES_SETTINGS: Final = (f"shared_buffers={_SHARED_BUFFERS_MB}MB", "max_wal_size=8GB", "checkpoint_timeout=1h")


@dataclass(slots=True)
class Servers:
    folder: Path
    rabbit: RabbitNode
    postgres: PostgresCluster
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    _into_one: bool = False

    @property
    def amqp_url(self) -> str:
        return self.rabbit.amqp_url

    async def clear_broker(self) -> None:
        """Empty work queues and a new log."""
        async with await aio_pika.connect(self.amqp_url) as connection:
            channel = await connection.channel()
            await channel.queue_delete(topology.LOG_QUEUE)
            for name in WORK_QUEUES:
                queue = await channel.get_queue(name, ensure=False)
                await queue.purge()
            whole = topology.topology()
            log = tuple(queue for queue in whole.queues if queue.name == topology.LOG_QUEUE)
            await declare(connection, topology.Topology(whole.exchanges, log))
            if self._into_one:
                await _unbind_all_but_one(channel)

    @asynccontextmanager
    async def into_one_queue(self) -> AsyncIterator[None]:
        """Events are copied into one quorum queue alone, as a simpler system would have it, until the block is left."""
        self._into_one = True
        await self.clear_broker()
        try:
            yield
        finally:
            self._into_one = False
            async with await aio_pika.connect(self.amqp_url) as connection:
                await declare(connection, topology.topology())

    async def depth(self, queue: str) -> int:
        async with await aio_pika.connect(self.amqp_url) as connection:
            channel = await connection.channel()
            declared = await channel.declare_queue(queue, passive=True)
            return declared.declaration_result.message_count or 0

    async def database(self) -> str:
        """The address of a new control database with all migrations."""
        name = f"bench_{next(self._numbers)}"
        await self.as_admin(f"create database {name} template {_TEMPLATE}")
        return self.postgres.url(name)

    async def blank_database(self) -> str:
        """The address of a new database with nothing in it."""
        name = f"bench_{next(self._numbers)}"
        await self.as_admin(f"create database {name}")
        return self.postgres.url(name)

    async def drop(self, url: str) -> None:
        await self.as_admin(f"drop database {url.rpartition('/')[2]} with (force)")

    async def as_admin(self, statement: str) -> object:
        admin = await asyncpg.connect(self.postgres.url("postgres"))
        try:
            return await admin.fetchval(statement)
        finally:
            await admin.close()

    async def prepare(self) -> None:
        async with await aio_pika.connect(self.amqp_url) as connection:
            await declare(connection, topology.topology())
        await self.as_admin(f"create database {_TEMPLATE}")
        template = await asyncpg.connect(self.postgres.url(_TEMPLATE))
        await migrations.apply(template, migrations.control_migrations())
        await template.close()


async def _unbind_all_but_one(channel: aio_pika.abc.AbstractChannel) -> None:
    for queue in topology.topology().queues:
        if queue.name != WORK_QUEUES[0]:
            bound = await channel.get_queue(queue.name, ensure=False)
            for exchange, key in queue.bindings:
                if exchange == topology.EVENTS_EXCHANGE:
                    await bound.unbind(exchange, key)


@asynccontextmanager
async def servers(folder: Path) -> AsyncIterator[Servers]:
    """Both servers, ready; stopped on leaving, whatever happens."""
    password = secrets.token_hex(12)
    rabbit = RabbitNode(
        folder / "rabbitmq", amqp_port=free_port(), management_port=free_port(), user="usher", password=password
    )
    postgres = PostgresCluster(folder / "postgres", port=free_port(), password=password, settings=_POSTGRES_SETTINGS)
    try:
        rabbit.start()
        postgres.start()
        ours = Servers(folder, rabbit, postgres)
        await ours.prepare()
        yield ours
    finally:
        rabbit.stop()
        postgres.stop()
