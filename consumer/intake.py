"""Deliveries straight from the wire: below aio-pika, whose way costs two tasks, five queue turns and a copy a message.

Goes in: the frames of one channel, as aiormq's connection reads them. Comes out: whole messages, in the broker's order.
Promise: frames that belong to no delivery go on to the channel untouched.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

Received = Callable[[DeliveredMessage], None]

# What a channel is given for each frame: aiormq's weight, and the frame.
_Item = tuple[int, Any]


class Intake:
    """Stands in for `channel.frames`, the queue between aiormq's connection and its channel."""

    def __init__(self, channel: AbstractChannel, received: Received) -> None:
        self._channel: Final = channel
        self._received: Final = received
        self._frames: Final[asyncio.Queue[_Item]] = channel.frames
        self._delivery: commands.Basic.Deliver | None = None
        self._header: ContentHeader | None = None
        self._body: list[bytes] = []
        self._missing = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._frames, name)

    async def put(self, item: _Item) -> None:
        """Take what belongs to a delivery, hand on the rest. A channel never mixes the frames of two messages."""
        frame = item[1]
        if type(frame) is commands.Basic.Deliver:
            self._delivery = frame
        elif self._delivery is None:
            await self._frames.put(item)
        elif type(frame) is ContentHeader:
            self._header, self._body, self._missing = frame, [], frame.body_size or 0
            self._finish()
        elif type(frame) is ContentBody:
            self._body.append(frame.value)
            self._missing -= len(frame.value)
            self._finish()
        else:
            # The broker ends a channel between two frames of a message: that message was never whole.
            self._delivery = None
            await self._frames.put(item)

    def _finish(self) -> None:
        if self._missing > 0 or self._delivery is None or self._header is None:
            return
        delivery, self._delivery = self._delivery, None
        self._received(
            DeliveredMessage(delivery=delivery, header=self._header, body=b"".join(self._body), channel=self._channel),
        )


def attach(channel: AbstractChannel, received: Received) -> None:
    """From now on hand the channel's deliveries to `received`, before anything is consumed."""
    channel.frames = Intake(channel, received)  # type: ignore[assignment] # it has a queue's face
