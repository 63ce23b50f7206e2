"""The provider `xata` keeps the contract that every provider has to keep."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from consumer.providers.xata.api import Timeouts
from consumer.providers.xata.configuration import BranchWishes, PoolWishes, XataConfiguration
from consumer.providers.xata.provider import XataProvider
from local.ports import free_port
from shared.migrations import user_migrations
from tests.consumer.providers.contract import ProviderContract
from tests.consumer.providers.xata_account import REGION, Account


async def _unreachable(pool: asyncpg.Pool[asyncpg.Record]) -> AsyncIterator[XataProvider]:
    configuration = XataConfiguration(
        organization="orgorg",
        key="xau_test",
        url=f"http://127.0.0.1:{free_port()}",
        pool=PoolWishes(("prj_test",)),
        requests_per_s=1000.0,
    )
    provider = XataProvider(
        pool, configuration, default_region=REGION, migrations=user_migrations(), timeouts=Timeouts(connect=1.0)
    )
    yield provider
    await provider.close()


class TestXataWithBranchesOfTheirOwn(ProviderContract):
    @pytest.fixture
    def provider(self, account: Account) -> XataProvider:
        return account.provider()

    @pytest.fixture
    async def unreachable(self, pool: asyncpg.Pool[asyncpg.Record]) -> AsyncIterator[XataProvider]:
        async for provider in _unreachable(pool):
            yield provider


class TestXataWithCopiesOfATemplate(ProviderContract):
    @pytest.fixture
    def provider(self, account: Account) -> XataProvider:
        return account.provider(branch=BranchWishes(templates={REGION: ("template-us",)}))

    @pytest.fixture
    async def unreachable(self, pool: asyncpg.Pool[asyncpg.Record]) -> AsyncIterator[XataProvider]:
        async for provider in _unreachable(pool):
            yield provider
