"""What lies in the queues, seen from outside.

In: an open connection. Out: depths and ages. Promise: nothing is taken, moved or counted as a delivery in the work
queues: depths come from passive declarations, ages from the log and from the dead letters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING, Final

from aio_pika.exceptions import ChannelNotFoundEntity

from cli import dead_letters, log_stream
from shared.topology import (
    EFFECTS,
    INGRESS_DEAD_QUEUE,
    LOG_QUEUE,
    RETRY_DELAYS_S,
    UNROUTED,
    dead_queue_of,
    queue_of,
    retry_queue_of,
    topology,
)

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

LOG_SCAN_MAX: Final = 5_000


@dataclass(frozen=True, slots=True)
class Depth:
    """What lies ready in a queue and how many consume it; None: the queue is missing."""

    messages: int | None
    consumers: int | None


@dataclass(frozen=True, slots=True)
class Work:
    """One effect's messages. `oldest_waiting` is about: when the event happened that, by the log, waits longest."""

    effect: str
    waiting: int | None
    consumers: int | None
    retrying: dict[str, int | None]
    dead: int | None
    oldest_waiting: str | None
    oldest_dead: str | None


@dataclass(frozen=True, slots=True)
class Broker:
    trouble: str | None = None
    work: list[Work] = field(default_factory=list)
    others: dict[str, int | None] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    @property
    def given_up(self) -> dict[str, int]:
        """How many lie in each queue that should be empty; those that are."""
        dead = {dead_queue_of(queue_of(work.effect)): work.dead for work in self.work}
        return {name: count for name, count in {**dead, **self.others}.items() if count}


async def look(connection: AbstractConnection) -> Broker:
    """Count what lies in every queue."""
    depths = {queue.name: await _depth(connection, queue.name) for queue in topology().queues}
    work = [await _work(connection, effect, types, depths) for effect, types in EFFECTS.items()]
    kept_aside = (INGRESS_DEAD_QUEUE, UNROUTED)
    return Broker(
        work=work,
        others={name: depths[name].messages for name in kept_aside},
        missing=[name for name, depth in depths.items() if depth.messages is None],
    )


async def _depth(connection: AbstractConnection, queue: str) -> Depth:
    channel = await connection.channel()
    try:
        declared = (await channel.declare_queue(queue, passive=True)).declaration_result
    except ChannelNotFoundEntity:
        return Depth(None, None)
    finally:
        await channel.close()
    return Depth(declared.message_count or 0, declared.consumer_count or 0)


async def _work(connection: AbstractConnection, effect: str, types: Sequence[str], depths: dict[str, Depth]) -> Work:
    queue = queue_of(effect)
    ladder = (retry_queue_of(queue, delay_s) for delay_s in RETRY_DELAYS_S)
    waiting, dead = depths[queue].messages, depths[dead_queue_of(queue)].messages
    log = depths[LOG_QUEUE].messages
    return Work(
        effect=effect,
        waiting=waiting,
        consumers=depths[queue].consumers,
        retrying={name.rpartition(".")[2]: depths[name].messages for name in ladder},
        dead=dead,
        oldest_waiting=await _oldest_waiting(connection, types, waiting) if waiting and log is not None else None,
        oldest_dead=await _oldest_dead(connection, dead_queue_of(queue)) if dead else None,
    )


async def _oldest_waiting(connection: AbstractConnection, types: Sequence[str], waiting: int) -> str | None:
    """When the event happened that waits longest, by the log; None where the log does not tell.

    A work queue cannot be looked into without handing its messages out. But the log has the same events in the same
    order, so what waits are about the last `waiting` of them (what came from the retry ladder shifts that a little).
    """
    end = await log_stream.end(connection)
    # The queue takes only some of the log's types: look back a few times as far as it is deep.
    start = max(0, end - min(LOG_SCAN_MAX, 4 * waiting + 100))
    entries = log_stream.stored(connection, start, end)
    moments = [entry.message.timestamp async for entry in entries if entry.message.type in types]
    moment = moments[-waiting] if len(moments) >= waiting else None
    return moment.astimezone(UTC).isoformat(timespec="seconds") if moment else None


async def _oldest_dead(connection: AbstractConnection, queue: str) -> str | None:
    async with dead_letters.opened(connection, queue, window=1) as letters:
        letter = await letters.next()
    return letter.first_failed_at if letter else None
