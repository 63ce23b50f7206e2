"""Messages come off the wire whole and in their order, below aio-pika or, should aiormq change, the long way round."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import aio_pika
import aiormq.channel
import pamqp.encode
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader, ProtocolHeader
from pamqp.heartbeat import Heartbeat

from consumer.consume import one_by_one
from consumer.delivery import AmqpDelivery, ack_all
from consumer.intake import Arrived, Intake
from consumer.subscription import Subscription
from shared.events import UserEvent
from tests.support.broker import depth
from tests.support.consumers import make_consumer, running
from tests.support.events import publish, user_event
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
    monkeypatch.setattr(Intake, "attach", lambda *_: None)
    async with _subscribed(amqp_url) as subscription:
        await _send(amqp_url)
        assert sorted(await _taken(subscription)) == EXPECTED


async def _send_with_time(amqp_url: str, seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message with a time in its headers that no datetime can hold; aio-pika would not write it."""
    encoded: Callable[[Any], bytes] = pamqp.encode.encode_table_value

    def encode(value: object) -> bytes:
        return b"T" + struct.pack(">Q", seconds) if value == "far" else encoded(value)

    with monkeypatch.context() as patched:
        patched.setattr(pamqp.encode, "encode_table_value", encode)
        async with await aio_pika.connect(amqp_url) as connection:
            channel = await connection.channel()
            message = aio_pika.Message(b"{}", message_id="msg_far", headers={"x": "far"})
            await channel.default_exchange.publish(message, WORK)


async def test_a_message_whose_header_cannot_be_read_is_dead_lettered_alone_and_cuts_no_connection(
    amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    async def effect(event: UserEvent) -> None:
        seen.append(event.id)

    await publish(amqp_url, user_event(event_id="msg_before"))
    await _send_with_time(amqp_url, 2**62, monkeypatch)
    await publish(amqp_url, user_event(event_id="msg_after"))
    async with running(make_consumer(one_by_one(effect), [amqp_url])) as consumer:
        opened_at = consumer.subscription.link.state.since
        await eventually(lambda: sorted(seen) == ["msg_after", "msg_before"], timeout_s=40)

        async def dead() -> bool:
            return await depth(amqp_url, f"{WORK}.dead") == 1

        await eventually(dead, timeout_s=40)
        assert consumer.subscription.link.state.since == opened_at
        assert consumer.subscription.held_since is None


class Inner(asyncio.Protocol):
    """What aiormq would read."""

    def __init__(self) -> None:
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data


def _delivery(tag: int, body: bytes, *, frames: int) -> list[bytes]:
    cuts = [len(body) * cut // frames for cut in range(frames + 1)]
    parts = [body[start:end] for start, end in pairwise(cuts) if end > start]
    header = ContentHeader(0, len(body), commands.Basic.Properties(message_id=f"msg_{tag}"))
    deliver = commands.Basic.Deliver(
        "ctag", tag, redelivered=False, exchange="usher.events", routing_key="user.created"
    )
    whole: list[frame.FrameTypes] = [deliver, header, *(ContentBody(part) for part in parts)]
    return [frame.marshal(part, 1) for part in whole]


_OTHERS = [
    Heartbeat().marshal(),
    frame.marshal(commands.Basic.ConsumeOk("ctag"), 1),
    frame.marshal(commands.Basic.Ack(7, multiple=True), 1),
    *_delivery(9, b"of another channel", frames=1),
]
_OTHERS[3:] = [part[:1] + b"\x00\x02" + part[3:] for part in _OTHERS[3:]]
_FETCHED = frame.marshal(commands.Basic.GetOk(8, redelivered=False, exchange="", routing_key="q", message_count=0), 1)
_OTHERS.append(b"".join([_FETCHED, *_delivery(8, b"asked for, not pushed", frames=1)[1:]]))


@given(
    bodies=st.lists(st.binary(max_size=40), max_size=5),
    others=st.lists(st.sampled_from(_OTHERS), max_size=5),
    cuts=st.lists(st.integers(0, 2000), max_size=12),
    frames=st.integers(1, 3),
)
async def test_however_the_bytes_come_deliveries_are_taken_and_all_else_is_passed_on(
    bodies: list[bytes], others: list[bytes], cuts: list[int], frames: int
) -> None:
    inner, arrived = Inner(), list[Arrived]()
    intake = Intake(inner)
    intake.attach(1, arrived.append, lambda _: None)
    stream = b""
    for number in range(max(len(bodies), len(others))):
        stream += b"".join(_delivery(number + 1, bodies[number], frames=frames) if number < len(bodies) else [])
        stream += others[number] if number < len(others) else b""
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    for start, end in pairwise(places):
        intake.data_received(stream[start:end])
    assert [(message.tag, message.properties.message_id, message.body) for message in arrived] == [
        (number, f"msg_{number}", body) for number, body in enumerate(bodies, 1)
    ]
    # What is taken is not seen by aiormq, which is told by a heartbeat now and then that the connection lives.
    beat = Heartbeat().marshal()
    assert inner.data.replace(beat, b"") == b"".join(others).replace(beat, b"")


async def test_a_message_that_the_end_of_its_channel_cuts_short_is_forgotten() -> None:
    inner, arrived = Inner(), list[Arrived]()
    intake = Intake(inner)
    intake.attach(1, arrived.append, lambda _: None)
    closing = frame.marshal(commands.Channel.Close(406, "timed out", 0, 0), 1)
    intake.data_received(b"".join(_delivery(1, b"body", frames=2)[:-1]) + closing)
    assert inner.data.endswith(closing)
    assert arrived == []


async def test_what_speaks_no_amqp_is_left_to_aiormq_whole() -> None:
    inner = Inner()
    intake = Intake(inner)
    for part in (ProtocolHeader().marshal(), b"HTTP/1.1 400"):
        intake.data_received(part)
    assert inner.data == ProtocolHeader().marshal() + b"HTTP/1.1 400"


async def test_workers_that_acknowledge_at_once_never_overtake_each_other(amqp_url: str) -> None:
    # Enough at once to fill the library's queue of frames to write, where an order could get lost.
    await publish(amqp_url, *(user_event() for _ in range(300)))
    subscription = Subscription("sync_user", addresses=[amqp_url], prefetch=300)
    task = asyncio.create_task(subscription.link.run())
    held: list[AmqpDelivery] = []
    async with asyncio.timeout(60):
        while len(held) < 300:
            held += await subscription.take(300)
    # Deliveries can come before the link counts as open, which is when `since` is set.
    await eventually(lambda: subscription.link.state.open)
    opened_at = subscription.link.state.since
    shares = [held[start::3] for start in (2, 1, 0)]
    await asyncio.gather(*(ack_all(share[place : place + 10]) for place in range(0, 100, 10) for share in shares))

    async def nothing_left() -> bool:
        return subscription.held_since is None and await depth(amqp_url, WORK) == 0

    await eventually(nothing_left, timeout_s=40)
    assert subscription.link.state.since == opened_at
    task.cancel()
    await asyncio.wait([task])
    await subscription.link.close()
