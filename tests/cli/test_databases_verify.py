"""`usher databases verify` on real Postgres, with drift that was planted."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from local.postgres import PostgresCluster
from tests.cli.conftest import Usher
from tests.consumer.provisioning import AT_ONCE, World, deliver, new_user, postgres_provider
from tests.support.events import user_event


@pytest.fixture
async def world(
    pool: asyncpg.Pool[asyncpg.Record],
    database_url: str,
    postgres: PostgresCluster,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[World]:
    """A provider on which no other test has left anything."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("PROVIDER_POSTGRES_URL", postgres.url("postgres"))
    provider = postgres_provider(postgres.url("postgres"))
    await _emptied(pool, provider)
    yield World(pool, provider)
    await _emptied(pool, provider)
    await provider.close()


async def _emptied(pool: asyncpg.Pool[asyncpg.Record], provider: object) -> None:
    for found in await provider.inventory():  # type: ignore[attr-defined] # any provider
        await pool.execute(f'drop database if exists "{found.name}" with (force)')


async def _made(world: World) -> str:
    user = new_user()
    await world.effect()(user_event("user.created", user))
    return user


async def test_where_both_agree_nothing_is_found(usher: Usher, world: World) -> None:
    users = [await _made(world) for _ in range(2)]
    await deliver(world.effect(), user_event("user.deleted", users[0]))  # held
    gone = await _made(world)
    await deliver(world.effect(holdback=AT_ONCE), user_event("user.deleted", gone))
    await deliver(world.effect(), user_event("user.deleted", "user_never_seen"))

    shown, done = await usher("databases", "verify"), await usher("databases", "verify", "--json")

    assert (shown.code, done.code) == (0, 0), shown.err
    assert "4 rows, 2 databases at postgres: they agree." in shown.out
    assert done.json == {"ok": True, "provider": "postgres", "rows": 4, "at_provider": 2, "others": 0, "drift": []}


async def test_planted_drift_is_found_and_nothing_is_changed(usher: Usher, world: World) -> None:
    missing, replaced, orphan, undead, misplaced, well = [await _made(world) for _ in range(6)]
    await world.pool.execute(f'drop database "{missing}"')
    await world.pool.execute("update databases set provider_id = '1' where user_id = $1", replaced)
    await world.pool.execute("delete from databases where user_id = $1", orphan)
    await world.pool.execute("update databases set state = 'deleted' where user_id = $1", undead)
    await world.pool.execute("update databases set region = 'elsewhere' where user_id = $1", misplaced)
    before = await world.pool.fetch("select * from databases order by user_id"), await world.provider.inventory()

    shown, done = await usher("databases", "verify"), await usher("databases", "verify", "--json")

    assert (shown.code, done.code) == (1, 1)
    assert {each["user_id"]: each["kind"] for each in done.json["drift"]} == {
        missing: "missing",
        replaced: "wrong_provider_id",
        orphan: "orphan",
        undead: "not_deleted",
        misplaced: "wrong_region",
    }
    assert all(user in shown.out for user in (missing, replaced, orphan, undead, misplaced))
    assert well not in shown.out
    assert "5 differences" in shown.err
    after = await world.pool.fetch("select * from databases order by user_id"), await world.provider.inventory()
    assert after == before


async def test_what_is_being_created_is_no_difference(usher: Usher, world: World) -> None:
    await world.pool.execute(
        "update databases set state = 'creating', provider_id = null where user_id = $1", await _made(world)
    )
    assert (await usher("databases", "verify")).code == 0


async def test_rows_of_another_provider_are_counted_and_left_alone(usher: Usher, world: World) -> None:
    user = await _made(world)
    await world.pool.execute(f'drop database "{user}"')
    await world.pool.execute("update databases set provider = 'xata' where user_id = $1", user)
    done = await usher("databases", "verify")
    assert done.code == 0
    assert "1 rows of other providers were not looked at" in done.out


async def test_a_stranger_s_database_is_none_of_ours(usher: Usher, world: World) -> None:
    await world.pool.execute("create database somebody_elses")
    try:
        assert (await usher("databases", "verify")).code == 0
    finally:
        await world.pool.execute("drop database somebody_elses")


async def test_a_provider_that_does_not_answer_is_one_sentence(
    usher: Usher, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _made(world)
    monkeypatch.setenv("PROVIDER_POSTGRES_URL", "postgresql://a:secret-word@127.0.0.1:1/postgres")
    done = await usher("databases", "verify", "--json")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("usher: ")
    assert done.err.count("\n") == 1
    assert "secret-word" not in done.err
