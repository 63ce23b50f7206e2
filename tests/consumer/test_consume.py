"""The loop on a real broker: what becomes of every message, counted."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import aio_pika
import aiormq.channel
import pytest
from prometheus_client import CollectorRegistry

from consumer import consume
from consumer.consume import Effect, Limits, one_by_one
from shared import topology
from shared.broker import BrokerLink
from shared.declare import declare
from shared.errors import DependencyDown, NotYet, PermanentError, ThrottledError, TransientError
from shared.events import CONTENT_TYPE, UserEvent
from shared.history import Failure, failures, noted
from shared.messages import event_message
from tests.support.broker import Stored, depth, drain
from tests.support.consumers import make_consumer, running
from tests.support.events import publish, user_event
from tests.support.eventually import eventually
from tests.support.tcp_proxy import TcpProxy

WORK = "usher.sync_user"
DEAD = "usher.sync_user.dead"
RETRY_5S = "usher.sync_user.retry.5s"
RETRY_30S = "usher.sync_user.retry.30s"


def _raising(error: Exception | None, seen: list[str]) -> Effect:
    async def effect(event: UserEvent) -> None:
        seen.append(event.id)
        if error is not None:
            raise error

    return one_by_one(effect)


async def _waiting_in(amqp_url: str, queue: str, count: int) -> list[Stored]:
    async def full() -> bool:
        return await depth(amqp_url, queue) == count

    await eventually(full, what=f"{count} in {queue}")
    return await drain(amqp_url, queue)


async def _empty(amqp_url: str, *queues: str) -> None:
    async def all_empty() -> bool:
        return not sum([await depth(amqp_url, queue) for queue in queues])

    await eventually(all_empty, what=f"empty: {queues}")


async def test_an_event_whose_effect_came_about_is_gone(amqp_url: str) -> None:
    seen: list[str] = []
    await publish(amqp_url, user_event(event_id="msg_a"))
    async with running(make_consumer(_raising(None, seen), [amqp_url])):
        await eventually(lambda: seen == ["msg_a"])
    await _empty(amqp_url, WORK, DEAD, RETRY_5S)


async def test_a_transient_error_waits_on_the_ladder_with_the_attempt_counted(amqp_url: str) -> None:
    await publish(amqp_url, event := user_event(event_id="msg_a"))
    async with running(make_consumer(_raising(TransientError("a lock"), []), [amqp_url])):
        (stored,) = await _waiting_in(amqp_url, RETRY_5S, 1)
    assert stored.headers["attempt"] == 2
    assert stored.headers["reason"] == "transient"
    assert stored.headers["error"] == "TransientError: a lock"
    assert stored.headers["queue"] == WORK
    assert stored.properties["message_id"] == "msg_a"
    assert stored.properties["type"] == "user.created"
    assert stored.properties["app_id"] == "usher"
    assert stored.properties["content_type"] == CONTENT_TYPE
    assert stored.properties["timestamp"] == event.time.replace(microsecond=0)
    assert stored.properties["delivery_mode"] == 2
    assert stored.json["id"] == "msg_a"


async def test_what_waited_on_the_ladder_comes_back_and_is_applied(amqp_url: str) -> None:
    seen: list[str] = []

    async def fails_once(event: UserEvent) -> None:
        seen.append(event.id)
        if len(seen) == 1:
            raise TransientError("a lock")

    await publish(amqp_url, user_event(event_id="msg_a"))
    async with running(make_consumer(one_by_one(fails_once), [amqp_url])):
        await eventually(lambda: seen == ["msg_a", "msg_a"], timeout_s=15)
    await _empty(amqp_url, WORK, RETRY_5S, DEAD)


@pytest.mark.parametrize(
    ("error", "queue", "attempt"),
    [
        (NotYet("creating", 31), RETRY_30S, 1),
        (ThrottledError("slow down", 20), RETRY_30S, 2),
        (DependencyDown("gone"), RETRY_5S, 1),
        (ValueError("a bug"), RETRY_5S, 2),
    ],
)
async def test_each_kind_of_error_takes_its_own_way(amqp_url: str, error: Exception, queue: str, attempt: int) -> None:
    await publish(amqp_url, user_event())
    async with running(make_consumer(_raising(error, []), [amqp_url])):
        (stored,) = await _waiting_in(amqp_url, queue, 1)
    assert stored.headers["attempt"] == attempt


async def test_a_poison_message_is_dead_lettered_at_once_with_its_reason(amqp_url: str) -> None:
    seen: list[str] = []
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.default_exchange.publish(aio_pika.Message(b"\xff not an event", message_id="msg_x"), WORK)
    await publish(amqp_url, user_event(event_id="msg_good"))
    async with running(make_consumer(_raising(None, seen), [amqp_url])):
        (stored,) = await _waiting_in(amqp_url, DEAD, 1)
        await eventually(lambda: seen == ["msg_good"])
    assert stored.body == b"\xff not an event"
    assert stored.headers["reason"] == "undecodable"
    assert stored.headers["attempt"] == 1
    assert stored.headers["queue"] == WORK
    assert stored.headers["first_failed_at"].endswith("Z")


async def test_the_first_failure_is_remembered_over_all_attempts(amqp_url: str) -> None:
    message = event_message(user_event())
    message.headers |= {"attempt": 8, "first_failed_at": "2026-11-20T00:00:00.000Z"}
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.default_exchange.publish(message, WORK)
    async with running(make_consumer(_raising(TransientError("a lock"), []), [amqp_url])):
        (stored,) = await _waiting_in(amqp_url, DEAD, 1)
    assert stored.headers["first_failed_at"] == "2026-11-20T00:00:00.000Z"
    assert stored.headers["reason"] == "attempts_exhausted"
    assert stored.headers["attempt"] == 8


async def test_every_failed_attempt_is_told_on_the_dead_letter(amqp_url: str) -> None:
    message = event_message(user_event())
    before = Failure("2026-11-20T00:00:00.000Z", 7, "transient", "TransientError: another lock")
    message.headers |= {"attempt": 8, "history": noted(None, before)}
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.default_exchange.publish(message, WORK)
    async with running(make_consumer(_raising(TransientError("a lock"), []), [amqp_url])):
        (stored,) = await _waiting_in(amqp_url, DEAD, 1)
    first, last = failures(stored.headers["history"])
    assert first == before
    assert (last.attempt, last.reason, last.error) == (8, "attempts_exhausted", "TransientError: a lock")
    assert last.at


class _NotUtf8(str):
    """A long string that is not UTF-8: it is read as bytes, which aio-pika cannot write again."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        assert (encoding, errors) == ("utf-8", "strict")
        return b"\xff"


@pytest.mark.parametrize(
    "headers",
    [
        {"strange": "x" * 130_900},  # with ours added it would be too long for a frame
        {"first_failed_at": "x" * 130_900},
        {"history": "x" * 130_900},
        {"strange": _NotUtf8()},
        {"strange": [1, {"a": None}]},
        {"attempt": "x"},
    ],
    ids=["long", "long_first_failed_at", "long_history", "not_utf8", "nested", "attempt"],
)
async def test_headers_that_cannot_be_carried_on_keep_no_message_from_its_dead_letter_queue(
    amqp_url: str, headers: dict[str, Any]
) -> None:
    message = event_message(user_event())
    message.headers |= headers
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.default_exchange.publish(message, WORK)
    async with running(make_consumer(_raising(PermanentError("bad"), []), [amqp_url])):
        (stored,) = await _waiting_in(amqp_url, DEAD, 1)
    assert stored.headers["reason"] == "permanent"
    assert stored.headers["attempt"] == 1


async def test_in_a_batch_one_events_failure_is_its_own(amqp_url: str) -> None:
    batches: list[int] = []

    async def effect(events: Sequence[UserEvent]) -> list[Exception | None]:
        batches.append(len(events))
        return [PermanentError("bad") if event.id == "msg_3" else None for event in events]

    await publish(amqp_url, *(user_event(event_id=f"msg_{number}") for number in range(10)))
    async with running(make_consumer(effect, [amqp_url], limits=Limits(workers=1, batch=10))):
        (stored,) = await _waiting_in(amqp_url, DEAD, 1)
        await eventually(lambda: sum(batches) == 10)
    assert stored.properties["message_id"] == "msg_3"
    assert max(batches) > 1
    await _empty(amqp_url, WORK, RETRY_5S, DEAD)


async def test_a_batch_effect_that_raises_fails_all_its_events_alike(amqp_url: str) -> None:
    async def effect(_events: Sequence[UserEvent]) -> list[Exception | None]:
        raise TransientError("all of them")

    await publish(amqp_url, *(user_event() for _ in range(3)))
    async with running(make_consumer(effect, [amqp_url], limits=Limits(workers=1, batch=10))):
        assert len(await _waiting_in(amqp_url, RETRY_5S, 3)) == 3


async def test_a_batch_is_acknowledged_in_one_frame(amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    acks: list[tuple[int, bool]] = []
    ack = aiormq.channel.Channel.basic_ack

    async def noted(channel: aiormq.channel.Channel, tag: int, **how: bool) -> None:
        acks.append((tag, how["multiple"]))
        await ack(channel, tag, **how)

    monkeypatch.setattr(aiormq.channel.Channel, "basic_ack", noted)
    sizes: list[int] = []

    async def effect(events: Sequence[UserEvent]) -> list[Exception | None]:
        sizes.append(len(events))
        return [None] * len(events)

    await publish(amqp_url, *(user_event() for _ in range(100)))
    async with running(make_consumer(effect, [amqp_url], limits=Limits(workers=1, batch=50))):
        await eventually(lambda: sum(sizes) == 100)
        await eventually(lambda: len(acks) == len(sizes))
    assert acks[-1] == (100, True)
    assert all(multiple for _, multiple in acks)
    await _empty(amqp_url, WORK, DEAD, RETRY_5S)


async def test_what_one_worker_acknowledges_together_leaves_out_what_another_is_still_at(amqp_url: str) -> None:
    stuck, done = list[str](), list[str]()

    async def effect(events: Sequence[UserEvent]) -> list[Exception | None]:
        if not stuck:
            stuck.extend(event.id for event in events)
            await asyncio.Event().wait()
        done.extend(event.id for event in events)
        return [None] * len(events)

    await publish(amqp_url, *(user_event(event_id=f"msg_{number:02}") for number in range(30)))
    async with running(make_consumer(effect, [amqp_url], limits=Limits(workers=2, batch=5)), stop_s=0.1):
        await eventually(lambda: len(stuck) + len(done) == 30)
    again = await _waiting_in(amqp_url, WORK, len(stuck))
    assert sorted(stored.properties["message_id"] for stored in again) == sorted(stuck)


async def test_what_cannot_be_copied_holds_up_nothing_but_itself(amqp_url: str) -> None:
    done: set[str] = set()

    async def effect(events: Sequence[UserEvent]) -> list[Exception | None]:
        done.update(event.id for event in events)
        return [PermanentError("bad") if event.id == "msg_bad" else None for event in events]

    consumer = make_consumer(effect, [amqp_url], limits=Limits(workers=1, batch=10))
    consumer.outbound = BrokerLink(["amqp://127.0.0.1:1/"], name="nobody there")
    await publish(amqp_url, user_event(event_id="msg_bad"))
    async with running(consumer, stop_s=0.1):
        await eventually(lambda: "msg_bad" in done)
        await publish(amqp_url, *(user_event(event_id=f"msg_{number}") for number in range(30)))
        await eventually(lambda: len(done) == 31)
        await eventually(lambda: consumer.in_flight == 1, what="only the bad one is held")
    (again,) = await _waiting_in(amqp_url, WORK, 1)
    assert again.properties["message_id"] == "msg_bad"


async def test_no_more_events_are_at_work_at_once_than_there_are_workers(amqp_url: str) -> None:
    now = peak = done = 0

    async def effect(_event: UserEvent) -> None:
        nonlocal now, peak, done
        now += 1
        peak = max(peak, now)
        await asyncio.sleep(0.01)  # work that takes time, so that others could overlap it
        now -= 1
        done += 1

    await publish(amqp_url, *(user_event() for _ in range(40)))
    async with running(make_consumer(one_by_one(effect), [amqp_url], limits=Limits(workers=4))):
        await eventually(lambda: done == 40)
    assert peak == 4


async def test_a_clean_stop_finishes_what_is_under_way_and_gives_the_rest_back(amqp_url: str) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()
    seen: list[str] = []

    async def effect(event: UserEvent) -> None:
        started.set()
        await go_on.wait()
        seen.append(event.id)

    await publish(amqp_url, *(user_event(event_id=f"msg_{number}") for number in range(10)))
    async with running(make_consumer(one_by_one(effect), [amqp_url], limits=Limits(workers=1))) as consumer:
        await started.wait()
        stopping = asyncio.create_task(consumer.stop(5))
        await eventually(lambda: not consumer.subscription.registered)
        go_on.set()
        await stopping
    assert seen == ["msg_0"]

    async def nine_are_back() -> bool:
        return await depth(amqp_url, WORK) == 9

    await eventually(nine_are_back)


async def test_a_stop_does_not_wait_for_a_broker_that_has_gone_silent(amqp_url: str) -> None:
    port = aio_pika.connection.make_url(amqp_url).port or 0
    async with TcpProxy("127.0.0.1", port) as proxy:
        through = amqp_url.replace(f":{port}/", f":{proxy.port}/")
        async with running(make_consumer(_raising(None, []), [through]), stop_s=0.1) as consumer:
            proxy.black_hole()
            async with asyncio.timeout(5):
                await consumer.stop(0.1)


async def test_a_pause_does_not_wait_for_a_broker_that_has_gone_silent(
    amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumer.subscription.REGISTER_TIMEOUT_S", 0.2)
    port = aio_pika.connection.make_url(amqp_url).port or 0
    async with TcpProxy("127.0.0.1", port) as proxy:
        through = amqp_url.replace(f":{port}/", f":{proxy.port}/")
        async with running(make_consumer(_raising(None, []), [through]), stop_s=0.1) as consumer:
            proxy.black_hole()
            async with asyncio.timeout(5):
                await consumer.subscription.want(0)
            assert not consumer.subscription.link.state.open


async def test_a_worker_outlives_a_connection_that_closes_while_it_acknowledges(
    amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    ack, cut = aiormq.channel.Channel.basic_ack, asyncio.Event()

    async def cut_once(channel: aiormq.channel.Channel, tag: int, **how: bool) -> None:
        if cut.is_set():
            await ack(channel, tag, **how)
            return
        cut.set()
        raise asyncio.CancelledError  # what the library says when it closes a connection under a pending write

    monkeypatch.setattr(aiormq.channel.Channel, "basic_ack", cut_once)
    await publish(amqp_url, user_event(event_id="msg_a"), user_event(event_id="msg_b"))
    registry = CollectorRegistry()
    async with running(make_consumer(_raising(None, seen), [amqp_url], limits=Limits(workers=1), registry=registry)):
        await eventually(lambda: seen == ["msg_a", "msg_b"])
    labels = {"queue": WORK, "outcome": "Ack", "reason": ""}
    assert registry.get_sample_value("usher_messages_total", labels) == 1  # what was not settled is not counted


async def test_an_event_that_is_not_done_by_the_deadline_comes_again(amqp_url: str) -> None:
    started = asyncio.Event()

    async def effect(_event: UserEvent) -> None:
        started.set()
        await asyncio.Event().wait()

    await publish(amqp_url, user_event(event_id="msg_a"))
    async with running(make_consumer(one_by_one(effect), [amqp_url]), stop_s=0.1):
        await started.wait()
    (stored,) = await _waiting_in(amqp_url, WORK, 1)
    assert stored.properties["message_id"] == "msg_a"
    assert stored.headers["attempt"] == 1


async def test_after_a_cut_connection_the_consumer_is_registered_again_and_nothing_is_lost(amqp_url: str) -> None:
    seen: Counter[str] = Counter()

    async def effect(event: UserEvent) -> None:
        await asyncio.sleep(0.001)  # so that the cut finds some of them at work
        seen[event.id] += 1

    port = aio_pika.connection.make_url(amqp_url).port or 0
    async with TcpProxy("127.0.0.1", port) as proxy:
        through = amqp_url.replace(f":{port}/", f":{proxy.port}/")
        async with running(make_consumer(one_by_one(effect), [through])):
            ids = [f"msg_{number}" for number in range(200)]
            await publish(amqp_url, *(user_event(event_id=event_id) for event_id in ids[:100]))
            await eventually(lambda: len(seen) > 20)
            proxy.reset()
            await publish(amqp_url, *(user_event(event_id=event_id) for event_id in ids[100:]))
            await eventually(lambda: len(seen) == 200, what="all applied")
    assert set(seen) == set(ids)
    assert proxy.connections >= 4
    await _empty(amqp_url, WORK, DEAD, RETRY_5S)


async def test_a_deleted_queue_is_noticed_and_taken_up_again_when_it_is_back(amqp_url: str) -> None:
    seen: list[str] = []
    async with running(make_consumer(_raising(None, seen), [amqp_url])) as consumer:
        async with await aio_pika.connect(amqp_url) as connection:
            channel = await connection.channel()
            await channel.queue_delete(WORK)
            await eventually(lambda: not consumer.subscription.registered)
            await eventually(lambda: "usher topology" in (consumer.subscription.link.state.trouble or ""))
            await declare(connection, topology.topology())
        await eventually(lambda: consumer.subscription.registered)
        await publish(amqp_url, user_event(event_id="msg_a"))
        await eventually(lambda: seen == ["msg_a"])


async def test_a_message_that_was_handed_out_again_and_again_counts_as_crashed(amqp_url: str) -> None:
    seen: list[str] = []
    await publish(amqp_url, user_event(event_id="msg_killer"))
    for _ in range(5):
        connection = await aio_pika.connect(amqp_url)
        channel = await connection.channel()
        queue = await channel.get_queue(WORK, ensure=False)

        async def available(queue: aio_pika.abc.AbstractQueue = queue) -> object:
            return await queue.get(fail=False)

        await eventually(available)
        await connection.close()  # as a killed consumer does: without settling
    async with running(make_consumer(_raising(None, seen), [amqp_url])):
        (stored,) = await _waiting_in(amqp_url, RETRY_5S, 1)
    assert seen == []
    assert stored.headers["reason"] == "crashed_consumer"
    assert stored.headers["attempt"] == 2
    assert stored.headers.get("x-delivery-count", 0) == 0  # the copy begins anew


async def test_what_shared_a_batch_with_an_event_that_ends_its_consumer_is_applied_the_next_time(amqp_url: str) -> None:
    sizes, done = list[int](), set[str]()

    async def effect(events: Sequence[UserEvent]) -> list[Exception | None]:
        sizes.append(len(events))
        if any(event.id == "msg_0" for event in events):
            await asyncio.Event().wait()  # until the consumer ends
        done.update(event.id for event in events)
        return [None] * len(events)

    limits = Limits(workers=1, batch=20)
    await publish(amqp_url, *(user_event(event_id=f"msg_{number}") for number in range(20)))
    async with running(make_consumer(effect, [amqp_url], limits=limits), stop_s=0.1):
        await eventually(lambda: sizes)
    async with running(make_consumer(effect, [amqp_url], limits=limits), stop_s=0.1) as consumer:
        await eventually(lambda: len(done) == 19)
        await eventually(lambda: consumer.in_flight == 1)
    (again,) = await _waiting_in(amqp_url, WORK, 1)
    assert again.properties["message_id"] == "msg_0"


async def test_what_ends_its_consumer_at_once_is_not_begun_together_with_its_neighbours_every_time(
    amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, waits = list[str](), [3600.0, 0.0, 0.0]
    monkeypatch.setattr(consume, "random", SimpleNamespace(uniform=lambda _least, _most: waits.pop(0)))
    await publish(amqp_url, *(user_event(event_id=f"msg_{number}") for number in range(3)))
    for _ in range(2):
        async with await aio_pika.connect(amqp_url) as connection:
            channel = await connection.channel()
            queue = await channel.get_queue(WORK, ensure=False)
            held = list[object]()

            async def all_held(queue: aio_pika.abc.AbstractQueue = queue, held: list[object] = held) -> bool:
                if message := await queue.get(fail=False):
                    held.append(message)
                return len(held) == 3

            await eventually(all_held)
    async with running(make_consumer(_raising(None, done), [amqp_url]), stop_s=0.1):
        await eventually(lambda: len(done) == 2)
    (again,) = await _waiting_in(amqp_url, WORK, 1)
    assert sorted([*done, again.properties["message_id"]]) == ["msg_0", "msg_1", "msg_2"]


async def test_the_brokers_own_limit_dead_letters_what_nobody_can_take(amqp_url: str) -> None:
    await publish(amqp_url, user_event(event_id="msg_killer"))
    async with await aio_pika.connect(amqp_url) as connection:
        for _ in range(topology.WORK_DELIVERY_LIMIT + 1):
            channel = await connection.channel()
            queue = await channel.get_queue(WORK, ensure=False)

            async def taken(queue: aio_pika.abc.AbstractQueue = queue) -> object:
                return await queue.get(fail=False)

            message = await eventually(taken)
            assert isinstance(message, aio_pika.abc.AbstractIncomingMessage)
            await message.reject(requeue=True)
            await channel.close()
    (stored,) = await _waiting_in(amqp_url, DEAD, 1)
    assert stored.properties["message_id"] == "msg_killer"
    assert stored.headers["x-death"][0]["reason"] == "delivery_limit"
