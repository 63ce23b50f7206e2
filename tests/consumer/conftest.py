"""The world of the effects on databases: one user, the effect's collaborators, and copies of them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from local.postgres import PostgresCluster
from shared import postgres as shared_postgres
from tests.consumer.provisioning import Scripted, World, new_user, postgres_provider


@pytest.fixture
def user() -> str:
    return new_user()


@pytest.fixture
async def world(pool: asyncpg.Pool[asyncpg.Record], postgres: PostgresCluster, user: str) -> AsyncIterator[World]:
    provider = postgres_provider(postgres.url("postgres"))
    yield World(pool, provider)
    await provider.close()
    await pool.execute(f'drop database if exists "{user}" with (force)')


@pytest.fixture
def scripted(world: World) -> Scripted:
    return Scripted(world.provider)


@pytest.fixture
async def copies(world: World, database_url: str, postgres: PostgresCluster) -> AsyncIterator[list[World]]:
    pools = [await shared_postgres.create_pool(database_url, max_size=2, name=f"copy {n}") for n in range(3)]
    providers = [postgres_provider(postgres.url("postgres")) for _ in pools]
    yield [World(pool, provider, world.announced) for pool, provider in zip(pools, providers, strict=True)]
    for provider in providers:
        await provider.close()
    for pool in pools:
        await pool.close()
