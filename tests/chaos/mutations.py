"""Promises of the code undone one at a time, in the programs' own processes, to see that the proof notices.

Each names the scenario whose accounting must catch it. `python -m tests.chaos --mutate` plays them.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from consumer import consume, users
from consumer.breaker import Breaker
from consumer.outcome import Outcome, Retry, decide
from consumer.settle import Settler
from ingress.publish import Publisher
from tests.chaos.failpoints import Wrapped


@dataclass(frozen=True, slots=True)
class Mutation:
    """`undo` is called before the program starts; `caught_by` is a scenario's name."""

    name: str
    what: str
    caught_by: str
    undo: Callable[[], None]


def _ack_before_confirm() -> None:
    settle = Settler.settle

    async def ack_first(self: Settler[Any], delivery: Any, outcome: Outcome) -> None:
        await delivery.ack()
        await settle(self, Wrapped(delivery, ack=_nothing), outcome)

    Settler.settle = ack_first  # type: ignore[method-assign] # that is what a mutation is


async def _nothing() -> None:
    pass


def _confirm_ignored() -> None:
    publish = Publisher.publish
    under_way = set()

    async def not_waiting(self: Publisher, *arguments: Any) -> None:
        task = asyncio.ensure_future(asyncio.gather(publish(self, *arguments), return_exceptions=True))
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    Publisher.publish = not_waiting  # type: ignore[method-assign,assignment] # as above


def _tombstone_forgotten() -> None:
    strict = 'where (excluded.deleted, excluded.version, excluded.event_id collate "C")'
    lax = 'where excluded.deleted or (false, excluded.version, excluded.event_id collate "C")'
    against, version_only = "> (guard.deleted, guard.version", "> (false, guard.version"
    if strict not in users.SYNC or against not in users.SYNC:
        raise RuntimeError("the statement is another one now: mutate it anew")
    users.SYNC = users.SYNC.replace(strict, lax).replace(against, version_only)  # type: ignore[misc] # as above


def _attempt_kept() -> None:
    def for_ever(error: Exception | None, attempt: int, *, max_attempts: int) -> Outcome:
        decided = decide(error, attempt, max_attempts=max_attempts)
        return replace(decided, attempt=attempt) if isinstance(decided, Retry) else decided

    setattr(consume, decide.__name__, for_ever)


def _breaker_off() -> None:
    Breaker.failed = lambda _self, _error, _event_id: None  # type: ignore[method-assign,assignment] # as above


def _ack_before_effect() -> None:
    at_work = consume.Consumer._consume

    async def ack_first(self: Any, batch: Any) -> Any:
        for delivery in batch:
            await delivery.ack()
        self._settler = Settler(self._settler.queue, self._settler.copy, _ack_none)
        acked: list[Any] = [Wrapped(delivery, ack=_nothing) for delivery in batch]
        return await at_work(self, acked)

    async def _ack_none(_deliveries: Any) -> None:
        pass

    consume.Consumer._consume = ack_first  # type: ignore[method-assign] # as above


MUTATIONS: Final = (
    Mutation(
        "ack_before_confirm",
        "a message that failed is acknowledged before its copy is confirmed",
        "consumers_die_copied",
        _ack_before_confirm,
    ),
    Mutation(
        "confirm_ignored", "the ingress answers before the broker has confirmed", "broker_killed", _confirm_ignored
    ),
    Mutation(
        "tombstone_forgotten",
        "an event that comes after the user's deletion is applied",
        "clocks_within",
        _tombstone_forgotten,
    ),
    Mutation("attempt_kept", "a failed attempt is not counted", "event_always_fails", _attempt_kept),
    Mutation("breaker_off", "the breaker never opens", "postgres_killed", _breaker_off),
    Mutation(
        "ack_before_effect",
        "messages are acknowledged when they come, not when they are done",
        "event_ends_its_consumer",
        _ack_before_effect,
    ),
)
BY_NAME: Final = {mutation.name: mutation for mutation in MUTATIONS}
