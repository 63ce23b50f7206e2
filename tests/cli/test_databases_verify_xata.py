"""`usher databases verify` and `url` with the provider `xata`: the stand-in's branches, with drift that was planted."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from consumer.providers.regions import RegionMap
from consumer.provision_database import ProvisionDatabase
from local.postgres import PostgresCluster
from local.xata import XataStandIn
from tests.cli.conftest import Usher
from tests.consumer.providers.xata_account import REGION, Account
from tests.consumer.provisioning import WEEK, World, deliver, new_user
from tests.support.events import user_event


@pytest.fixture
async def account(
    pool: asyncpg.Pool[asyncpg.Record],
    postgres: PostgresCluster,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Account]:
    async with XataStandIn(postgres_url=postgres.url("postgres")) as stand_in:
        account = Account(stand_in, pool)
        account.projects = (stand_in.add_project("users"),)
        for name, value in {
            "DATABASE_URL": database_url,
            "DATABASE_PROVIDER": "xata",
            "XATA_API_URL": stand_in.url,
            "XATA_API_KEY": stand_in.api_key,
            "XATA_ORGANIZATION": stand_in.organization,
            "XATA_PROJECTS": account.projects[0],
            "XATA_REQUESTS_PER_S": "1000",
        }.items():
            monkeypatch.setenv(name, value)
        yield account
        await account.close()


async def _made(account: Account) -> str:
    user, world = new_user(), World(account.pool, account.provider())
    regions = RegionMap(default=REGION, offered=frozenset({REGION}))
    effect = ProvisionDatabase(account.pool, world.provider, regions, WEEK, world.announce)
    await deliver(effect, user_event("user.created", user))
    return user


async def test_planted_drift_is_found_at_xata_too(usher: Usher, account: Account) -> None:
    missing, orphan, well = [await _made(account) for _ in range(3)]
    assert (await usher("databases", "verify")).code == 0
    row = await account.pool.fetchrow("select * from databases where user_id = $1", missing)
    assert row is not None
    await account.api().delete_branch(row["project"], row["provider_id"])
    await account.pool.execute("delete from databases where user_id = $1", orphan)

    done = await usher("databases", "verify", "--json")

    assert done.code == 1, done.err
    assert {each["user_id"]: each["kind"] for each in done.json["drift"]} == {missing: "missing", orphan: "orphan"}
    assert (done.json["provider"], done.json["rows"], done.json["at_provider"]) == ("xata", 2, 2)
    url = await usher("databases", "url", well)
    assert url.code == 0, url.err
