"""A registration that is lost while the connection looks alive is noticed, and taken up again."""

import asyncio

import aio_pika
import pytest
from prometheus_client import CollectorRegistry

from consumer import presence as module
from consumer import readiness
from consumer.consume import Consumer, Limits, one_by_one
from consumer.presence import Presence
from consumer.subscription import QueueLook, Subscription
from shared.events import UserEvent
from tests.support.broker import depth
from tests.support.consumers import make_consumer, running
from tests.support.events import publish, user_event
from tests.support.eventually import eventually
from tests.support.tcp_proxy import TcpProxy

WORK = "usher.sync_user"
PATIENCE_S = 60


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.05)


class Effect:
    def __init__(self) -> None:
        self.seen: list[str] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, event: UserEvent) -> None:
        await self.go_on.wait()
        self.seen.append(event.id)


async def _forget_behind_its_back(consumer: Consumer) -> None:
    """The broker forgets the consumer; neither the channel nor the connection says so."""
    subscription = consumer.subscription
    assert subscription._channel is not None
    assert subscription._tag is not None
    await subscription._channel.basic_cancel(subscription._tag)
    assert subscription.registered  # so it looks


async def test_a_registration_that_the_broker_has_lost_is_taken_up_again(amqp_url: str) -> None:
    effect = Effect()
    async with running(make_consumer(one_by_one(effect), [amqp_url])) as consumer:
        opened_at = consumer.subscription.link.state.since
        await _forget_behind_its_back(consumer)
        await publish(amqp_url, user_event(event_id="msg_a"))
        await eventually(lambda: effect.seen == ["msg_a"], timeout_s=PATIENCE_S)
        assert consumer.subscription.link.state.since > opened_at


async def test_messages_that_are_ready_and_never_come_are_noticed_though_the_queue_has_other_consumers(
    amqp_url: str,
) -> None:
    effect = Effect()
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=1)
        queue = await channel.get_queue(WORK, ensure=False)

        async def keep(_message: aio_pika.abc.AbstractIncomingMessage) -> None: ...

        async with running(make_consumer(one_by_one(effect), [amqp_url])) as consumer:
            await queue.consume(keep)
            await _forget_behind_its_back(consumer)
            await publish(amqp_url, *(user_event(event_id=f"msg_{number}") for number in range(3)))
            await eventually(lambda: len(effect.seen) == 2, timeout_s=PATIENCE_S)


async def test_an_idle_consumer_and_one_that_has_its_hands_full_are_left_alone(amqp_url: str) -> None:
    effect = Effect()
    effect.go_on.clear()
    async with running(make_consumer(one_by_one(effect), [amqp_url], limits=Limits(workers=1))) as consumer:
        opened_at = consumer.subscription.link.state.since
        looks = _count_looks(consumer.presence)
        await eventually(lambda: looks[0] > 6, timeout_s=PATIENCE_S)
        await publish(amqp_url, *(user_event() for _ in range(10)))
        await eventually(lambda: consumer.in_flight == 1, timeout_s=PATIENCE_S)
        full = looks[0]
        await eventually(lambda: looks[0] > full + 6, timeout_s=PATIENCE_S)
        assert await depth(amqp_url, WORK) == 8
        assert consumer.subscription.link.state.since == opened_at
        assert consumer.presence.registered is None
        effect.go_on.set()
        await eventually(lambda: len(effect.seen) == 10, timeout_s=PATIENCE_S)


def _count_looks(presence: Presence) -> list[int]:
    looks, judge = [0], presence._judge

    def counted(look: QueueLook) -> None:
        looks[0] += 1
        judge(look)

    presence._judge = counted  # type: ignore[method-assign] # counts
    return looks


async def test_a_channel_that_the_broker_closes_is_replaced(amqp_url: str) -> None:
    effect = Effect()
    async with running(make_consumer(one_by_one(effect), [amqp_url])) as consumer:
        subscription = consumer.subscription
        opened_at = subscription.link.state.since
        assert subscription._channel is not None
        # An unknown delivery tag is answered as an acknowledgement that took too long is: 406, and the channel is gone.
        await subscription._channel.basic_ack(4711)
        await eventually(
            lambda: subscription.registered and subscription.link.state.since > opened_at, timeout_s=PATIENCE_S
        )
        await publish(amqp_url, user_event(event_id="msg_a"))
        await eventually(lambda: effect.seen == ["msg_a"], timeout_s=PATIENCE_S)


async def test_a_half_open_silent_connection_is_given_up_without_waiting_for_heartbeats(
    amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_TIMEOUT_S", 0.5)
    effect = Effect()
    port = aio_pika.connection.make_url(amqp_url).port or 0
    async with TcpProxy("127.0.0.1", port) as proxy:
        through = amqp_url.replace(f":{port}/", f":{proxy.port}/")
        # A second address that works: a silent one may stay silent.
        async with running(make_consumer(one_by_one(effect), [through, amqp_url])) as consumer:
            proxy.black_hole()
            await publish(amqp_url, user_event(event_id="msg_a"))
            await eventually(lambda: not consumer.subscription.link.state.open, timeout_s=PATIENCE_S, every_s=0.005)


async def test_the_levels_of_health_are_reached_one_after_the_other(amqp_url: str) -> None:
    effect = Effect()
    effect.go_on.clear()
    consumer = make_consumer(one_by_one(effect), [amqp_url], registry=CollectorRegistry())
    assert readiness.levels(consumer) == {"process": True, "connection": False, "registered": False, "progress": False}
    async with running(consumer):
        await eventually(lambda: all(readiness.levels(consumer).values()), timeout_s=PATIENCE_S)
        assert set(readiness.details(consumer)["dependencies"]) == {"dependency", "broker_in", "broker_out"}  # type: ignore[call-overload] # a dict
        await publish(amqp_url, user_event())
        await eventually(lambda: consumer.presence.held_s > 0, timeout_s=PATIENCE_S)
        assert readiness.checks(consumer)["progress"]() is None
        held = consumer.presence.held_s
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(module, "HELD_TOO_LONG_S", held)
            await eventually(readiness.checks(consumer)["progress"], timeout_s=PATIENCE_S)
            assert not readiness.levels(consumer)["progress"]
        effect.go_on.set()
        await eventually(lambda: consumer.presence.held_s == 0, timeout_s=PATIENCE_S)


@pytest.mark.parametrize(
    ("looks", "doubt"),
    [
        ([QueueLook(1, 0, 0, room=True)], None),
        ([QueueLook(1, 0, 0, room=True), QueueLook(1, 1, 0, room=True)], "messages are ready, and none"),
        ([QueueLook(1, 0, 0, room=True), QueueLook(0, 0, 0, room=True)], "the broker has no consumer"),
        ([QueueLook(1, 1, 0, room=True), QueueLook(1, 1, 1, room=True)], None),
        ([QueueLook(1, 1, 0, room=False)] * 3, None),
        ([QueueLook(0, 1, 0, room=True)] * 3, None),
    ],
)
def test_one_look_alone_proves_nothing_and_two_raise_a_doubt(looks: list[QueueLook], doubt: str | None) -> None:
    presence = Presence(Subscription("sync_user", addresses=["amqp://127.0.0.1:1/"], prefetch=1))
    for look in looks:
        presence._judge(look)
    assert (presence._why or "").startswith(doubt or "")
    assert (presence._why is None) is (doubt is None)
