"""deploy/postgres/10-roles.sql by psql on a fresh cluster, as the image runs it: two logins that keep apart."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg
import pytest

from consumer.providers.postgres import PostgresProvider
from consumer.providers.protocol import UserDatabase
from local import programs
from local.ports import free_port
from local.postgres import PostgresCluster
from shared import migrations

SQL: Final = Path(__file__).parents[2] / "deploy" / "postgres" / "10-roles.sql"
PASSWORDS: Final = {"POSTGRES_USHER_PASSWORD": "it's usher's", "POSTGRES_PROVIDER_PASSWORD": "provider"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresCluster]:
    cluster = PostgresCluster(
        tmp_path_factory.mktemp("roles"),
        port=free_port(),
        user="postgres",
        password="superuser",
        database="postgres",
        fsync=False,
    )
    cluster.start()
    psql = [
        str(programs.postgres_bin() / "psql"),
        "-v",
        "ON_ERROR_STOP=1",
        "--no-psqlrc",
        "-f",
        str(SQL),
        cluster.url(),
    ]
    subprocess.run(psql, env=os.environ | PASSWORDS, check=True, capture_output=True, cwd="/")
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def usher(cluster: PostgresCluster) -> str:
    return f"postgresql://usher:it%27s%20usher%27s@127.0.0.1:{cluster.port}/usher"


@pytest.fixture(scope="module")
def provider(cluster: PostgresCluster) -> str:
    return f"postgresql://provider:provider@127.0.0.1:{cluster.port}/postgres"


async def test_usher_s_login_migrates_its_own_database(usher: str) -> None:
    connection = await asyncpg.connect(usher)
    await migrations.apply(connection, migrations.control_migrations())
    assert await connection.fetchval("select count(*) from users") == 0
    await connection.close()


async def test_usher_s_login_makes_no_databases(usher: str) -> None:
    connection = await asyncpg.connect(usher)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("create database another")
    await connection.close()


async def test_the_provider_s_login_makes_and_removes_users_databases(provider: str) -> None:
    made = PostgresProvider(provider, region="local", migrations=migrations.user_migrations())
    await made.check()
    wanted = UserDatabase("user_2abc", "user_2abc", "local")
    await made.create(wanted)
    await made.prepare(wanted)
    assert [found.name for found in await made.inventory()] == ["user_2abc"]
    await made.delete(wanted)
    assert await made.inventory() == []
    await made.close()


async def test_the_provider_s_login_does_not_get_into_usher_s_database(provider: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(urlsplit(provider)._replace(path="/usher").geturl())
