"""Sending dead letters back to where they failed, and taking them away for good.

In: a queue, a filter. Out: what became of its letters. Promise: a letter leaves its queue only after the broker has
confirmed its copy (`redrive`) or after it was handed to the caller for keeping (`discard`): a kill at any point
duplicates at most what was under way, and loses nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import aio_pika
from aio_pika import DeliveryMode
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, DeliveryError
from aio_pika.exceptions import PublishError as ReturnedError

from cli.dead_letters import REDRIVEN_AT, REDRIVES, Reader, opened
from consumer.properties import plain_headers
from shared.errors import PublishError
from shared.events import format_time
from shared.history import Failure, noted
from shared.messages import ATTEMPT, ERROR, FIRST_FAILED_AT, HISTORY, QUEUE, REASON
from shared.topology import EVENTS_EXCHANGE, INGRESS_DEAD_QUEUE, UNROUTED, topology

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractConnection

    from cli.dead_letters import DeadLetter, Filter

IN_FLIGHT: Final = 100
CONFIRM_TIMEOUT_S: Final = 10.0
# Who wants to stop at a failure must give failures the time to come back: a permanent one does so at once.
WATCH_S: Final = 3.0
WATCHED_RATE: Final = 10.0

WHY_WEBHOOKS_STAY: Final = (
    f"{INGRESS_DEAD_QUEUE} holds genuine webhooks that could not be read, so there is no event in them to send back. "
    "Update Usher until it can read them, have Clerk (or Hookdeck) send them again by their ids, then discard them"
)

# They tell why the letter is dead; its history (`first_failed_at`, `redriven_at`, `redrives`) stays on it.
_OF_THE_DEATH: Final = frozenset({REASON, ERROR, QUEUE})


@dataclass(slots=True)
class Redriven:
    """What became of the letters of one queue.

    `stuck` could not be sent back, and why; they lie where they were. `again` failed anew while it was watched.
    `unseen` of those that are left were in somebody else's hands.
    """

    sent: list[DeadLetter] = field(default_factory=list)
    left: int = 0
    unseen: int = 0
    stuck: list[tuple[DeadLetter, str]] = field(default_factory=list)
    again: list[DeadLetter] = field(default_factory=list)

    @property
    def done(self) -> int:
        return len(self.sent)


class Redrive:
    """Sends letters of one queue back, several under way at once, at most `rate` a second.

    With `stop_on_failure` the first goes alone; as soon as one of them comes back to this queue, no more are sent.
    """

    def __init__(
        self,
        wanted: Filter,
        *,
        limit: int | None = None,
        rate: float | None = None,
        stop_on_failure: bool = False,
        on_open: Callable[[int], None] = lambda _depth: None,
        on_each: Callable[[], None] = lambda: None,
    ) -> None:
        self.result = Redriven()
        self._wanted = wanted
        self._limit = limit
        self._watching = stop_on_failure
        self._begun_at = format_time(datetime.now(UTC))
        rate = rate or (WATCHED_RATE if stop_on_failure else None)
        self._gap_s = 1 / rate if rate else 0.0
        self._next_at = 0.0
        self._begun = 0
        self._free = asyncio.Semaphore(IN_FLIGHT)
        self._on_open = on_open
        self._on_each = on_each

    async def run(self, connection: AbstractConnection, queue: str) -> Redriven:
        """Go through what lies in `queue` now; what comes in meanwhile is left for the next time.

        Raises:
            PublishError: the broker does not confirm.
        """
        # Whoever watches holds all that is there, so that whatever comes besides is new.
        window = 2 * IN_FLIGHT if self._wanted.takes_all and not self._watching else None
        outbound = await connection.channel(publisher_confirms=True, on_return_raises=True)
        try:
            async with opened(connection, queue, window=window) as letters:
                self._on_open(letters.unseen)
                try:
                    await self._work_through(letters, outbound)
                except BaseExceptionGroup as several:
                    # Not `except*`: what is raised in one comes out as a group again.
                    if isinstance(first := first_of(several), (PublishError, *CONNECTION_EXCEPTIONS)):
                        raise first from several
                    raise
                self.result.left += letters.unseen
                self.result.unseen = letters.unseen
        finally:
            with suppress(*CONNECTION_EXCEPTIONS):
                await outbound.close()
        return self.result

    async def _work_through(self, letters: Reader, outbound: AbstractChannel) -> None:
        async with asyncio.TaskGroup() as group:
            while self._begun != self._limit and not self._failed_again(letters):
                letter = await letters.next()
                if letter is None:
                    break
                await self._consider(group, outbound, letter)
                if self._watching and self._begun == 1:
                    await self._watch(letters)
        if self._watching and self._begun > 1:
            await self._watch(letters)

    async def _watch(self, letters: Reader) -> None:
        """Give what was sent the time to fail."""
        with suppress(TimeoutError):
            async with asyncio.timeout(WATCH_S):
                while not self._failed_again(letters):
                    letters.came.clear()
                    await letters.came.wait()

    def _failed_again(self, letters: Reader) -> bool:
        """Whether one of ours has come back: it says itself that it was redriven since we began."""
        if self._watching:
            back = (letter for letter in letters.newcomers if (letter.redriven_at or "") >= self._begun_at)
            self.result.again = list(back)
        return bool(self.result.again)

    async def _consider(self, group: asyncio.TaskGroup, outbound: AbstractChannel, letter: DeadLetter) -> None:
        if not self._wanted.takes(letter):
            self.result.left += 1
            self._on_each()
            return
        self._begun += 1
        await self._free.acquire()
        await self._keep_pace()
        group.create_task(self._send_back(outbound, letter))

    async def _send_back(self, outbound: AbstractChannel, letter: DeadLetter) -> None:
        try:
            trouble = await _publish_copy(outbound, letter)
            if trouble is None:
                # Confirm before ack: a crash here duplicates, never loses.
                await letter.message.ack()
                self.result.sent.append(letter)
            else:
                self.result.stuck.append((letter, trouble))
            self._on_each()
        finally:
            self._free.release()

    async def _keep_pace(self) -> None:
        at = max(self._next_at, time.monotonic())
        self._next_at = at + self._gap_s
        await asyncio.sleep(at - time.monotonic())


async def discard(
    connection: AbstractConnection,
    queue: str,
    wanted: Filter,
    *,
    limit: int | None,
    keep: Callable[[Sequence[DeadLetter]], None],
) -> list[DeadLetter]:
    """Take up to `limit` letters out of `queue`, after `keep` has put them by; returns them."""
    taken: list[DeadLetter] = []
    async with opened(connection, queue) as letters:
        while len(taken) != limit and (letter := await letters.next()) is not None:
            if wanted.takes(letter):
                taken.append(letter)
        # Kept before acked: a crash between leaves both.
        keep(taken)
        for letter in taken:
            await letter.message.ack()
    return taken


async def _publish_copy(outbound: AbstractChannel, letter: DeadLetter) -> str | None:
    """Publish the letter's copy to where it failed and wait for the confirm; a sentence when that cannot be."""
    where = _destination(letter)
    if isinstance(where, str):
        return where
    exchange = outbound.default_exchange
    if where[0]:
        exchange = await outbound.get_exchange(where[0], ensure=False)
    try:
        async with asyncio.timeout(CONFIRM_TIMEOUT_S):
            await exchange.publish(_copy(letter), where[1], mandatory=True)
    except ReturnedError:
        return f"there is no queue {where[1]} any more"
    except DeliveryError:
        return f"{where[1]} is full or unavailable"
    except TimeoutError as error:
        raise PublishError(
            f"not confirmed within {CONFIRM_TIMEOUT_S:g} s: what was under way may be there twice"
        ) from error
    return None


def _destination(letter: DeadLetter) -> tuple[str, str] | str:
    """Exchange and routing key, or a sentence saying why there are none."""
    if letter.queue == INGRESS_DEAD_QUEUE:
        return WHY_WEBHOOKS_STAY
    if letter.queue == UNROUTED:
        if letter.type not in _routed_types():
            return f"no queue takes events of type {letter.type}"
        return EVENTS_EXCHANGE, letter.type
    return "", letter.failed_in or letter.queue.removesuffix(".dead")


def _routed_types() -> set[str]:
    return {key for queue in topology().queues for exchange, key in queue.bindings if exchange == EVENTS_EXCHANGE}


def _copy(letter: DeadLetter) -> aio_pika.Message:
    """The event as a first attempt that remembers its past; the broker's own headers stay behind."""
    original = letter.message
    headers: dict[str, Any] = {
        name: value
        for name, value in plain_headers(original.headers).items()
        if not name.startswith("x-") and name not in _OF_THE_DEATH
    }
    now = format_time(datetime.now(UTC))
    headers[ATTEMPT] = 1
    headers[REDRIVEN_AT] = now
    headers[REDRIVES] = letter.redrives + 1
    headers[HISTORY] = _history_of(letter, now)
    if letter.first_failed_at is not None:
        headers[FIRST_FAILED_AT] = letter.first_failed_at
    return aio_pika.Message(
        original.body,
        headers=headers,
        content_type=original.content_type,
        delivery_mode=DeliveryMode.PERSISTENT,
        message_id=original.message_id,
        type=original.type,
        timestamp=original.timestamp,
        app_id=original.app_id,
    )


def _history_of(letter: DeadLetter, now: str) -> str:
    """All its failures, the broker's own doing too, and that it was sent back."""
    header = None
    for failure in (*letter.history, Failure(now, letter.attempt or 1, "redriven")):
        header = noted(header, failure)
    return header or ""


def first_of(several: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = several
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
