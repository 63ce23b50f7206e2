"""A scenario's system comes and goes: a vhost, a control database and programs of its own, on shared servers."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import aio_pika
import asyncpg

from local.postgres import PostgresCluster
from local.rabbitmq import RabbitNode
from local.xata import Behaviour, XataStandIn
from shared import migrations, topology
from shared.declare import declare
from tests.chaos.world import CleanUp, Ground, Setting, World
from tests.support.broker import add_vhost, delete_vhost
from tests.support.programs import system
from tests.support.tcp_proxy import TcpProxy

LAUNCHER: Final = "tests.chaos.launcher"


@asynccontextmanager
async def world(name: str, setting: Setting, ground: Ground) -> AsyncIterator[World]:
    """Everything up and ready; taken away again on leaving."""
    folder = ground.folder / (ground.mutation or "") / name
    folder.mkdir(parents=True)
    nodes = ground.cluster.nodes if setting.clustered and ground.cluster else [ground.rabbit]
    async with AsyncExitStack() as stack:
        vhost = await stack.enter_async_context(_vhost(nodes[0]))
        database_url = await stack.enter_async_context(_database(ground.postgres, f"chaos_{name}"))
        broker_proxy = await _proxy(stack, nodes[0].amqp_port, wanted=setting.broker_proxied)
        postgres_proxy = await _proxy(stack, ground.postgres.port, wanted=setting.postgres_proxied)
        xata = await stack.enter_async_context(_stand_in(ground.postgres)) if setting.on_xata else None
        cleanups: list[CleanUp] = []
        stack.push_async_callback(_clean_up, cleanups)
        usher = await stack.enter_async_context(
            system(
                folder,
                amqp_url=",".join(_through(broker_proxy, node.amqp_url) + vhost + setting.amqp_query for node in nodes),
                database_url=_through(postgres_proxy, database_url),
                copies=setting.copies,
                environment={**_mutation(ground), **_xata(xata), **setting.environment},
                module=LAUNCHER,
            )
        )
        made = World(name, ground, setting, nodes[0].amqp_url + vhost, database_url, usher)
        made.cleanups = cleanups
        made.broker_proxy, made.postgres_proxy, made.xata = broker_proxy, postgres_proxy, xata
        try:
            yield made
        finally:
            if made.watch is not None:
                made.watch.cancel()


async def _clean_up(cleanups: list[CleanUp]) -> None:
    """After the programs have stopped."""
    for clean_up in cleanups:
        await clean_up()


async def _proxy(stack: AsyncExitStack, port: int, *, wanted: bool) -> TcpProxy | None:
    return await stack.enter_async_context(TcpProxy("127.0.0.1", port)) if wanted else None


def _through(proxy: TcpProxy | None, url: str) -> str:
    port = urlsplit(url).port
    return url if proxy is None else url.replace(f":{port}/", f":{proxy.port}/")


def _stand_in(postgres: PostgresCluster) -> XataStandIn:
    behaviour = Behaviour(visible_after_s=0.1, credentials_after_s=0.2, healthy_after_s=0.3)
    return XataStandIn(postgres_url=postgres.url("postgres"), behaviour=behaviour)


def _mutation(ground: Ground) -> dict[str, str]:
    return {"CHAOS_MUTATION": ground.mutation} if ground.mutation else {}


def _xata(stand_in: XataStandIn | None) -> dict[str, str]:
    if stand_in is None:
        return {}
    return {
        "DATABASE_PROVIDER": "xata",
        "XATA_API_URL": stand_in.url,
        "XATA_API_KEY": stand_in.api_key,
        "XATA_ORGANIZATION": stand_in.organization,
        "XATA_PROJECT_PREFIX": "tenants-",
        "XATA_REQUESTS_PER_S": "100",
    }


@asynccontextmanager
async def _vhost(node: RabbitNode) -> AsyncIterator[str]:
    """The name of a vhost with Usher's topology."""
    name = f"chaos-{time.monotonic_ns()}"
    url = await asyncio.to_thread(add_vhost, node, name)
    try:
        async with await aio_pika.connect(url) as connection:
            await declare(connection, topology.topology())
        # RabbitMQ 3.10 writes new queues down within a second: a kill before that leaves them without a leader.
        await asyncio.to_thread(node.ctl, "eval", "dets:sync(ra_directory_reverse).")
        yield name
    finally:
        await asyncio.to_thread(delete_vhost, node, name)


@asynccontextmanager
async def _database(postgres: PostgresCluster, name: str) -> AsyncIterator[str]:
    """The address of a control database; the users' databases that it names go with it."""
    await _as_admin(postgres, f'create database "{name}"')
    url = postgres.url(name)
    connection = await asyncpg.connect(url)
    await migrations.apply(connection, migrations.control_migrations())
    await connection.close()
    try:
        yield url
    finally:
        await _drop_all(postgres, name)


async def _drop_all(postgres: PostgresCluster, name: str) -> None:
    connection = await asyncpg.connect(postgres.url(name))
    statement = "select datname from pg_database where datname in (select name from databases)"
    users = [row["datname"] for row in await connection.fetch(statement)]
    await connection.close()
    for database in (*users, name):
        await _as_admin(postgres, f'drop database "{database}" with (force)')


async def _as_admin(postgres: PostgresCluster, statement: str) -> None:
    connection = await asyncpg.connect(postgres.url("postgres"))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
