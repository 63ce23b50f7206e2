"""An outage is not a failure: the consumer pauses, probes and goes on; nothing is dead-lettered, nothing is counted."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from prometheus_client import CollectorRegistry

from consumer import breaker as module
from consumer.breaker import Breaker, State
from consumer.consume import one_by_one
from shared.errors import DependencyDown, PermanentError
from shared.events import UserEvent
from tests.support.broker import depth, drain
from tests.support.consumers import make_consumer, running
from tests.support.events import publish, user_event
from tests.support.eventually import eventually

WORK = "usher.sync_user"
DEAD = "usher.sync_user.dead"
RETRY_5S = "usher.sync_user.retry.5s"


class Dependency:
    """Something that is up or down, and counts who asks."""

    def __init__(self) -> None:
        self.down = False
        self.probes = 0
        self.seen: Counter[str] = Counter()

    async def effect(self, event: UserEvent) -> None:
        if event.id.startswith("msg_bad"):
            raise PermanentError("bad")
        if self.down:
            raise DependencyDown("it is away")
        self.seen[event.id] += 1

    async def probe(self) -> None:
        self.probes += 1
        if self.down:
            raise DependencyDown("it is away")


async def _healthy() -> None: ...


def test_three_failures_in_a_row_open_it_and_a_success_in_between_does_not() -> None:
    changes: list[State] = []
    breaker = Breaker({"postgres": _healthy}, changed=changes.append)
    for number, outcome in enumerate(("fail", "fail", "succeed", "fail", "fail")):
        breaker.failed(DependencyDown("x"), f"msg_{number}") if outcome == "fail" else breaker.succeeded()
    assert changes == []
    breaker.failed(DependencyDown("the third"), "msg_third")
    assert changes == [State.OPEN]
    assert breaker.state.reason == "the third"


def test_one_event_that_fails_again_and_again_opens_nothing() -> None:
    breaker = Breaker({"postgres": _healthy}, changed=lambda _: None)
    for _ in range(20):
        breaker.failed(DependencyDown("x"), "msg_cursed")
    assert breaker.state.state is State.CLOSED


async def test_what_is_down_is_named_with_its_reason_and_since_when_until_an_event_succeeds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PROBE_FIRST_S", 0.001)
    down: dict[str, str] = {"provider": "503"}

    def probe_of(name: str) -> Callable[[], Awaitable[None]]:
        async def probe() -> None:
            if name in down:
                raise DependencyDown(down[name])

        return probe

    breaker = Breaker({name: probe_of(name) for name in ("postgres", "provider")}, changed=lambda _: None)
    running = asyncio.create_task(breaker.run())
    before = breaker.dependencies["provider"].since
    for number in range(3):
        breaker.failed(DependencyDown("x"), f"msg_{number}")
    await eventually(lambda: not breaker.dependencies["provider"].up)
    fallen = breaker.dependencies["provider"]
    assert (fallen.reason, breaker.dependencies["postgres"].up) == ("503", True)
    assert fallen.since > before
    down["provider"] = "504"
    await eventually(lambda: breaker.dependencies["provider"].reason == "504")
    assert breaker.dependencies["provider"].since == fallen.since
    down.clear()
    await eventually(lambda: breaker.state.state is State.HALF_OPEN)
    assert breaker.dependencies["provider"].up
    running.cancel()


async def test_a_success_while_the_probe_is_out_closes_it_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROBE_FIRST_S", 0.001)
    asked, answer, answered = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def probe() -> None:
        asked.set()
        await answer.wait()
        answered.set()

    changes: list[State] = []
    breaker = Breaker({"postgres": probe}, changed=changes.append)
    running = asyncio.create_task(breaker.run())
    for number in range(module.FAILURES_TO_OPEN):
        breaker.failed(DependencyDown("x"), f"msg_{number}")
    await asked.wait()
    breaker.succeeded()
    answer.set()
    await answered.wait()
    await eventually(lambda: not breaker._opened.is_set())
    assert changes == [State.OPEN, State.CLOSED]
    running.cancel()


def test_half_open_any_answer_of_the_dependency_closes_it_and_only_an_outage_opens_it_again() -> None:
    changes: list[State] = []
    breaker = Breaker({"postgres": _healthy}, changed=changes.append)
    for number in range(3):
        breaker.failed(DependencyDown("x"), f"msg_{number}")
    breaker.answered()  # a late answer to an event that was under way changes nothing
    breaker._go(State.HALF_OPEN, "x")
    breaker.answered()
    for number in range(2):
        breaker.failed(DependencyDown("x"), f"msg_{number}")
        breaker.answered()  # nor does it forget failures while closed
    breaker.failed(DependencyDown("the third"), "msg_third")
    assert changes == [State.OPEN, State.HALF_OPEN, State.CLOSED, State.OPEN]


async def test_during_an_outage_the_queue_keeps_the_backlog_and_all_is_applied_after_it(amqp_url: str) -> None:
    dependency = Dependency()
    dependency.down = True
    consumer = make_consumer(one_by_one(dependency.effect), [amqp_url], probe=dependency.probe)
    async with running(consumer):
        await publish(amqp_url, *(user_event(event_id=f"msg_{number}") for number in range(100)))
        await eventually(lambda: consumer.breaker.state.state is State.OPEN)
        await eventually(lambda: not consumer.subscription.registered)
        await eventually(lambda: dependency.probes >= 2)

        async def kept() -> bool:
            return await depth(amqp_url, WORK) + await depth(amqp_url, RETRY_5S) == 100

        await eventually(kept, what="all events are in the queue or on their way back to it")
        assert await depth(amqp_url, DEAD) == 0
        dependency.down = False
        await eventually(lambda: len(dependency.seen) == 100, timeout_s=30, what="all applied")
        assert consumer.breaker.state.state is State.CLOSED
    assert await depth(amqp_url, DEAD) == 0
    assert set(dependency.seen.values()) == {1}


async def test_what_an_outage_put_off_has_not_lost_an_attempt(amqp_url: str) -> None:
    dependency = Dependency()
    dependency.down = True
    async with running(make_consumer(one_by_one(dependency.effect), [amqp_url], probe=dependency.probe)):
        await publish(amqp_url, user_event())

        async def put_off() -> bool:
            return await depth(amqp_url, RETRY_5S) == 1

        await eventually(put_off)
    (stored,) = await drain(amqp_url, RETRY_5S)
    assert stored.headers["attempt"] == 1
    assert stored.headers["reason"] == "dependency_down"


async def test_bad_events_among_good_ones_do_not_open_it(amqp_url: str) -> None:
    dependency = Dependency()
    consumer = make_consumer(one_by_one(dependency.effect), [amqp_url], probe=dependency.probe)
    async with running(consumer):
        await publish(amqp_url, *(user_event(event_id=f"msg_{'bad' * (n % 2)}{n}") for n in range(40)))
        await eventually(lambda: len(dependency.seen) == 20)

        async def all_dead() -> bool:
            return await depth(amqp_url, DEAD) == 20

        await eventually(all_dead)
        assert consumer.breaker.state.state is State.CLOSED
        assert dependency.probes == 0


async def test_a_probe_that_lies_costs_one_event_at_a_time(amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The probe succeeds while real events fail: half open lets one through, and it opens again.
    monkeypatch.setattr(module, "PROBE_FIRST_S", 0.05)
    dependency = Dependency()
    dependency.down = True
    registry = CollectorRegistry()
    consumer = make_consumer(one_by_one(dependency.effect), [amqp_url], probe=_healthy, registry=registry)
    async with running(consumer):
        await publish(amqp_url, *(user_event(event_id=f"msg_{number}") for number in range(60)))
        changes: list[State] = []

        def seen_twice_open() -> bool:
            state = consumer.breaker.state.state
            if not changes or changes[-1] is not state:
                changes.append(state)
            return changes.count(State.OPEN) >= 3

        await eventually(seen_twice_open, every_s=0.001)
        dependency.down = False
        await eventually(lambda: len(dependency.seen) == 60, timeout_s=30)
    assert await depth(amqp_url, DEAD) == 0
