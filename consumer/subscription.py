"""Being a queue's consumer, as the broker sees it: registered, registered again after every loss, or paused.

Goes in: messages the broker pushes. Comes out: `take`, one or several of them at a time.
Promise: what was taken over a lost channel is never handed on: the broker hands it out again.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from aiormq.abc import AbstractChannel as Underlay
from aiormq.abc import DeliveredMessage

from consumer import intake, properties
from consumer.delivery import AmqpDelivery, Origin
from consumer.intake import Arrived
from shared import topology
from shared.broker import BrokerLink, cancelled_by_somebody
from shared.declare import check

log = structlog.get_logger()

# A broker that is well answers in milliseconds; a silent connection would be waited for until its heartbeats run out.
REGISTER_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class QueueLook:
    """The queue as the broker sees it, and our part in it: what came so far, and whether we could hold more."""

    ready: int
    consumers: int
    arrived: int
    room: bool


class Subscription:
    """One consumer of an effect's queue. `link.run` must run; `want` says how many unsettled messages it may hold."""

    def __init__(self, effect: str, *, addresses: Sequence[str], prefetch: int) -> None:
        self.queue = topology.queue_of(effect)
        self.link = BrokerLink(
            addresses, name=f"usher {effect} in", on_channel=self._opened, publishes=False, kind=intake.Connection
        )
        self._queues = tuple(topology.effect_queues(effect, topology.EFFECTS[effect]))
        self._wanted_prefetch = prefetch
        self._compare = True
        self._buffer: asyncio.Queue[AmqpDelivery] = asyncio.Queue()
        self._channel: Underlay | None = None
        self._tag: str | None = None
        self._origin: Origin | None = None
        self._arrived: Callable[[Arrived], None] | None = None
        self._refusing: set[asyncio.Task[None]] = set()
        self._connection: AbstractConnection | None = None
        self._arrivals = 0
        self._changing = asyncio.Lock()

    @property
    def registered(self) -> bool:
        """Whether the broker has us as a consumer of the queue."""
        return self._tag is not None and self.link.state.open

    @property
    def held_since(self) -> float | None:
        """On the monotonic clock, when the message came that is unsettled for longest; None: nothing is held."""
        return self._origin.held_since if self._origin is not None else None

    async def look(self) -> QueueLook:
        """Ask the broker about the queue, on a channel of its own: a missing queue closes that.

        Raises:
            ConnectionError and its like: there is no connection, or it was lost.
        """
        if self._connection is None or self._origin is None:
            raise ConnectionError("not connected")
        async with self._connection.channel(publisher_confirms=False) as channel:
            declared = (await channel.declare_queue(self.queue, passive=True)).declaration_result
        room = self._origin.held < self._wanted_prefetch
        return QueueLook(declared.message_count or 0, declared.consumer_count or 0, self._arrivals, room)

    async def take(self, at_most: int) -> list[AmqpDelivery]:
        """At least one message, and what else is there at once up to `at_most`."""
        taken: list[AmqpDelivery] = []
        while not taken or (len(taken) < at_most and not self._buffer.empty()):
            delivery = await self._buffer.get()
            if not delivery.lost:
                taken.append(delivery)
        return taken

    def take_rest(self) -> list[AmqpDelivery]:
        """All that is there, without waiting."""
        return [delivery for _ in range(self._buffer.qsize()) if not (delivery := self._buffer.get_nowait()).lost]

    async def want(self, prefetch: int) -> None:
        """Hold up to `prefetch` unsettled messages from now on; 0 takes no more."""
        self._wanted_prefetch = prefetch
        try:
            async with asyncio.timeout(REGISTER_TIMEOUT_S):
                await self._unregister()
                await self._register()
        except (*CONNECTION_EXCEPTIONS, TimeoutError):
            self.link.drop("the consumer could not be registered")
        except asyncio.CancelledError:
            if cancelled_by_somebody():
                raise
            self.link.drop("the connection closed while the consumer was registered")

    async def give_back(self) -> None:
        """Hand all that is there back to the queue."""
        for delivery in self.take_rest():
            try:
                await delivery.give_back()
            except CONNECTION_EXCEPTIONS:
                log.debug("give_back_on_lost_channel", queue=self.queue)

    async def _opened(self, connection: AbstractConnection, channel: AbstractChannel) -> None:
        # Arguments are compared once a process: comparing means declaring, which is not for a broker that just healed.
        await check(connection, topology.Topology((), self._queues), compare=self._compare)
        self._compare = False
        underlay = await channel.get_underlay_channel()
        # The broker ends a consumer without closing anything when its queue is deleted or moves: begin anew.
        underlay.on_consumer_cancel_callbacks.add(lambda _frame: self.link.drop("the broker cancelled the consumer"))
        origin = Origin(underlay)

        def arrived(message: Arrived) -> None:
            self._arrivals += 1
            self._buffer.put_nowait(origin.received(message))

        if isinstance(connection, intake.Connection) and connection.intake is not None:
            connection.intake.attach(underlay.number, arrived, lambda tag: self._refuse(origin, tag))
        self._connection = connection
        self._channel, self._tag, self._origin, self._arrived = underlay, None, origin, arrived
        await self._register()

    async def _register(self) -> None:
        async with self._changing:
            if self._channel is None or self._tag is not None or not self._wanted_prefetch:
                return
            await self._channel.basic_qos(prefetch_count=self._wanted_prefetch)
            registered = await self._channel.basic_consume(self.queue, self._past_the_intake)
            self._tag = registered.consumer_tag

    async def _unregister(self) -> None:
        async with self._changing:
            tag, self._tag = self._tag, None
            if self._channel is None or self._channel.is_closed or tag is None:
                return
            await self._channel.basic_cancel(tag)

    async def _past_the_intake(self, message: DeliveredMessage) -> None:
        """What aiormq makes a task for: the intake leaves it nothing, where there is one."""
        if self._arrived is not None:
            self._arrived(Arrived(message.delivery_tag or 0, properties.of(message.header.properties), message.body))

    def _refuse(self, origin: Origin, tag: int) -> None:
        log.error("message_unreadable", queue=self.queue)
        task = asyncio.get_running_loop().create_task(_refused(origin, tag))
        self._refusing.add(task)
        task.add_done_callback(self._refusing.discard)


async def _refused(origin: Origin, tag: int) -> None:
    try:
        await origin.refuse(tag)
    except CONNECTION_EXCEPTIONS:
        log.debug("refused_on_lost_channel")  # it comes again
