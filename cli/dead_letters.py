"""The dead letters on the broker, and reading them without a trace.

In: an open connection and a queue. Out: letters, oldest first. Promise: reading loses nothing and reorders nothing;
what was not acknowledged lies where it lay as soon as the reader is closed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelNotFoundEntity

from cli.terminal import encodable
from shared.errors import TopologyError
from shared.events import format_time
from shared.history import Failure, failures
from shared.messages import ATTEMPT, ERROR, FIRST_FAILED_AT, HISTORY, QUEUE, REASON
from shared.topology import EFFECTS, INGRESS_DEAD_QUEUE, UNROUTED, dead_queue_of, queue_of

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage

# What a redriven event carries beside `first_failed_at`; consumers keep our headers on retried and dead copies.
REDRIVEN_AT: Final = "redriven_at"
REDRIVES: Final = "redrives"

EFFECT_DEAD_QUEUES: Final = tuple(dead_queue_of(queue_of(effect)) for effect in EFFECTS)
DEAD_QUEUES: Final = (*EFFECT_DEAD_QUEUES, INGRESS_DEAD_QUEUE, UNROUTED)

# Of letters whose message has no id: the queues for what nobody understands hold such.
MADE_UP: Final = "letter_"
MADE_UP_DIGITS: Final = 16

MAX_PREFETCH: Final = 65_000  # AMQP counts it in 16 bits
SILENCE_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One letter as it lies in `queue`. Ids and reasons only; what the event says stays in `message`."""

    queue: str
    failed_in: str | None
    event_id: str | None
    type: str | None
    user_id: str | None
    reason: str
    error: str | None
    attempt: int | None
    first_failed_at: str | None
    redriven_at: str | None
    redrives: int
    history: tuple[Failure, ...]
    message: AbstractIncomingMessage

    @property
    def id(self) -> str:
        """What it is asked for by: its event's id; where it has none, one made of what it is, the same every time."""
        return self.event_id or made_up_id(self.queue, self.type, self.message.body)

    @property
    def effect(self) -> str | None:
        """The effect that gave it up; None for what never came to one."""
        return next((effect for effect in EFFECTS if queue_of(effect) == self.failed_in), None)

    @property
    def failed_at(self) -> str | None:
        """When it failed last, as far as its headers tell."""
        return (self.history[-1].at if self.history else None) or self.first_failed_at

    def as_json(self) -> dict[str, Any]:
        names = ("id", "queue", "effect", "failed_in", "event_id", "type", "user_id", "reason", "error", "attempt")
        history = ("first_failed_at", "failed_at", "redriven_at", "redrives")
        told = {name: getattr(self, name) for name in (*names, *history)}
        return {**told, "history": [asdict(failure) for failure in self.history]}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters are meant; None and empty: any."""

    reason: str | None = None
    user_id: str | None = None
    ids: tuple[str, ...] = ()
    since: datetime | None = None

    def takes(self, letter: DeadLetter) -> bool:
        return (
            (self.reason is None or letter.reason == self.reason)
            and (self.user_id is None or letter.user_id == self.user_id)
            and (not self.ids or letter.id in self.ids)
            and (self.since is None or _not_before(letter.failed_at, self.since))
        )

    @property
    def takes_all(self) -> bool:
        return self.reason is None and self.user_id is None and not self.ids and self.since is None


class Reader:
    """The letters that lay in a queue when it was opened. `unseen` of them have not been handed out yet.

    What comes in meanwhile is in `newcomers`, as far as acknowledging has made room for it.
    """

    def __init__(self, channel: AbstractChannel, queue: str, depth: int, window: int | None) -> None:
        self.queue = queue
        self.unseen = depth
        self.newcomers: list[DeadLetter] = []
        self.came = asyncio.Event()
        self._awaited = depth
        self._channel = channel
        # The window counts per consumer: a queue deeper than one may hold is read by several on one channel.
        self._prefetch = min(window or depth, MAX_PREFETCH)
        self._consumers = 1 if window else -(-depth // MAX_PREFETCH)
        self._inbox: asyncio.Queue[AbstractIncomingMessage] | None = None

    async def next(self) -> DeadLetter | None:
        """The next letter, or None after the last, or when somebody else has the rest in hand (`unseen` says so)."""
        if not self.unseen:
            return None
        inbox = await self._consuming()
        try:
            # Not wait_for: in Python 3.11 it forgets a Ctrl-C that comes with a message.
            async with asyncio.timeout(SILENCE_S):
                message = await inbox.get()
        except TimeoutError:
            return None
        self.unseen -= 1
        return letter_of(self.queue, message)

    async def rest(self) -> AsyncIterator[DeadLetter]:
        """All that `next` would give."""
        while (letter := await self.next()) is not None:
            yield letter

    async def _consuming(self) -> asyncio.Queue[AbstractIncomingMessage]:
        if self._inbox is not None:
            return self._inbox
        inbox = self._inbox = asyncio.Queue()

        async def take(message: AbstractIncomingMessage) -> None:
            if self._awaited:
                self._awaited -= 1
                inbox.put_nowait(message)
            else:
                self.newcomers.append(letter_of(self.queue, message))
                self.came.set()

        await self._channel.set_qos(prefetch_count=self._prefetch)
        queue = await self._channel.get_queue(self.queue, ensure=False)
        for _ in range(self._consumers):
            await queue.consume(take)
        return inbox


@asynccontextmanager
async def opened(connection: AbstractConnection, queue: str, *, window: int | None = None) -> AsyncIterator[Reader]:
    """Read `queue`; what was not acknowledged goes back to its place at the end.

    `window` bounds how much is held at once, for readers that acknowledge everything. The queue's delivery limit is
    out of reach (`KEEP_DELIVERY_LIMIT`), so looking never moves a letter.

    Raises:
        TopologyError: there is no such queue.
    """
    channel = await connection.channel()
    try:
        try:
            declared = await channel.declare_queue(queue, passive=True)
        except ChannelNotFoundEntity as error:
            raise TopologyError(f"queue {queue} is missing on the broker: run `usher topology`") from error
        yield Reader(channel, queue, declared.declaration_result.message_count or 0, window)
    finally:
        with suppress(*CONNECTION_EXCEPTIONS):
            await channel.close()


def letter_of(queue: str, message: AbstractIncomingMessage) -> DeadLetter:
    """What a message in a dead-letter queue tells of itself, whether a consumer or the broker gave it up."""
    headers = message.headers
    death = _brokers_doing(headers)
    body = _json_of(message.body)
    return DeadLetter(
        queue=queue,
        failed_in=_text(death.get("queue")) or _failed_in(queue, headers),
        event_id=message.message_id or _text(body.get("id")),
        # Only where nothing takes it is the routing key still the type; elsewhere it is the queue's name.
        type=message.type or _text(body.get("type")) or (message.routing_key if queue == UNROUTED else None),
        user_id=_user_of(body),
        reason=_reason(queue, headers, death),
        error=_error(headers, death),
        attempt=_number(headers.get(ATTEMPT)),
        first_failed_at=_text(headers.get(FIRST_FAILED_AT)) or _death_time(death),
        redriven_at=_text(headers.get(REDRIVEN_AT)),
        redrives=_number(headers.get(REDRIVES)) or 0,
        history=_history(queue, headers, death),
        message=message,
    )


def made_up_id(queue: str, event_type: str | None, body: bytes) -> str:
    """Letters that agree in all of this share it: nothing that matters tells them apart."""
    content = b"\n".join((queue.encode(), (event_type or "").encode(), body))
    return f"{MADE_UP}{hashlib.sha256(content).hexdigest()[:MADE_UP_DIGITS]}"


def _brokers_doing(headers: Mapping[str, Any]) -> dict[str, Any]:
    """The broker's own note when it gave the message up itself; empty when a consumer did.

    Our copies leave the broker's headers behind, so what is there is about this message. The latest comes first;
    `expired` is only a wait on the retry ladder that is over.
    """
    deaths = headers.get("x-death")
    latest = deaths[0] if isinstance(deaths, list) and deaths else {}
    return latest if isinstance(latest, dict) and latest.get("reason") != "expired" else {}


def _failed_in(queue: str, headers: Mapping[str, Any]) -> str | None:
    if queue in EFFECT_DEAD_QUEUES:
        return _text(headers.get(QUEUE)) or queue.removesuffix(".dead")
    return None


def _reason(queue: str, headers: Mapping[str, Any], death: Mapping[str, Any]) -> str:
    if queue == UNROUTED:
        return "unrouted"
    return _text(death.get("reason")) or _text(headers.get(REASON)) or "unknown"


def _error(headers: Mapping[str, Any], death: Mapping[str, Any]) -> str | None:
    if death:
        return "the broker gave it up: it was handed out too often and never settled"
    return _text(headers.get(ERROR))


def _history(queue: str, headers: Mapping[str, Any], death: Mapping[str, Any]) -> tuple[Failure, ...]:
    """What the headers tell of every attempt; at least of the last one, even where nobody kept a history."""
    told = failures(_text(headers.get(HISTORY)))
    if told and not death:
        return told
    at = _death_time(death) if death else None
    last = Failure(at, _number(headers.get(ATTEMPT)) or 1, _reason(queue, headers, death), _error(headers, death) or "")
    return (*told, last)


def _not_before(moment: str | None, since: datetime) -> bool:
    """Where no moment is known it may as well be before."""
    try:
        return moment is not None and datetime.fromisoformat(moment) >= since
    except (ValueError, TypeError):  # no time, or one without an offset
        return False


def _death_time(death: Mapping[str, Any]) -> str | None:
    moment = death.get("time")
    if not isinstance(moment, datetime):
        return None
    return format_time(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _user_of(body: Mapping[str, Any]) -> str | None:
    """The subject of an event; of a raw webhook the id that it is about."""
    data = body.get("data")
    return _text(body.get("subject")) or (_text(data.get("id")) if isinstance(data, dict) else None)


def _json_of(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    return encodable(value) if isinstance(value, str) and value else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
