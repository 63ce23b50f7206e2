from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from local.postgres import PostgresCluster
from tests.cli.conftest import Usher
from tests.consumer.provisioning import World, deliver, new_user, postgres_provider
from tests.support.events import user_event


@pytest.fixture
def user() -> str:
    return new_user()


@pytest.fixture
async def world(
    pool: asyncpg.Pool[asyncpg.Record],
    database_url: str,
    postgres: PostgresCluster,
    user: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[World]:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("PROVIDER_POSTGRES_URL", postgres.url("postgres"))
    provider = postgres_provider(postgres.url("postgres"))
    yield World(pool, provider)
    await provider.close()
    await pool.execute(f'drop database if exists "{user}" with (force)')


async def test_the_list_shows_state_and_reason_and_filters_by_state(usher: Usher, world: World, user: str) -> None:
    await world.effect()(user_event("user.created", user))
    await deliver(world.effect(), user_event("user.deleted", "user_gone"))

    everything, ready = await usher("databases", "ls"), await usher("databases", "ls", "--state", "ready", "--json")

    assert everything.code == 0, everything.err
    assert user in everything.out
    assert "user_gone" in everything.out
    [row] = ready.json
    assert (row["user_id"], row["state"], row["attempts"], row["schema_version"]) == (user, "ready", 1, 1)


async def test_the_list_is_as_long_as_it_is_asked_to_be_and_says_so(usher: Usher, world: World) -> None:
    for number in range(3):
        await deliver(world.effect(), user_event("user.deleted", f"user_{number}"))

    done = await usher("databases", "ls", "--limit", "2", "--json")
    shown = await usher("databases", "ls", "--limit", "2")

    assert [row["user_id"] for row in done.json] == ["user_2", "user_1"]
    assert "there may be more" in shown.err


async def test_an_empty_list_is_no_failure(usher: Usher, world: World) -> None:  # noqa: ARG001 - sets the addresses
    assert (await usher("databases", "ls", "--json")).json == []
    assert (await usher("databases", "ls")).code == 0


async def test_a_state_that_does_not_exist_is_misuse(usher: Usher) -> None:
    assert (await usher("databases", "ls", "--state", "sleeping")).code == 2


async def test_one_database_is_shown_whole_and_without_secrets(
    usher: Usher, world: World, postgres: PostgresCluster, user: str
) -> None:
    await world.effect()(user_event("user.created", user))

    shown, done = await usher("databases", "show", user), await usher("databases", "show", user, "--json")

    assert f"127.0.0.1:{postgres.port}" in shown.out
    assert done.json["name"] == user
    assert done.json["ready_at"].endswith("+00:00")
    assert postgres.password not in shown.out + done.out


async def test_the_url_opens_the_users_own_database(usher: Usher, world: World, user: str) -> None:
    await world.effect()(user_event("user.created", user))

    done = await usher("databases", "url", user)

    assert done.code == 0, done.err
    connection = await asyncpg.connect(done.out.strip())
    assert await connection.fetchval("select current_database()") == user
    await connection.close()


async def test_without_an_address_of_its_own_the_provider_is_the_server_of_usher(
    usher: Usher, world: World, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.effect()(user_event("user.created", user))
    monkeypatch.delenv("PROVIDER_POSTGRES_URL")

    done = await usher("databases", "url", user)

    assert done.out.strip().endswith(f"/{user}")


async def test_there_is_no_url_of_a_database_that_is_deleted(usher: Usher, world: World, user: str) -> None:
    await deliver(world.effect(), user_event("user.deleted", user))

    done = await usher("databases", "url", user)

    assert (done.code, done.out) == (1, "")
    assert done.err == f"usher: the database of {user} is deleted\n"


async def test_a_deletion_is_cancelled_while_it_is_held_and_only_once(usher: Usher, world: World, user: str) -> None:
    deletion = user_event("user.deleted", user)
    await world.effect()(user_event("user.created", user))
    await deliver(world.effect(), deletion)
    assert "to be deleted after" in (await usher("databases", "ls")).out

    first, second = await usher("databases", "cancel-deletion", user), await usher("databases", "cancel-deletion", user)

    assert first.code == 0, first.err
    assert "kept" in first.out
    assert second.code == 1
    assert second.err == f"usher: the database of {user} is ready: only one that is held can be kept\n"
    await world.effect()(deletion)
    assert await world.exists(user)


@pytest.mark.parametrize("verb", ["show", "url", "cancel-deletion", "retry"])
@pytest.mark.usefixtures("world")
async def test_a_user_that_nobody_knows_is_one_sentence(
    usher: Usher, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMQP_URL", "amqp://127.0.0.1:1/")
    done = await usher("databases", verb, "user_unknown")

    assert done.code == 1
    assert done.err == "usher: no database of user_unknown is known\n"


@pytest.mark.parametrize("verb", ["ls", "show", "url", "cancel-deletion", "retry", "verify"])
async def test_the_help_has_examples_and_exit_codes(usher: Usher, verb: str) -> None:
    done = await usher("databases", verb, "--help")

    assert done.code == 0
    assert f"usher databases {verb}" in done.out
    assert "Examples" in done.out
    assert "Exit codes" in done.out
