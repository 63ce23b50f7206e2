"""Events from the log once more into one effect's queue, at a bounded pace.

In: which events, and between which offsets. Out: how many there are; then all of them confirmed in the queue. Promise:
no event is passed over: after a lost connection, or a broker that was restarted, it goes on where the last confirm was.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import aio_pika
from aio_pika import DeliveryMode
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, DeliveryError
from aio_pika.exceptions import PublishError as ReturnedError

from cli import connections, log_stream
from cli.log_stream import Entry, LogLostError, Offset
from cli.redrive import first_of
from cli.standing import event_of
from consumer.properties import plain_headers
from shared.broker import cancelled_by_somebody
from shared.errors import PublishError, TopologyError
from shared.events import format_time
from shared.messages import ATTEMPT, REPLAYED_AT
from shared.topology import queue_of

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractConnection

BATCH: Final = 100
CONFIRM_TIMEOUT_S: Final = 10.0
AGAIN_AFTER_S: Final = 1.0
# A broker that is restarted is back by then; after so long without one confirm an operator should look.
PATIENCE_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which of the log's events are meant."""

    effect: str
    types: frozenset[str]
    user_id: str | None = None

    def takes(self, entry: Entry) -> bool:
        """Only what can be read: anything else would become a dead letter."""
        if entry.message.type not in self.types:
            return False
        event = event_of(entry.message.body)
        return event is not None and self.user_id in {None, event.subject}


@dataclass(slots=True)
class Plan:
    """The part of the log that is meant, and what was found in it: `before` is the offset after its last entry."""

    start: int
    before: int
    found: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        return self.found.total()


async def counted(
    addresses: Sequence[str],
    wanted: Wanted,
    since: Offset,
    until: Offset | None,
    on_read: Callable[[int, int], None],
) -> Plan:
    """The part of the log that is meant, with how many events of each type would be replayed.

    `on_read` hears how many entries have been read, of how many.
    """
    async with connections.broker(addresses) as connection:
        part = await _part(connection, since, until)
        async for entry in log_stream.stored(connection, part.start, part.before):
            on_read(entry.offset + 1 - part.start, part.before - part.start)
            if wanted.takes(entry):
                part.found[entry.message.type or ""] += 1
    return part


async def _part(connection: AbstractConnection, since: Offset, until: Offset | None) -> Plan:
    before = await log_stream.end(connection)
    stop = await log_stream.offset_of(connection, until) if until is not None and before else None
    start = await log_stream.offset_of(connection, since) if before else None
    before = before if stop is None else min(before, stop)
    return Plan(before if start is None else start, before)


class Replay:
    """One run. `done` are confirmed; `next_offset` is where another run would go on."""

    def __init__(
        self,
        wanted: Wanted,
        part: Plan,
        *,
        limit: int | None = None,
        rate: float | None = None,
        on_each: Callable[[], None] = lambda: None,
        on_trouble: Callable[[Exception], None] = lambda _error: None,
    ) -> None:
        self.done = 0
        self.next_offset = part.start
        self.event_ids: list[str] = []
        self._wanted = wanted
        self._before = part.before
        self._limit = limit
        self._gap_s = 1 / rate if rate else 0.0
        self._next_at = 0.0
        self._confirmed: set[int] = set()
        self._progress_at = time.monotonic()
        self._on_each = on_each
        self._on_trouble = on_trouble

    async def run(self, addresses: Sequence[str]) -> None:
        """Replay all of it; while the broker is away, try again.

        Raises:
            TopologyError: there is no such queue, or no log.
            UnreachableError, LogLostError, PublishError: nothing was confirmed for too long.
        """
        self._progress_at = time.monotonic()
        while not self._finished:
            try:
                async with connections.broker(addresses) as connection:
                    await self._go_on(connection)
                    return
            except (connections.UnreachableError, LogLostError, PublishError) as error:
                self._give_up_in_time(error)
            except asyncio.CancelledError:
                if cancelled_by_somebody():
                    raise
                self._give_up_in_time(PublishError("the connection to RabbitMQ went silent"))
            await asyncio.sleep(AGAIN_AFTER_S)

    @property
    def _finished(self) -> bool:
        return self.next_offset >= self._before or self.done == self._limit

    def _give_up_in_time(self, error: Exception) -> None:
        if time.monotonic() - self._progress_at > PATIENCE_S:
            raise error
        self._on_trouble(error)

    async def _go_on(self, connection: AbstractConnection) -> None:
        outbound = await connection.channel(publisher_confirms=True, on_return_raises=True)
        batch: list[Entry] = []
        async for entry in log_stream.stored(connection, self.next_offset, self._before):
            if not self._wanted.takes(entry) or entry.offset in self._confirmed:
                continue
            # aiormq files a returned message under its id alone: no two of one id may be under way.
            if len(batch) == BATCH or any(each.message.message_id == entry.message.message_id for each in batch):
                await self._send(outbound, batch)
                batch = []
            if self._limit is not None and self.done + len(batch) == self._limit:
                break
            batch.append(entry)
        await self._send(outbound, batch)
        if self.done != self._limit:
            self.next_offset = self._before

    async def _send(self, outbound: AbstractChannel, batch: Sequence[Entry]) -> None:
        """All of the batch, at the pace; only when each is confirmed is its place in the log behind us."""
        try:
            async with asyncio.TaskGroup() as group:
                for entry in batch:
                    await self._keep_pace()
                    group.create_task(self._send_one(outbound, entry))
        except BaseExceptionGroup as several:
            # Not `except*`: what is raised in one comes out as a group again.
            if isinstance(first := first_of(several), (TopologyError, PublishError, *CONNECTION_EXCEPTIONS)):
                raise first from several
            raise
        if any(entry.offset not in self._confirmed for entry in batch):
            # A task that a silent connection has cancelled (aio-pika 10.2) is no error to its group.
            raise PublishError("the connection to RabbitMQ went silent")
        if batch:
            self.next_offset = batch[-1].offset + 1
            self._confirmed.clear()

    async def _send_one(self, outbound: AbstractChannel, entry: Entry) -> None:
        await _publish(outbound, _copy(entry), queue_of(self._wanted.effect))
        self._confirmed.add(entry.offset)
        self.done += 1
        self.event_ids.append(entry.message.message_id or "")
        self._progress_at = time.monotonic()
        self._on_each()

    async def _keep_pace(self) -> None:
        at = max(self._next_at, time.monotonic())
        self._next_at = at + self._gap_s
        await asyncio.sleep(at - time.monotonic())


async def _publish(outbound: AbstractChannel, message: aio_pika.Message, queue: str) -> None:
    try:
        async with asyncio.timeout(CONFIRM_TIMEOUT_S):
            await outbound.default_exchange.publish(message, queue, mandatory=True)
    except ReturnedError as error:
        raise TopologyError(f"there is no queue {queue}: run `usher topology`") from error
    except DeliveryError as error:
        raise PublishError(f"{queue} is full or unavailable") from error
    except TimeoutError as error:
        raise PublishError(f"{queue}: not confirmed within {CONFIRM_TIMEOUT_S:g} s") from error


def _copy(entry: Entry) -> aio_pika.Message:
    """The event as a first attempt that says that it is a replay."""
    original = entry.message
    ours = {name: value for name, value in plain_headers(original.headers).items() if not name.startswith("x-")}
    return aio_pika.Message(
        original.body,
        headers={**ours, ATTEMPT: 1, REPLAYED_AT: format_time(datetime.now(UTC))},
        content_type=original.content_type,
        delivery_mode=DeliveryMode.PERSISTENT,
        message_id=original.message_id,
        type=original.type,
        timestamp=original.timestamp,
        app_id=original.app_id,
    )
