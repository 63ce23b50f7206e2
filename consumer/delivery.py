"""One message as the broker handed it out: what the loop may see of it, and the two ways to end it."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import aio_pika
from aio_pika import DeliveryMode
from aiormq.abc import AbstractChannel

from consumer.intake import Arrived
from consumer.ledger import Ledger
from shared.broker import cancelled_by_somebody
from shared.history import MAX_HISTORY_CHARS
from shared.messages import ATTEMPT, HISTORY

# Copies carry headers on, with some of ours added: they must fit into one frame (128 KiB), however many and long
# those of the original are.
MAX_HEADERS: Final = 50
MAX_HEADER_CHARS: Final = 500

HeaderValue = str | int


class Delivery(Protocol):
    """What settling needs of a message, whatever broker it came from."""

    @property
    def headers(self) -> Mapping[str, HeaderValue]: ...

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        ...

    async def ack(self) -> None: ...

    async def give_back(self) -> None:
        """Back to its queue, to be handed out again."""
        ...


class Origin:
    """The channel that deliveries came over: they can be settled on no other."""

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel
        self._ledger = Ledger()
        # Written in the order they were booked: an acknowledgement of several that overtakes one of a single delivery
        # would cover it, and the broker closes the channel over a tag that it knows no more.
        self._writing = asyncio.Lock()

    @property
    def closed(self) -> bool:
        return self._channel.is_closed

    @property
    def held_since(self) -> float | None:
        """On the monotonic clock, when the delivery came that is unsettled for longest."""
        return None if self.closed else self._ledger.held_since

    @property
    def held(self) -> int:
        """How many deliveries are unsettled."""
        return self._ledger.held

    def received(self, message: Arrived) -> "AmqpDelivery":
        delivery = AmqpDelivery(message, self)
        self._ledger.received(delivery.tag, delivery.received_at)
        return delivery

    async def ack(self, tags: Iterable[int]) -> None:
        """Acknowledge the deliveries `tags` and no other, in as few frames as that takes."""
        async with self._writing:
            acks = self._ledger.settle(tags)
            for ack in acks:
                # Frames are written in their order: the last one's being sent says that all are.
                await _sent(self._channel.basic_ack(ack.tag, multiple=ack.multiple, wait=ack is acks[-1]))

    async def give_back(self, tag: int) -> None:
        async with self._writing:
            self._ledger.settle([tag])
            await _sent(self._channel.basic_nack(tag, requeue=True))

    async def refuse(self, tag: int) -> None:
        """Have the broker dead-letter a delivery that cannot be copied, since it cannot be read."""
        async with self._writing:
            self._ledger.settle([tag])
            await _sent(self._channel.basic_reject(tag, requeue=False))


class AmqpDelivery:
    """A `Delivery` from RabbitMQ."""

    __slots__ = ("_properties", "body", "headers", "origin", "received_at", "tag")

    def __init__(self, message: Arrived, origin: Origin) -> None:
        self.origin = origin
        self.tag = message.tag
        self.body = message.body
        self._properties = message.properties
        self.headers: Mapping[str, HeaderValue] = plain_headers(self._properties.headers or {})
        self.received_at = time.monotonic()

    @property
    def attempt(self) -> int:
        """1 where the header is missing or nonsense."""
        value = self.headers.get(ATTEMPT)
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= 1 else 1

    @property
    def deliveries(self) -> int:
        """How often the broker had handed it out before without its being settled (quorum queues count)."""
        count = self.headers.get("x-delivery-count")
        return count if isinstance(count, int) else 0

    @property
    def event_id(self) -> str | None:
        return self._properties.message_id

    @property
    def lost(self) -> bool:
        """The channel is gone: the broker hands the message out again."""
        return self.origin.closed

    async def ack(self) -> None:
        await self.origin.ack([self.tag])

    async def give_back(self) -> None:
        await self.origin.give_back(self.tag)

    def copy(self, headers: Mapping[str, HeaderValue]) -> aio_pika.Message:
        """The same message with other headers; the broker's own are left out, it would count them on."""
        original = self._properties
        return aio_pika.Message(
            self.body,
            headers=dict(headers),
            content_type=original.content_type,
            delivery_mode=DeliveryMode.PERSISTENT,
            message_id=original.message_id,
            type=original.message_type,
            timestamp=original.timestamp,
            app_id=original.app_id,
        )


async def ack_all(deliveries: Sequence[AmqpDelivery]) -> None:
    """Acknowledge them together; what came over a lost channel is left to the broker.

    Raises:
        ConnectionError and its like: the channel closed meanwhile; none of them counts as settled.
    """
    tags: dict[Origin, list[int]] = {}
    for delivery in deliveries:
        tags.setdefault(delivery.origin, []).append(delivery.tag)
    for origin, settled in tags.items():
        await origin.ack(settled)


def plain_headers(headers: Mapping[str, Any]) -> dict[str, HeaderValue]:
    """Short texts and whole numbers, which are all of ours; what else somebody put there need not be writable again."""
    kept = ((name, value) for name, value in headers.items() if _is_plain(name, value))
    return dict(itertools.islice(kept, MAX_HEADERS))


def _is_plain(name: str, value: object) -> bool:
    longest = MAX_HISTORY_CHARS if name == HISTORY else MAX_HEADER_CHARS
    return isinstance(value, int) or (isinstance(value, str) and len(value) <= longest)


async def _sent(settling: Awaitable[None]) -> None:
    """Wait until it is sent. A connection that closes meanwhile must not end the worker as if it were cancelled."""
    try:
        await settling
    except asyncio.CancelledError as error:
        if cancelled_by_somebody():
            raise
        raise ConnectionError("the connection closed while a message was settled") from error
