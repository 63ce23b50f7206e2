"""The provider of DATABASE_PROVIDER, put together from the settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from prometheus_client import CollectorRegistry

from consumer.database_state import State
from consumer.provider import PROVIDERS, chosen_provider
from consumer.providers.protocol import UserDatabase
from consumer.provision_database import ProvisionDatabase
from consumer.settings import ConsumerSettings, ProviderName
from local.postgres import PostgresCluster
from local.xata import Fault, Region, XataStandIn
from shared.errors import DependencyDown, SettingsError
from tests.consumer.providers.contract import made
from tests.consumer.provisioning import WEEK, World, deliver, new_user
from tests.support.events import user_event


@pytest.fixture
async def stand_in(postgres: PostgresCluster) -> AsyncIterator[XataStandIn]:
    async with XataStandIn(postgres_url=postgres.url("postgres")) as stand_in:
        stand_in.add_project("users")
        yield stand_in


def _settings(stand_in: XataStandIn, **more: Any) -> ConsumerSettings:
    return ConsumerSettings.read(
        **{
            "amqp_url": "amqp://x",
            "database_url": "postgresql://u:p@h/usher",
            "database_provider": "xata",
            "xata_api_key": stand_in.api_key,
            "xata_organization": stand_in.organization,
            "xata_api_url": stand_in.url,
            "xata_projects": "users",
            "xata_requests_per_s": 1000,
            **more,
        }
    )


def test_every_name_of_the_setting_has_a_provider() -> None:
    assert set(PROVIDERS) == set(ProviderName.__args__)  # type: ignore[attr-defined] # a Literal has them


async def test_a_consumer_with_xata_makes_branches_and_counts_them(
    stand_in: XataStandIn, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    user, registry = new_user(), CollectorRegistry()

    async with chosen_provider(_settings(stand_in), pool, registry) as chosen:
        assert (await chosen.regions.verified()).offered == {"us-east-1", "eu-central-1"}
        await made(chosen.provider, UserDatabase(user, user, "eu-central-1"))

    assert [branch.name for branch in stand_in.live_branches()] == [user]
    assert registry.get_sample_value("usher_xata_branches") == 1


async def test_regions_that_the_organisation_does_not_have_stop_the_start(
    stand_in: XataStandIn, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    settings = _settings(stand_in, xata_default_region="eu-west-1", xata_region_by_country="AU=ap-southeast-2")

    with pytest.raises(SettingsError) as caught:
        async with chosen_provider(settings, pool):
            pass

    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["XATA_DEFAULT_REGION", "XATA_REGION_BY_COUNTRY"]
    assert "the nearest that is: eu-central-1" in lines[0]


async def test_while_xata_is_down_it_starts_and_no_region_is_chosen_until_it_tells_its_own(
    stand_in: XataStandIn, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    stand_in.cloud.all_regions[:] = [Region("ap-south-1")]  # none that is known beforehand
    stand_in.faults.add(Fault.answer(500))
    async with chosen_provider(_settings(stand_in), pool) as chosen:
        effect = ProvisionDatabase(pool, chosen.provider, chosen.regions, WEEK, _nothing)
        user = new_user()
        with pytest.raises(DependencyDown):
            await effect(user_event("user.created", user))
        row = await World(pool, chosen.provider).row(user)
        assert (row.state, row.region) == (State.REQUESTED, None)

        stand_in.faults.clear()
        await deliver(effect, user_event("user.created", user))

        row = await World(pool, chosen.provider).row(user)
        assert (row.state, row.region) == (State.READY, "ap-south-1")
        assert row.host == urlsplit(await chosen.provider.connection_url(row.known)).netloc.rpartition("@")[2]


async def _nothing(_event: object) -> None:
    pass


async def test_regions_that_went_away_since_the_start_are_found_by_the_check(
    stand_in: XataStandIn, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    async with chosen_provider(_settings(stand_in, xata_default_region="us-east-1"), pool) as chosen:
        await chosen.provider.check()

        stand_in.cloud.all_regions[:] = [Region("eu-central-1")]

        with pytest.raises(DependencyDown, match="XATA_DEFAULT_REGION"):
            await chosen.provider.check()
