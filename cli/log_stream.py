"""The log stream `usher.log`: every event of the last days, in the order in which the broker stored them.

In: an open connection and where to begin. Out: entries, for ever. Reading a stream takes nothing away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelNotFoundEntity

from shared.errors import TopologyError, UsherError
from shared.topology import LOG_QUEUE

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

PREFETCH: Final = 500

# "first", "last" (the last chunk), "next", a number, or a moment (from the chunk that holds it on).
Offset = str | int | datetime


@dataclass(frozen=True, slots=True)
class Entry:
    offset: int
    message: AbstractIncomingMessage


class LogLostError(UsherError):
    """The connection over which the log was read is gone."""


class LogReader:
    """Hands out entries one after the other."""

    def __init__(self) -> None:
        self._inbox: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()

    async def take(self, message: AbstractIncomingMessage) -> None:
        self._inbox.put_nowait(message)

    def lost(self, _sender: object, _error: BaseException | None = None) -> None:
        self._inbox.put_nowait(None)

    async def next(self) -> Entry:
        """The next entry, waiting for it as long as it takes.

        Raises:
            LogLostError: the connection is gone.
        """
        message = await self._inbox.get()
        if message is None:
            raise LogLostError("the connection to RabbitMQ was lost")
        # A stream hands out more only against acks; nothing is removed by them.
        await message.ack()
        offset = message.headers.get("x-stream-offset")
        return Entry(offset if isinstance(offset, int) else 0, message)


@asynccontextmanager
async def opened(connection: AbstractConnection, offset: Offset) -> AsyncIterator[LogReader]:
    """Read the log from `offset` on.

    Raises:
        TopologyError: there is no log on the broker.
    """
    reader = LogReader()
    channel = await connection.channel()
    channel.close_callbacks.add(reader.lost)
    try:
        await channel.set_qos(prefetch_count=PREFETCH)
        queue = await channel.get_queue(LOG_QUEUE, ensure=False)
        try:
            await queue.consume(reader.take, arguments={"x-stream-offset": offset})
        except ChannelNotFoundEntity as error:
            raise TopologyError(f"queue {LOG_QUEUE} is missing on the broker: run `usher topology`") from error
        yield reader
    finally:
        with suppress(*CONNECTION_EXCEPTIONS):
            await channel.close()
