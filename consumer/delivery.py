"""One message as the broker handed it out: what the loop may see of it, and the two ways to end it."""

import asyncio
import time
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Protocol

import aio_pika
from aio_pika import DeliveryMode
from aiormq.abc import AbstractChannel

from consumer.intake import Arrived
from consumer.ledger import Ledger
from consumer.properties import HeaderValue
from shared.broker import cancelled_by_somebody


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

    __slots__ = ("_properties", "attempt", "body", "deliveries", "event_id", "headers", "origin", "received_at", "tag")

    def __init__(self, message: Arrived, origin: Origin) -> None:
        self.tag, self._properties, self.body = message
        self.origin = origin
        self.event_id = self._properties.message_id
        kind = self._properties.kind
        self.headers, self.attempt = kind.headers, kind.attempt
        # How often the broker had handed it out before without its being settled (quorum queues count).
        self.deliveries = kind.deliveries
        self.received_at = time.monotonic()

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
        kind = self._properties.kind
        return aio_pika.Message(
            self.body,
            headers=dict(headers),
            content_type=kind.content_type,
            delivery_mode=DeliveryMode.PERSISTENT,
            message_id=self.event_id,
            type=kind.type,
            timestamp=self._properties.timestamp_s,
            app_id=kind.app_id,
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


async def _sent(settling: Awaitable[None]) -> None:
    """Wait until it is sent. A connection that closes meanwhile must not end the worker as if it were cancelled."""
    try:
        await settling
    except asyncio.CancelledError as error:
        if cancelled_by_somebody():
            raise
        raise ConnectionError("the connection closed while a message was settled") from error
