"""The model's promises are RabbitMQ's: one script, written for a broker, sees the same at both."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import aio_pika
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import PublishError

from shared.declare import declare
from shared.topology import Queue, Topology
from tests.model.broker import DELIVERY_COUNT, Broker
from tests.model.driver import ADDRESS
from tests.model.loop import VirtualLoop
from tests.model.wire import Server

LIMIT: Final = 2
PATIENCE_S: Final = 40


def _quorum(limit: int, **arguments: str | int) -> dict[str, str | int]:
    named = {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}
    return {"x-queue-type": "quorum", "x-overflow": "reject-publish", "x-delivery-limit": limit, **named}


def _dead_lettered_to(queue: str) -> dict[str, str | int]:
    return {
        "dead_letter_exchange": "",
        "dead_letter_routing_key": queue,
        "dead_letter_strategy": "at-least-once",
    }


TOPOLOGY: Final = Topology(
    exchanges=(),
    queues=(
        Queue("work", _quorum(LIMIT, **_dead_lettered_to("dead"))),
        Queue("retry", _quorum(100, message_ttl=200, **_dead_lettered_to("work"))),
        Queue("dead", _quorum(100)),
    ),
)


@asynccontextmanager
async def _taking(address: str, queue: str, count: int, *, prefetch: int = 10) -> AsyncIterator[list[Any]]:
    """`count` messages of `queue`, unsettled; leaving closes the connection over them."""
    taken: list[AbstractIncomingMessage] = []
    enough = asyncio.Event()

    async def take(message: AbstractIncomingMessage) -> None:
        taken.append(message)
        if len(taken) == count:
            enough.set()

    async with await aio_pika.connect(address) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=prefetch)
        await (await channel.get_queue(queue, ensure=False)).consume(take)
        async with asyncio.timeout(PATIENCE_S):
            await enough.wait()
        yield taken


def _told(message: AbstractIncomingMessage) -> tuple[str | None, object, bool | None]:
    # Before anything was counted there may be no header.
    return message.message_id, message.headers.get(DELIVERY_COUNT, 0), message.redelivered


async def _script(address: str) -> list[object]:
    """What a client sees, in order."""
    async with await aio_pika.connect(address) as connection:
        channel = await connection.channel(on_return_raises=True)

        async def publish(message_id: str, queue: str) -> str:
            message = aio_pika.Message(b"x", message_id=message_id, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            try:
                return type(await channel.default_exchange.publish(message, queue)).__name__
            except PublishError:
                return "returned"

        seen: list[object] = [await publish("a", "nowhere"), await publish("a", "work")]
        for _ in range(LIMIT + 1):
            async with _taking(address, "work", 1) as (message,):
                seen.append(_told(message))
        async with _taking(address, "dead", 1) as (message,):
            # Not its count: from 4.0 on a message that the limit has ended keeps that of the queue it comes from.
            seen += [message.message_id, message.headers["x-death"][0]["reason"]]
            await message.ack()

        seen.append(await publish("b", "retry"))
        async with _taking(address, "work", 1) as (message,):
            seen += [_told(message), message.headers["x-death"][0]["reason"]]
            await message.ack()

        seen += [await publish(message_id, "work") for message_id in "cde"]
        async with _taking(address, "work", 3) as messages:
            await messages[1].ack(multiple=True)
        async with _taking(address, "work", 1, prefetch=1) as messages:
            seen += [_told(messages[0]), len(messages)]
            await messages[0].channel.basic_ack(messages[0].delivery_tag + 7)
            seen.append(await _closed_with(messages[0]))
        async with _taking(address, "work", 1) as (message,):
            seen.append(_told(message))
        return seen


async def _closed_with(message: AbstractIncomingMessage) -> str:
    closing = message.channel.closing
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.wait([closing])
    return type(closing.exception()).__name__


def _at_the_model() -> list[object]:
    server = Server(Broker(TOPOLOGY))
    loop = VirtualLoop(server.dial)
    task = loop.create_task(_script(ADDRESS))
    for _ in range(100):
        loop.pass_time(0.1)
        if server.broker.queues["retry"].ready:
            server.broker.expire(server.broker.queues["retry"])
    seen = task.result()
    loop.kill(None)
    loop.close()
    return seen


async def test_the_model_keeps_the_promises_that_rabbitmq_keeps(bare_vhost_url: str) -> None:
    async with await aio_pika.connect(bare_vhost_url) as connection:
        await declare(connection, TOPOLOGY)
    at_rabbitmq = await _script(bare_vhost_url)
    assert await asyncio.to_thread(_at_the_model) == at_rabbitmq
