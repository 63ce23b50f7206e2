"""Real servers for all tests: one RabbitMQ node and one PostgreSQL cluster a run, a vhost and a database a test.

A missing server fails the run with advice (local.* raises it); nothing is skipped.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import aio_pika
import asyncpg
import pytest
import structlog

from local.ports import free_port
from local.postgres import PostgresCluster
from local.rabbitmq import RabbitNode
from shared import migrations, topology
from shared import postgres as shared_postgres
from shared.declare import declare
from tests.support.broker import add_vhost, delete_vhost, running_node

_numbers: Final = itertools.count(1)
_TEMPLATE: Final = "usher_template"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--webhooks", type=int, default=500, help="how many webhooks the convergence test sends")
    parser.addoption(
        "--kill-everywhere",
        action="store_true",
        help="kill at every await, before and after it acted; else at each kind of await once",
    )
    parser.addoption("--model-examples", type=int, default=0, help="so many random runs of the model; 0: a fixed few")
    parser.addoption("--xata-users", type=int, default=10, help="how many users sign up in the test against Xata")


def pytest_configure(config: pytest.Config) -> None:
    # Test processes side by side choose ports from ranges of their own: one that is chosen is bound only seconds later.
    worker = getattr(config, "workerinput", {"workerid": "gw0"})["workerid"]
    first = 20_000 + int(worker.removeprefix("gw")) % 8 * 1_500
    os.environ["USHER_FREE_PORTS"] = f"{first}-{first + 1_499}"
    # A run that is ended by SIGTERM still stops the servers it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A shell that starts the run in the background lets it and all its children ignore Ctrl-C, which tests send.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _quiet_libraries() -> None:
    # aiormq reports every connection that a test breaks on purpose.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    logging.getLogger("aio_pika").setLevel(logging.CRITICAL)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory())


@pytest.fixture(scope="session")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    with running_node(tmp_path_factory.mktemp("rabbitmq")) as node:
        yield node


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresCluster]:
    folder: Path = tmp_path_factory.mktemp("postgres")
    cluster = PostgresCluster(folder, port=free_port(), password="test-password", fsync=False)
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture
def bare_vhost_url(rabbit: RabbitNode) -> Iterator[str]:
    """The AMQP address of an empty vhost."""
    name = f"test-{next(_numbers)}"
    yield add_vhost(rabbit, name)
    delete_vhost(rabbit, name)


@pytest.fixture
async def amqp_url(bare_vhost_url: str) -> str:
    """The AMQP address of a vhost with Usher's topology."""
    async with await aio_pika.connect(bare_vhost_url) as connection:
        await declare(connection, topology.topology())
    return bare_vhost_url


@pytest.fixture
async def database_url(postgres: PostgresCluster) -> AsyncIterator[str]:
    """A fresh control database with all migrations applied, cloned from a template that is made once a run."""
    await _make_template(postgres)
    name = f"test_{next(_numbers)}"
    await _as_admin(postgres, f"create database {name} template {_TEMPLATE}")
    yield postgres.url(name)
    await _as_admin(postgres, f"drop database {name} with (force)")


async def _make_template(postgres: PostgresCluster) -> None:
    if await _as_admin(postgres, "select 1 from pg_database where datname = 'usher_template'"):
        return
    await _as_admin(postgres, f"create database {_TEMPLATE}")
    connection = await asyncpg.connect(postgres.url(_TEMPLATE))
    await migrations.apply(connection, migrations.control_migrations())
    await connection.close()


async def _as_admin(postgres: PostgresCluster, statement: str) -> object:
    # A connection for each statement: tests kill the server in between.
    admin = await asyncpg.connect(postgres.url("postgres"))
    try:
        return await admin.fetchval(statement)
    finally:
        await admin.close()


@pytest.fixture
def kill_everywhere(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.getoption("kill_everywhere"))


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    pool = await shared_postgres.create_pool(database_url, max_size=10, name="tests")
    yield pool
    await pool.close()
