"""Points between two steps at which a program kills itself: the worst moments, hit every time.

Each wraps one of the product's functions at the start of the process; the product does not know of it.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from consumer import users
from consumer.outcome import Ack, Outcome
from consumer.settle import Settler
from ingress.publish import Publisher
from shared.events import UserEvent


def arm(wish: str) -> None:
    """`name:nth`: die at the nth passage of the point `name`."""
    name, _, nth = wish.partition(":")
    POINTS[name](_dying_at(int(nth or 1)))


def _published(passed: Callable[[], None]) -> None:
    """The event is confirmed, the sender is not answered."""
    publish = Publisher.publish

    async def then_die(self: Publisher, *arguments: Any) -> None:
        await publish(self, *arguments)
        passed()

    Publisher.publish = then_die  # type: ignore[method-assign,assignment] # that is what a failpoint is


def _settling(passed: Callable[[], None]) -> None:
    """The effect is done, the message is not acknowledged."""
    settle, settle_done = Settler.settle, Settler.settle_done

    async def die_before(self: Settler[Any], *arguments: Any) -> None:
        passed()
        await settle(self, *arguments)

    async def die_before_all(self: Settler[Any], deliveries: Sequence[Any]) -> None:
        for _ in deliveries:
            passed()
        await settle_done(self, deliveries)

    Settler.settle = die_before  # type: ignore[method-assign,assignment] # as above
    Settler.settle_done = die_before_all  # type: ignore[method-assign] # as above


def _half_settled(passed: Callable[[], None]) -> None:
    """A message that failed: one of copy and acknowledgement is through, the other is not."""
    settle = Settler.settle

    async def die_half_way(self: Settler[Any], delivery: Any, outcome: Outcome) -> None:
        halves = 0

        async def half() -> None:
            nonlocal halves
            halves += 1
            if halves == 1 and not isinstance(outcome, Ack):
                await asyncio.sleep(0.1)  # until it has left the process
                passed()

        async def copy(*what: Any) -> None:
            await self.copy(*what)
            await half()

        async def ack() -> None:
            await delivery.ack()
            await half()

        await settle(replace(self, copy=copy), Wrapped(delivery, ack=ack), outcome)

    Settler.settle = die_half_way  # type: ignore[method-assign] # as above


def _applying(passed: Callable[[], None]) -> None:
    """The effect has an event of CHAOS_CRASHES in hand."""
    user, sync_all = os.environ["CHAOS_CRASHES"], users.sync_all

    async def die(pool: Any, events: Sequence[UserEvent]) -> list[users.Synced]:
        if user in {event.subject for event in events}:
            # Not at once: what a program dies of takes its time, and its neighbours get on meanwhile.
            await asyncio.sleep(0.3)
            passed()
        return await sync_all(pool, events)

    users.sync_all = die


class Wrapped:
    """A delivery, some of whose methods are others."""

    def __init__(self, delivery: Any, **instead: Any) -> None:
        self._delivery = delivery
        self.__dict__.update(instead)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._delivery, name)


POINTS: Final[dict[str, Callable[[Callable[[], None]], None]]] = {
    "published": _published,
    "settling": _settling,
    "half_settled": _half_settled,
    "applying": _applying,
}


def _dying_at(nth: int) -> Callable[[], None]:
    passages = 0

    def passed() -> None:
        nonlocal passages
        passages += 1
        if passages == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    return passed
