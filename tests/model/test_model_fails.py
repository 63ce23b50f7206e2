"""The machine can fail: each way of breaking the product on purpose ends in a counterexample."""

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from consumer import consume
from consumer.consume import Consumer
from consumer.delivery import AmqpDelivery
from consumer.ledger import Acknowledgement, Ledger
from consumer.outcome import Outcome, Retry, decide
from consumer.report import Ending
from consumer.settle import Settler
from ingress.amqp.link import PublisherLink
from ingress.publish import Publisher
from shared.broker import BrokerLink
from shared.errors import DependencyDown, PublishError, TransientError
from shared.events import UserEvent
from tests.model.machine import Calm, Outage, Settling, check

Break = Callable[[pytest.MonkeyPatch], None]


def ack_before_confirm(patch: pytest.MonkeyPatch) -> None:
    settle, ack = Settler.settle, AmqpDelivery.ack

    async def acked_first(self: Settler[Any], delivery: AmqpDelivery, outcome: Outcome) -> None:
        await ack(delivery)
        await settle(self, delivery, outcome)

    patch.setattr(Settler, "settle", acked_first)
    patch.setattr(AmqpDelivery, "ack", _nothing)


def confirm_ignored(patch: pytest.MonkeyPatch) -> None:
    _swallow(patch, "not confirmed", "lost", "silent")


def nack_taken_for_a_confirm(patch: pytest.MonkeyPatch) -> None:
    _swallow(patch, "refused")


def attempt_not_counted(patch: pytest.MonkeyPatch) -> None:
    def same_attempt(error: Exception | None, attempt: int, *, max_attempts: int = 8) -> Outcome:
        outcome = decide(error, attempt, max_attempts=max_attempts)
        return replace(outcome, attempt=attempt) if isinstance(outcome, Retry) else outcome

    patch.setattr(consume, "decide", same_attempt)


def outage_counted(patch: pytest.MonkeyPatch) -> None:
    def counted(error: Exception | None, attempt: int, *, max_attempts: int = 8) -> Outcome:
        if isinstance(error, DependencyDown):
            error = TransientError("down")
        return decide(error, attempt, max_attempts=max_attempts)

    patch.setattr(consume, "decide", counted)


def retry_by_requeue(patch: pytest.MonkeyPatch) -> None:
    settle = Settler.settle

    async def given_back(self: Settler[Any], delivery: AmqpDelivery, outcome: Outcome) -> None:
        await (delivery.give_back() if isinstance(outcome, Retry) else settle(self, delivery, outcome))

    patch.setattr(Settler, "settle", given_back)


def acked_when_cancelled(patch: pytest.MonkeyPatch) -> None:
    work = Consumer._consume

    async def acked(self: Consumer, batch: Sequence[AmqpDelivery]) -> list[Ending]:
        try:
            return await work(self, batch)
        except asyncio.CancelledError:
            with contextlib.suppress(*CONNECTION_EXCEPTIONS):
                for delivery in batch:
                    await delivery.ack()
            raise

    patch.setattr(Consumer, "_consume", acked)


def range_acknowledged_with_what_is_unsettled(patch: pytest.MonkeyPatch) -> None:
    def everything_up_to(self: Ledger, tags: Iterable[int]) -> list[Acknowledgement]:
        before, self._settled_up_to = self._settled_up_to, max([self._settled_up_to, *tags])
        return [Acknowledgement(self._settled_up_to, multiple=True)] if self._settled_up_to > before else []

    patch.setattr(Ledger, "settle", everything_up_to)


def answered_before_the_confirm(patch: pytest.MonkeyPatch) -> None:
    publish = Publisher.publish

    async def at_once(self: Publisher, event: UserEvent) -> None:
        asyncio.get_running_loop().create_task(publish(self, event))

    patch.setattr(Publisher, "publish", at_once)


LOST = "nothing_accepted_is_lost"
UNJUSTIFIED = "nothing_is_acknowledged_before_it_is_applied_or_copied"
UNCONFIRMED = "accepted_means_confirmed"
COUNTED = "attempts_are_bounded_and_only_failures_count"
NO_REST = "_come_to_rest"


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("broken", "machine", "properties"),
    [
        (ack_before_confirm, Settling, {UNJUSTIFIED, LOST, NO_REST}),
        (confirm_ignored, Settling, {UNCONFIRMED, UNJUSTIFIED, LOST, NO_REST}),
        (nack_taken_for_a_confirm, Settling, {UNCONFIRMED, UNJUSTIFIED, LOST, NO_REST}),
        (attempt_not_counted, Calm, {NO_REST}),
        (outage_counted, Outage, {COUNTED}),
        (retry_by_requeue, Settling, {NO_REST}),
        (acked_when_cancelled, Calm, {UNJUSTIFIED, LOST, NO_REST}),
        (range_acknowledged_with_what_is_unsettled, Settling, {UNJUSTIFIED, LOST, NO_REST}),
        (answered_before_the_confirm, Settling, {UNCONFIRMED, LOST, NO_REST}),
    ],
    ids=lambda value: value.__name__ if inspect.isfunction(value) else "",
)
def test_the_machine_finds(
    broken: Break, machine: type[Settling], properties: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    with pytest.raises(AssertionError) as found:
        check(machine, examples=500, shrink=False)
    assert found.traceback[-1].name in properties


def _swallow(patch: pytest.MonkeyPatch, *words: str) -> None:
    for link in (BrokerLink, PublisherLink):
        patch.setattr(link, "publish", _swallowing(link.publish, words))


def _swallowing(publish: Callable[..., Awaitable[None]], words: tuple[str, ...]) -> Callable[..., Awaitable[None]]:
    async def swallowing(*args: Any, **options: Any) -> None:
        try:
            await publish(*args, **options)
        except PublishError as error:
            if not any(word in str(error) for word in words):
                raise

    return swallowing


async def _nothing(_delivery: AmqpDelivery) -> None: ...
