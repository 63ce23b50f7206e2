"""A full queue, and how long consumers take to empty it.

The consumers stand ready and are paused while the queue fills; the clock runs from the moment they may go on.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from random import Random
from typing import Final

import asyncpg

from bench.bench import Bench
from bench.programs import Program, Running, running
from ingress.amqp.address import Address
from ingress.amqp.handshake import connect
from ingress.amqp.message import Envelope, Message
from local.errors import ServerError
from shared.events import CONTENT_TYPE, USER_EVENT_TYPES, UserData, UserEvent, encode
from shared.headers import APP_ID, ATTEMPT

_FILL_TIMEOUT_S: Final = 90.0
_FILL_AT_ONCE: Final = 500
_DRAIN_TIMEOUT_S: Final = 300.0
_LOOK_S: Final = 0.005
_DUPLICATES: Final = 0.3
_HOT_SHARE: Final = 0.8
_HOT_USERS: Final = 10

Finished = Callable[[], Awaitable[bool]]
WhenFull = Callable[[], Awaitable[object]]


def distinct(tag: str, count: int) -> list[UserEvent]:
    """`count` users, each created once."""
    return [_event(_user(f"{tag}{number}"), f"{tag}{number}", number + 1) for number in range(count)]


def with_duplicates(tag: str, count: int) -> list[UserEvent]:
    """As many messages, three of ten of which were there shortly before."""
    random = Random(7)  # noqa: S311 - a reproducible mix, no secret
    events = distinct(tag, count)
    for at in range(1, count):
        if random.random() < _DUPLICATES:
            events[at] = events[max(0, at - random.randrange(1, 500))]
    return events


def hot(tag: str, count: int) -> list[UserEvent]:
    """Eight of ten messages are about ten users, each time a later version."""
    random = Random(7)  # noqa: S311 - as above
    events = distinct(tag, count)
    for at in range(count):
        if random.random() < _HOT_SHARE:
            events[at] = _event(_user(f"{tag}hot{random.randrange(_HOT_USERS)}"), f"{tag}{at}", at + 1)
    return events


def _user(name: str) -> str:
    """Spread over the index, as ids that nobody counted up are."""
    return f"user_{sha256(name.encode()).hexdigest()[:27]}"


def _event(user_id: str, event_id: str, version: int) -> UserEvent:
    data = UserData(
        version=1_700_000_000_000 + version,
        email=f"{user_id}@example.com",
        username=f"{user_id}-name",
        first_name="Ada",
        last_name="Lovelace",
        photo_url=f"https://img.clerk.com/{user_id}",
        created_at=1_700_000_000_000,
        country="GB",
    )
    return UserEvent(f"msg_{event_id}", "clerk/ins_bench", "user.created", user_id, datetime.now(UTC), data)


@dataclass(frozen=True, slots=True)
class Work:
    """Events for one queue, and how to see that all are done."""

    queue: str
    events: Sequence[UserEvent]
    finished: Finished


@dataclass(frozen=True, slots=True)
class Drained:
    """How fast consumers went through a queue, and what an event cost them: a figure that noise hardly touches."""

    per_s: float
    cpu_us: float
    ready_after_s: float
    rss_mb: float


async def drained(bench: Bench, programs: Sequence[Program], work: Work) -> Drained:
    """By programs that are started for it and stopped afterwards."""
    async with standing(bench, programs) as consumers:
        return await emptied(bench, consumers, work)


@asynccontextmanager
async def standing(bench: Bench, programs: Sequence[Program]) -> AsyncIterator[list[Running]]:
    """Started and ready."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(running(program, bench.folder)) for program in programs]


async def emptied(
    bench: Bench,
    consumers: Sequence[Running],
    work: Work,
    *,
    when_full: WhenFull | None = None,
    look_s: float = _LOOK_S,
) -> Drained:
    """From the full queue until `work` is finished; `when_full` comes right before."""
    with _paused(consumers):
        await fill(bench.servers.amqp_url, work.queue, work.events)
        if when_full is not None:
            await when_full()
        cpu_before = sum(consumer.cpu_s() for consumer in consumers)
    started = time.perf_counter()
    async with asyncio.timeout(_DRAIN_TIMEOUT_S):
        while not await work.finished():
            await asyncio.sleep(look_s)
    took = time.perf_counter() - started
    used = sum(consumer.cpu_s() for consumer in consumers) - cpu_before
    return Drained(
        per_s=len(work.events) / took,
        cpu_us=used / len(work.events) * 1e6,
        ready_after_s=max(consumer.ready_after_s for consumer in consumers),
        rss_mb=max((mb for consumer in consumers for mb in consumer.rss_mb()), default=0.0),
    )


async def fill(amqp_url: str, queue: str, events: Sequence[UserEvent]) -> None:
    """As the ingress writes them. Returns when the broker has confirmed all: others a busy one may still forget."""
    envelopes = {kind: _envelope(queue, kind) for kind in USER_EVENT_TYPES}
    messages = [
        Message(envelopes[event.type], event.id, int(event.time.timestamp()), encode(event)) for event in events
    ]
    async with asyncio.timeout(_FILL_TIMEOUT_S):
        connection = await connect(Address.of(amqp_url, heartbeat_s=0, name="bench"), lambda: None)
        for start in range(0, len(messages), _FILL_AT_ONCE):
            some = messages[start : start + _FILL_AT_ONCE]
            troubles = await asyncio.gather(*(connection.publish(message, math.inf) for message in some))
            if any(troubles):
                raise ServerError(f"the queue could not be filled: {next(filter(None, troubles))}")
        connection.hang_up("the queue is full")
        await connection.gone


def _envelope(queue: str, kind: str) -> Envelope:
    return Envelope("", queue, content_type=CONTENT_TYPE, headers={ATTEMPT: 1}, type_=kind, app_id=APP_ID)


async def watching(url: str) -> asyncpg.Connection[asyncpg.Record]:
    """To look for rows by: through the index, also in a table that nobody has analyzed, so that looking costs alike."""
    return await asyncpg.connect(url, server_settings={"enable_seqscan": "off"})


class Rows:
    """Asks Postgres whether the users of some events are there: the last event's first, then all of them.

    `counted` counts those of the users `$1` that are.
    """

    def __init__(
        self,
        connection: asyncpg.Connection[asyncpg.Record],
        events: Sequence[UserEvent],
        counted: str = "select count(*) from users where user_id in (select unnest($1::text[]))",
    ) -> None:
        self._connection = connection
        self._counted = counted
        self._last = [events[-1].subject]
        self._users = list({event.subject for event in events})

    async def all_there(self) -> bool:
        return await self._are_there(self._last) and await self._are_there(self._users)

    async def _are_there(self, users: list[str]) -> bool:
        found = await self._connection.fetchval(self._counted, users)
        return bool(found == len(users))


@contextmanager
def _paused(consumers: Sequence[Running]) -> Iterator[None]:
    for consumer in consumers:
        consumer.process.suspend()
    try:
        yield
    finally:
        for consumer in consumers:
            consumer.process.resume()
