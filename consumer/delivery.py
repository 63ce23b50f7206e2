"""One message as the broker handed it out: what the loop may see of it, and the two ways to end it."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Mapping
from typing import Any, Final, Protocol

import aio_pika
from aio_pika import DeliveryMode
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from shared.broker import cancelled_by_somebody
from shared.messages import ATTEMPT

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


class AmqpDelivery:
    """A `Delivery` from RabbitMQ. It can be settled only on the channel it came over."""

    def __init__(self, message: AbstractIncomingMessage, channel: AbstractChannel) -> None:
        self._message = message
        self._channel = channel
        self.headers: Mapping[str, HeaderValue] = plain_headers(message.headers)
        self.received_at = time.monotonic()

    @property
    def body(self) -> bytes:
        return self._message.body

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
        return self._message.message_id

    @property
    def lost(self) -> bool:
        """The channel is gone: the broker hands the message out again."""
        return self._channel.is_closed

    async def ack(self) -> None:
        await _sent(self._message.ack())

    async def give_back(self) -> None:
        await _sent(self._message.nack(requeue=True))

    def copy(self, headers: Mapping[str, HeaderValue]) -> aio_pika.Message:
        """The same message with other headers; the broker's own are left out, it would count them on."""
        original = self._message
        return aio_pika.Message(
            original.body,
            headers=dict(headers),
            content_type=original.content_type,
            delivery_mode=DeliveryMode.PERSISTENT,
            message_id=original.message_id,
            type=original.type,
            timestamp=original.timestamp,
            app_id=original.app_id,
        )


def plain_headers(headers: Mapping[str, Any]) -> dict[str, HeaderValue]:
    """Short texts and whole numbers, which are all of ours; what else somebody put there need not be writable again."""
    kept = ((name, value) for name, value in headers.items() if _is_plain(value))
    return dict(itertools.islice(kept, MAX_HEADERS))


def _is_plain(value: object) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and len(value) <= MAX_HEADER_CHARS)


async def _sent(settling: Awaitable[None]) -> None:
    """Wait until it is sent. A connection that closes meanwhile must not end the worker as if it were cancelled."""
    try:
        await settling
    except asyncio.CancelledError as error:
        if cancelled_by_somebody():
            raise
        raise ConnectionError("the connection closed while a message was settled") from error
