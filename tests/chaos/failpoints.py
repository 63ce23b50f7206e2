"""Points between two steps at which a program kills itself: the worst moments, hit every time.

Each wraps one of the product's functions at the start of the process; the product does not know of it.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any, Final

from consumer import users
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


def _copied(passed: Callable[[], None]) -> None:
    """The copy is confirmed, the original is not acknowledged."""
    settle = Settler.settle

    async def die_within(self: Settler[Any], *arguments: Any) -> None:
        async def copy(*what: Any) -> None:
            await self.copy(*what)
            passed()

        await settle(Settler(self.queue, copy), *arguments)

    Settler.settle = die_within  # type: ignore[method-assign,assignment] # as above


def _applying(passed: Callable[[], None]) -> None:
    """The effect has an event of CHAOS_CRASHES in hand."""
    user, sync = os.environ["CHAOS_CRASHES"], users.sync

    async def die(pool: Any, event: UserEvent) -> users.Synced:
        if event.subject == user:
            # Not at once: what a program dies of takes its time, and its neighbours get on meanwhile.
            await asyncio.sleep(0.3)
            passed()
        return await sync(pool, event)

    users.sync = die


POINTS: Final[dict[str, Callable[[Callable[[], None]], None]]] = {
    "published": _published,
    "settling": _settling,
    "copied": _copied,
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
