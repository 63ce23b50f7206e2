"""A Xata on loopback with real databases behind it, and providers that use it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from consumer.providers.xata.provider import XataProvider
from local.postgres import PostgresCluster
from local.xata import XataStandIn
from tests.consumer.providers.xata_account import Account


@pytest.fixture(autouse=True)
def _requests_are_repeated_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumer.providers.xata.api.BACKOFF_S", 0.02)


@pytest.fixture
async def stand_in(postgres: PostgresCluster) -> AsyncIterator[XataStandIn]:
    async with XataStandIn(postgres_url=postgres.url("postgres")) as stand_in:
        yield stand_in
        assert stand_in.record.violations == []


@pytest.fixture
async def account(stand_in: XataStandIn, pool: asyncpg.Pool[asyncpg.Record]) -> AsyncIterator[Account]:
    """One project without templates."""
    account = Account(stand_in, pool)
    account.projects = (stand_in.add_project("users"),)
    yield account
    await account.close()


@pytest.fixture
def xata(account: Account) -> XataProvider:
    return account.provider()
