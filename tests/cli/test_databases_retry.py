"""`usher databases retry`: one event in one queue, and the effect goes on from the row's state."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aio_pika
import asyncpg
import pytest
import structlog

from consumer.consume import one_by_one
from local.postgres import PostgresCluster
from shared.errors import PermanentError
from shared.events import UserEvent, decode
from tests.cli.conftest import Usher
from tests.consumer.provisioning import Scripted, World, deliver, new_user, postgres_provider
from tests.support.broker import depth, drain, read_log
from tests.support.consumers import make_consumer, running
from tests.support.events import user_event
from tests.support.eventually import eventually

QUEUE = "usher.provision_database"


@pytest.fixture
def user() -> str:
    return new_user()


@pytest.fixture
async def world(
    pool: asyncpg.Pool[asyncpg.Record],
    database_url: str,
    amqp_url: str,
    postgres: PostgresCluster,
    user: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[World]:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("AMQP_URL", amqp_url)
    provider = postgres_provider(postgres.url("postgres"))
    yield World(pool, provider)
    await provider.close()
    await pool.execute(f'drop database if exists "{user}" with (force)')


async def failed(world: World, user: str) -> UserEvent:
    """A creation that failed for good; returns the event that had asked for it."""
    provider = Scripted(world.provider)
    provider.create_errors = [PermanentError("a stranger's is in the way")]
    event = user_event("user.created", user)
    with pytest.raises(PermanentError):
        await world.effect(provider=provider)(event)
    return event


async def test_a_failed_creation_is_made_good_by_the_consumer(
    usher: Usher, world: World, user: str, amqp_url: str
) -> None:
    await failed(world, user)

    done = await usher("databases", "retry", user)

    assert done.code == 0, done.err
    assert f"{user}, failed until now" in done.out
    consumer = make_consumer(one_by_one(world.effect()), [amqp_url], name="provision_database")
    async with running(consumer):
        await eventually(lambda: _is_ready(world, user), what="ready")
    assert (await world.row(user)).attempts == 2


async def test_the_event_is_the_one_that_had_asked_and_is_in_no_other_queue(
    usher: Usher, world: World, user: str, amqp_url: str
) -> None:
    original = await failed(world, user)

    await usher("databases", "retry", user)
    await usher("databases", "retry", user)

    first, second = await drain(amqp_url, QUEUE)
    assert first.body == second.body
    event = decode(first.body)
    assert (event.id, event.type, event.subject) == (original.id, "user.created", user)
    assert first.headers["attempt"] == 1
    assert (first.properties["message_id"], first.properties["delivery_mode"]) == (original.id, 2)
    assert [await depth(amqp_url, queue) for queue in ("usher.sync_user", "usher.unrouted")] == [0, 0]
    with pytest.raises(TimeoutError):
        await read_log(amqp_url, count=1, timeout_s=1)


@pytest.mark.parametrize("state", ["requested", "creating", "quota_blocked", "failed"])
async def test_every_creation_that_is_not_done_can_be_retried(
    usher: Usher, world: World, user: str, amqp_url: str, state: str
) -> None:
    await failed(world, user)
    await world.pool.execute("update databases set state = $1", state)
    assert (await usher("databases", "retry", user)).code == 0
    assert await depth(amqp_url, QUEUE) == 1


@pytest.mark.parametrize("state", ["ready", "held", "deleted"])
async def test_where_there_is_nothing_to_retry_nothing_is_published(
    usher: Usher, world: World, user: str, amqp_url: str, state: str
) -> None:
    if state != "deleted":
        await world.effect()(user_event("user.created", user))
    if state != "ready":
        await deliver(world.effect(), user_event("user.deleted", user))

    done = await usher("databases", "retry", user)

    assert done.code == 1
    assert done.err == f"usher: the database of {user} is {state}: there is nothing to retry\n"
    assert await depth(amqp_url, QUEUE) == 0


async def test_a_trail_is_left_in_the_log(usher: Usher, world: World, user: str) -> None:
    original = await failed(world, user)
    with structlog.testing.capture_logs() as lines:
        await usher("databases", "retry", user)
    assert {
        "event": "database_retry_requested",
        "log_level": "info",
        "user_id": user,
        "id": original.id,
        "state": "failed",
        "attempts": 1,
    } in lines


async def test_without_the_queue_it_says_so_and_leaves_no_trail(
    usher: Usher, world: World, user: str, bare_vhost_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await failed(world, user)
    async with await aio_pika.connect(bare_vhost_url) as connection:
        channel = await connection.channel()
        await channel.queue_delete(QUEUE)
    monkeypatch.setenv("AMQP_URL", bare_vhost_url)
    with structlog.testing.capture_logs() as lines:
        done = await usher("databases", "retry", user)
    assert (done.code, done.err) == (1, f"usher: there is no queue {QUEUE}: run `usher topology`\n")
    assert [line for line in lines if line["event"] == "database_retry_requested"] == []


async def _is_ready(world: World, user: str) -> bool:
    return (await world.row(user)).state == "ready"
