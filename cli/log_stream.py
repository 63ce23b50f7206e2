"""The log stream `usher.log`: every event of the last days, in the order in which the broker stored them.

In: an open connection and where to begin. Out: entries, for ever or as far as they are stored now. Reading a stream
takes nothing away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelNotFoundEntity, ChannelPreconditionFailed

from shared.errors import TopologyError, UsherError
from shared.refusals import NO_REPLICA, NODE_IS_DOWN
from shared.topology import LOG_QUEUE

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage

PREFETCH: Final = 500
SILENCE_S: Final = 0.5

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

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel
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

    async def next_here(self) -> Entry | None:
        """The next entry if it has come already."""
        return None if self._inbox.empty() else await self.next()

    async def next_stored(self) -> Entry | None:
        """The next entry, or None where no more is stored for now.

        The broker does not say that it has handed out all. It answers on a channel in turn, so after a silence an
        answer shows that it is neither slow nor away.

        Raises:
            LogLostError: the connection is gone.
        """
        for _ in range(2):
            with suppress(TimeoutError):
                # Not wait_for: in Python 3.11 it forgets a Ctrl-C that comes with a message.
                async with asyncio.timeout(SILENCE_S):
                    return await self.next()
            await self._channel.declare_queue(LOG_QUEUE, passive=True)
            if self._inbox.empty():
                return None
        return await self.next()


@asynccontextmanager
async def opened(connection: AbstractConnection, offset: Offset) -> AsyncIterator[LogReader]:
    """Read the log from `offset` on.

    Raises:
        TopologyError: there is no log on the broker.
        LogLostError: its node is not up, or not yet, or this one has no replica of it.
    """
    channel = await connection.channel()
    reader = LogReader(channel)
    channel.close_callbacks.add(reader.lost)
    try:
        await channel.set_qos(prefetch_count=PREFETCH)
        queue = await channel.get_queue(LOG_QUEUE, ensure=False)
        try:
            await queue.consume(reader.take, arguments={"x-stream-offset": offset})
        except ChannelNotFoundEntity as error:
            if NODE_IS_DOWN in str(error):
                raise LogLostError(f"the node that holds {LOG_QUEUE} is not up yet") from error
            raise TopologyError(f"queue {LOG_QUEUE} is missing on the broker: run `usher topology`") from error
        except ChannelPreconditionFailed as error:
            if NO_REPLICA in str(error):
                raise LogLostError(f"this node has no replica of {LOG_QUEUE}, or not yet: ask another one") from error
            raise
        yield reader
    finally:
        with suppress(*CONNECTION_EXCEPTIONS):
            await channel.close()


async def end(connection: AbstractConnection) -> int:
    """The offset after the last entry that is stored now; 0 where there is none.

    Nobody is told it. It is after the last chunk's last entry, or where the first one that comes meanwhile has its
    place: a log that is written to all the time has no silence to wait for.
    """
    after = 0
    async with opened(connection, "next") as newer, opened(connection, "last") as log:
        while (entry := await log.next_stored()) is not None:
            after = entry.offset + 1
            new = await newer.next_here()
            if new is not None:
                return new.offset
    return after


async def offset_of(connection: AbstractConnection, place: Offset) -> int | None:
    """The offset of the first entry from `place` on (of a moment: of the chunk stored then); None: there is none."""
    async with opened(connection, place) as log:
        entry = await log.next_stored()
    return entry.offset if entry else None


async def stored(connection: AbstractConnection, start: Offset, before: int) -> AsyncIterator[Entry]:
    """The entries from `start` on, up to the offset `before`, which is not among them."""
    if isinstance(start, int) and start >= before:
        return
    async with opened(connection, start) as log:
        while (entry := await log.next_stored()) is not None and entry.offset < before:
            yield entry
            if entry.offset + 1 >= before:
                return
