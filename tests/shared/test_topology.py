"""The topology on a real broker: declared idempotently, and every difference named."""

import json
from typing import Any
from urllib.parse import quote, urlsplit

import aio_pika
import pytest

from local.rabbitmq import RabbitNode
from shared import topology
from shared.declare import check, declare
from shared.errors import TopologyError
from shared.topology import RETRY_DELAYS_S, retry_queue_of
from tests.support.broker import Stored, depth, drain, management
from tests.support.events import publish, user_event
from tests.support.eventually import eventually


def test_every_queue_is_replicated_limited_and_refuses_rather_than_drops() -> None:
    for queue in topology.topology().queues:
        if queue.name == topology.LOG_QUEUE:
            assert queue.arguments["x-queue-type"] == "stream"
            continue
        assert queue.arguments["x-queue-type"] == "quorum"
        assert queue.arguments["x-overflow"] == "reject-publish"
        # -1 means "after the first requeue" on 3.10 and "never" on 4.x: only a positive number means the same on both.
        assert int(queue.arguments["x-delivery-limit"]) > 0


def test_names_say_what_the_queues_are_for() -> None:
    names = [queue.name for queue in topology.topology().queues]
    assert names[:7] == [
        "usher.sync_user",
        "usher.sync_user.retry.5s",
        "usher.sync_user.retry.30s",
        "usher.sync_user.retry.5m",
        "usher.sync_user.retry.30m",
        "usher.sync_user.retry.2h",
        "usher.sync_user.dead",
    ]
    assert names[-3:] == ["usher.log", "usher.unrouted", "usher.ingress.dead"]
    assert len(names) == len(set(names)) == 17


async def test_declaring_twice_changes_nothing(amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        await declare(connection, topology.topology())
        await check(connection, topology.topology())


async def test_a_missing_queue_is_named_with_what_to_do(amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        await (await connection.channel()).queue_delete("usher.sync_user.retry.5m")
        with pytest.raises(TopologyError, match=r"queue usher\.sync_user\.retry\.5m is missing.*usher topology"):
            await check(connection, topology.topology())


async def test_a_missing_exchange_is_named(bare_vhost_url: str) -> None:
    async with await aio_pika.connect(bare_vhost_url) as connection:
        with pytest.raises(TopologyError, match=r"exchange usher\.unrouted is missing"):
            await check(connection, topology.topology())


async def test_a_queue_with_another_argument_is_named_with_the_argument(amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.queue_delete("usher.sync_user")
        other: dict[str, Any] = {"x-queue-type": "quorum", "x-delivery-limit": 3}
        await channel.declare_queue("usher.sync_user", durable=True, arguments=other)
        for act in (check, declare):
            with pytest.raises(TopologyError, match=r"queue usher\.sync_user exists.*x-"):
                await act(connection, topology.topology())


async def test_an_exchange_of_another_kind_is_named(bare_vhost_url: str) -> None:
    async with await aio_pika.connect(bare_vhost_url) as connection:
        await (await connection.channel()).declare_exchange("usher.events", "fanout", durable=True)
        with pytest.raises(TopologyError, match=r"exchange usher\.events exists.*type"):
            await declare(connection, topology.topology())


async def test_checking_creates_nothing(bare_vhost_url: str) -> None:
    async with await aio_pika.connect(bare_vhost_url) as connection:
        with pytest.raises(TopologyError):
            await check(connection, topology.topology())
        with pytest.raises(TopologyError, match=r"usher\.unrouted is missing"):
            await check(connection, topology.topology())


async def test_a_user_without_configure_rights_can_check_presence(amqp_url: str, rabbit: RabbitNode) -> None:
    vhost = urlsplit(amqp_url).path[1:]
    management(rabbit, "PUT", "users/reader", {"password": "reader", "tags": ""})
    rights = {"configure": "^$", "write": ".*", "read": ".*"}
    management(rabbit, "PUT", f"permissions/{quote(vhost, safe='')}/reader", rights)
    address = f"amqp://reader:reader@127.0.0.1:{rabbit.amqp_port}/{vhost}"
    async with await aio_pika.connect(address) as connection:
        await check(connection, topology.topology())
        with pytest.raises(TopologyError, match="no right to configure"):
            await declare(connection, topology.topology())
    management(rabbit, "DELETE", "users/reader")


async def test_each_event_type_reaches_its_effects_and_the_log(amqp_url: str) -> None:
    await publish(amqp_url, user_event("user.created"), user_event("user.updated"), user_event("user.deleted"))

    async def types(queue: str) -> list[str]:
        return [stored.properties["type"] for stored in await drain(amqp_url, queue)]

    assert await types("usher.sync_user") == ["user.created", "user.updated", "user.deleted"]
    assert await types("usher.provision_database") == ["user.created", "user.deleted"]
    assert await types("usher.unrouted") == []


async def test_what_no_queue_takes_is_kept_as_unrouted(amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel(on_return_raises=True)
        exchange = await channel.get_exchange("usher.events", ensure=False)
        await exchange.publish(aio_pika.Message(b"{}"), "organization.created")
    assert await depth(amqp_url, "usher.unrouted") == 1


async def test_a_retry_queue_hands_back_to_the_work_queue_with_its_headers(amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        message = aio_pika.Message(json.dumps({}).encode(), headers={"attempt": 3}, type="user.created")
        await channel.default_exchange.publish(message, retry_queue_of("usher.sync_user", RETRY_DELAYS_S[0]))

    async def back() -> list[Stored]:
        return await drain(amqp_url, "usher.sync_user")

    (stored,) = await eventually(back, timeout_s=15)
    assert stored.headers["attempt"] == 3
    assert stored.properties["type"] == "user.created"
