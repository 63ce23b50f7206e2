"""A server goes away under load and comes back: the ingress says so honestly, and every accepted event is applied."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from local.postgres import PostgresCluster
from local.rabbitmq import RabbitNode
from tests.support.broker import depth, running_node
from tests.support.eventually import eventually
from tests.support.programs import system

DEAD = ("usher.sync_user.dead", "usher.provision_database.dead", "usher.ingress.dead", "usher.unrouted")


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    """A node of this file alone: what its kills leave behind troubles no other test."""
    with running_node(tmp_path_factory.mktemp("rabbitmq")) as node:
        yield node


async def _applied(pool: Any, count: int) -> bool:
    users = await pool.fetchval("select count(*) from users")
    ready = await pool.fetchval("select count(*) from databases where state = 'ready'")
    return bool((users, ready) == (count, count))


async def _dead(amqp_url: str) -> int:
    return sum([await depth(amqp_url, queue) for queue in DEAD])


async def test_without_a_broker_webhooks_are_refused_and_with_it_accepted_again(
    tmp_path: Path, amqp_url: str, database_url: str, pool: Any, rabbit: RabbitNode
) -> None:
    async with system(tmp_path, amqp_url=amqp_url, database_url=database_url) as usher:
        before = await usher.send("user.created", count=20)
        rabbit.kill()
        refused = await usher.send("user.created", count=20, concurrency=20)
        assert {answer.status for answer in refused.answers} == {503}
        async with aiohttp.ClientSession() as session, session.get(usher.url) as response:
            assert response.status == 405  # alive all the same
        rabbit.start()
        after = await usher.send("user.created", count=20, retries=20)
        accepted = {answer.webhook.user_id for answer in (*before.answers, *after.answers) if answer.status == 202}
        assert len(accepted) == 40
        await eventually(lambda: _applied(pool, 40), timeout_s=60, what="all accepted are applied")
        assert await _dead(amqp_url) == 0


async def test_a_refusal_says_when_to_come_again(
    tmp_path: Path, amqp_url: str, database_url: str, rabbit: RabbitNode
) -> None:
    async with system(tmp_path, amqp_url=amqp_url, database_url=database_url) as usher:
        rabbit.pause()
        try:
            tally = await usher.send("user.created")
        finally:
            rabbit.resume()
        (answer,) = tally.answers
        assert answer.status == 503
        assert answer.seconds < 10
        await eventually(lambda: _accepted(usher), timeout_s=60, what="accepted again")


async def _accepted(usher: Any) -> bool:
    return [answer.status for answer in (await usher.send("user.created")).answers] == [202]


async def test_without_postgres_events_wait_and_none_is_given_up(
    tmp_path: Path, amqp_url: str, database_url: str, pool: Any, postgres: PostgresCluster
) -> None:
    async with system(tmp_path, amqp_url=amqp_url, database_url=database_url) as usher:
        postgres.kill()
        tally = await usher.send("user.created", count=50)
        assert {answer.status for answer in tally.answers} == {202}
        for consumer in usher.consumers:
            await eventually(lambda consumer=consumer: _paused(consumer), timeout_s=40, what="paused")  # type: ignore[misc] # bound in the loop
        assert await _dead(amqp_url) == 0
        assert all(program.alive for program in usher.programs)
        postgres.start()
        await eventually(lambda: _applied(pool, 50), timeout_s=90, what="all applied")
        assert await _dead(amqp_url) == 0


async def _paused(consumer: Any) -> bool:
    status, text = await consumer.readiness()
    return bool(status == 503 and json.loads(text)["breaker"]["state"] == "open")
