"""Messages come off the wire whole and in their order, below aio-pika or, should aiormq change, the long way round."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aio_pika
import aiormq.channel
import pytest

from consumer import intake
from consumer.subscription import Subscription
from tests.support.eventually import eventually

WORK = "usher.sync_user"
SIZES = (0, 1, 131_064, 131_065, 400_000, 7)  # a frame holds 131,064 bytes of a body


@asynccontextmanager
async def _subscribed(amqp_url: str) -> AsyncIterator[Subscription]:
    subscription = Subscription("sync_user", addresses=[amqp_url], prefetch=20)
    task = asyncio.create_task(subscription.link.run())
    await eventually(lambda: subscription.registered, timeout_s=40)
    yield subscription
    task.cancel()
    await asyncio.wait([task])
    await subscription.link.close()


async def _send(amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        for number, size in enumerate(SIZES):
            message = aio_pika.Message(b"x" * size, message_id=f"msg_{number}", headers={"attempt": number + 1})
            await channel.default_exchange.publish(message, WORK)


async def _taken(subscription: Subscription) -> list[tuple[str | None, int, int]]:
    taken: list[tuple[str | None, int, int]] = []
    async with asyncio.timeout(40):
        while len(taken) < len(SIZES):
            for delivery in await subscription.take(10):
                taken.append((delivery.event_id, len(delivery.body), delivery.attempt))
                await delivery.ack()
    return taken


EXPECTED = [(f"msg_{number}", size, number + 1) for number, size in enumerate(SIZES)]


async def test_messages_of_any_size_arrive_whole_and_in_order_without_the_librarys_tasks(
    amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def not_this_way(_channel: object, _frame: object) -> None:
        raise AssertionError("aiormq was asked to make a task for a delivery")

    monkeypatch.setattr(aiormq.channel.Channel, "_on_deliver_frame", not_this_way)
    async with _subscribed(amqp_url) as subscription:
        await _send(amqp_url)
        assert await _taken(subscription) == EXPECTED
        assert subscription.registered


async def test_where_the_intake_gets_nothing_the_librarys_own_way_serves(
    amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "attach", lambda *_: None)
    async with _subscribed(amqp_url) as subscription:
        await _send(amqp_url)
        assert sorted(await _taken(subscription)) == EXPECTED
