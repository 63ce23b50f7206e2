"""The broker's own view: how many consumers a queue has, what waits in it, and what lies in the log and among the dead.

A connection for each look, because the broker is what is being broken.
"""

import asyncio
import contextlib
import time
from collections.abc import Collection
from typing import Final

import aio_pika
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelPreconditionFailed

from shared.topology import (
    EFFECTS,
    INGRESS_DEAD_QUEUE,
    LOG_QUEUE,
    RETRY_DELAYS_S,
    UNROUTED,
    dead_queue_of,
    queue_of,
    retry_queue_of,
)
from tests.support.broker import Stored, drain, stored
from tests.support.eventually import eventually

QUIET_S: Final = 1.5
REPLICA_S: Final = 60.0
LOOK_EVERY_S: Final = 0.2
LOOK_TIMEOUT_S: Final = 5.0
WORK: Final = tuple(queue_of(effect) for effect in EFFECTS)
WAITING: Final = tuple(retry_queue_of(queue, delay_s) for queue in WORK for delay_s in RETRY_DELAYS_S)
DEAD: Final = (*(dead_queue_of(queue) for queue in WORK), INGRESS_DEAD_QUEUE, UNROUTED)

Lost = (*CONNECTION_EXCEPTIONS, TimeoutError, OSError)


class BrokerWatch:
    """Notes how long it took from `since` until every effect has its `consumers` again."""

    def __init__(self, amqp_url: str, *, consumers: int, since: float) -> None:
        self.registered_s: float | None = None
        self._task = asyncio.create_task(self._watch(amqp_url, consumers, since))

    def cancel(self) -> None:
        self._task.cancel()

    async def _watch(self, amqp_url: str, consumers: int, since: float) -> None:
        while self.registered_s is None:
            if await registered(amqp_url) >= consumers:
                self.registered_s = time.monotonic() - since
            await asyncio.sleep(LOOK_EVERY_S)


async def registered(amqp_url: str) -> int:
    """Consumers of the effect that has the fewest, as the broker sees it; 0 while it does not answer."""
    return min([consumers for consumers, _ in await look(amqp_url, WORK)], default=0)


async def backlog(amqp_url: str) -> int | None:
    """Messages that are still to be worked on; None while the broker does not answer."""
    seen = await look(amqp_url, (*WORK, *WAITING))
    return sum(messages for _, messages in seen) if seen else None


async def dead_letters(amqp_url: str) -> dict[str, list[Stored]]:
    """Everything that was given up, by queue; taken out of it."""
    return {queue: await drain(amqp_url, queue) for queue in DEAD}


async def logged(amqp_url: str, accepted: Collection[str]) -> list[Stored]:
    """All user events in the log stream, once it has all `accepted` ids, else when there is no more hope of them.

    A node that was killed or cut off has its replica again some time after it has started, and its end later still.
    """
    found: list[Stored] = []

    async def read() -> bool:
        found[:] = await _logged(amqp_url)
        return {entry.properties["message_id"] for entry in found} >= set(accepted)

    with contextlib.suppress(AssertionError):
        await eventually(read, timeout_s=REPLICA_S, every_s=0.5)
    return found


async def _logged(amqp_url: str) -> list[Stored]:
    """Read from the first until nothing more comes."""
    found: list[Stored] = []
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=500)
        queue = await channel.get_queue(LOG_QUEUE, ensure=False)
        try:
            async with queue.iterator(arguments={"x-stream-offset": "first"}, timeout=QUIET_S) as entries:
                async for entry in entries:
                    found.append(stored(entry))
                    await entry.ack()
        except TimeoutError:
            pass
        except ChannelPreconditionFailed as error:
            raise AssertionError(str(error)) from error
    return [entry for entry in found if (entry.properties["type"] or "").startswith("user.")]


async def look(amqp_url: str, queues: tuple[str, ...]) -> list[tuple[int, int]]:
    """Consumers and ready messages of each queue; nothing when the broker does not answer."""
    try:
        async with asyncio.timeout(LOOK_TIMEOUT_S), await aio_pika.connect(amqp_url) as connection:
            channel = await connection.channel()
            return [await _counts(channel, queue) for queue in queues]
    except Lost:
        return []


async def _counts(channel: AbstractChannel, queue: str) -> tuple[int, int]:
    declared = (await channel.declare_queue(queue, passive=True)).declaration_result
    return declared.consumer_count or 0, declared.message_count or 0
