"""The loop of every consumer, a straight pipe: decode → effect → decide → settle.

Goes in: a queue and an effect. Comes out: every message acknowledged, on the retry ladder, or dead-lettered.
Promise: a message is acknowledged only after its effect, or after a confirmed copy; what is not settled comes again.

One message's life: the broker pushes it to the subscription; a worker takes it (with others, when the effect takes
batches), decodes it, hands the event to the effect, lets `decide` say what follows from the error, and `settle` does
it. What is done of a batch is acknowledged together; what failed goes its own way, beside those that come after it.
Workers bound what is done at once, the prefetch bounds what waits.

`Effect`, `Probe` and the protocols of `settle` are seams: behind them stand databases and broker, or models of them.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from consumer.breaker import Breaker, Probe, State
from consumer.delivery import AmqpDelivery, ack_all
from consumer.metrics import ConsumerMetrics
from consumer.outcome import CRASH_DELIVERIES, DEFAULT_MAX_ATTEMPTS, Ack, Outcome, decide
from consumer.presence import Presence
from consumer.properties import HeaderValue
from consumer.report import Ending, report, report_done
from consumer.settle import Settler
from consumer.subscription import Subscription
from shared.broker import BrokerLink
from shared.errors import ConsumerCrashed, DecodeError, DependencyDown, EffectError, PublishError
from shared.events import UserEvent, decode

log = structlog.get_logger()

COPY_TIMEOUT_S: Final = 5.0
SETTLE_AGAIN_S: Final = 1.0
# For so long at most, each for a time of its own, waits what was handed out twice and never settled.
APART_S: Final = 2.0

# An effect on several events: one error (or None) for each, in their order. Raising fails all of them alike.
Effect = Callable[[Sequence[UserEvent]], Awaitable[Sequence[Exception | None]]]


def one_by_one(effect: Callable[[UserEvent], Awaitable[None]]) -> Effect:
    """An effect on single events, as the loop wants it."""

    async def each(events: Sequence[UserEvent]) -> list[Exception | None]:
        return [await _error_of(effect(event)) for event in events]

    return each


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a consumer takes on: `workers` at once, each up to `batch` events; attempts before it gives up."""

    workers: int = 8
    batch: int = 1
    max_attempts: int = DEFAULT_MAX_ATTEMPTS

    @property
    def prefetch(self) -> int:
        return 2 * self.workers * self.batch


class Consumer:
    """Runs one effect on its queue until stopped. Heals its connections; pauses while its dependency is down.

    `outbound` is another connection than the subscription's: an alarm blocks those that publish, and acks must go on.
    """

    def __init__(
        self,
        name: str,
        effect: Effect,
        *,
        subscription: Subscription,
        outbound: BrokerLink,
        probes: Mapping[str, Probe],
        limits: Limits,
        metrics: ConsumerMetrics,
    ) -> None:
        self.name = name
        self._effect = effect
        self._limits = limits
        self._metrics = metrics
        self.subscription = subscription
        self.outbound = outbound
        self.breaker = Breaker(probes, changed=self._breaker_changed)
        self.presence = Presence(subscription)
        self._settler = Settler(self.subscription.queue, self._copy, ack_all)
        self._stopping = False
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._changes: set[asyncio.Task[None]] = set()

    @property
    def in_flight(self) -> int:
        return self._busy

    async def run(self) -> None:
        """Consume until cancelled; call `stop` first to end cleanly."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.outbound.run())
            tasks.create_task(self.subscription.link.run())
            tasks.create_task(self.breaker.run())
            tasks.create_task(self.presence.run())
            for _ in range(self._limits.workers):
                tasks.create_task(self._work(tasks))

    async def stop(self, deadline_s: float) -> None:
        """Take no more, finish what is under way within `deadline_s`, give the rest back; then cancel `run`."""
        self._stopping = True
        try:
            async with asyncio.timeout(deadline_s):
                await self.subscription.want(0)
                await self.subscription.give_back()
                await self._idle.wait()
        except TimeoutError:
            log.warning("stop_deadline_passed", queue=self.subscription.queue, in_flight=self._busy)

    async def close(self) -> None:
        """Wait for connections on their way out; after `run` has ended."""
        for link in (self.subscription.link, self.outbound):
            await link.close()

    async def _work(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            batch = await self.subscription.take(self._limits.batch)
            self._set_busy(self._busy + len(batch))
            together, alone = self._parted(batch)
            for delivery in alone:
                tasks.create_task(self._finish([delivery], tasks))
            if together:
                await self._finish(together, tasks)

    def _parted(self, batch: list[AmqpDelivery]) -> tuple[list[AmqpDelivery], list[AmqpDelivery]]:
        """What was handed out before may be what ended its consumer: it shares no batch, for nobody to end with it."""
        if self._limits.batch == 1:
            return batch, []
        return [one for one in batch if not one.deliveries], [one for one in batch if one.deliveries]

    async def _finish(self, batch: Sequence[AmqpDelivery], tasks: asyncio.TaskGroup) -> None:
        failed: list[Ending] = []
        try:
            await _come_apart(batch)
            failed = await self._consume(batch)
        finally:
            self._set_busy(self._busy - len(batch) + len(failed))
        # Aside: while the broker takes no copies, what failed must not hold up what could be done.
        for ending in failed:
            tasks.create_task(self._settle_failed(ending))

    async def _consume(self, batch: Sequence[AmqpDelivery]) -> list[Ending]:
        """Apply, and settle what is done; returns what failed."""
        decoded = [_decoded(delivery) for delivery in batch]
        errors = iter(await self._applied([event for event in decoded if isinstance(event, UserEvent)]))
        endings = [
            self._ending(delivery, event, next(errors) if isinstance(event, UserEvent) else event)
            for delivery, event in zip(batch, decoded, strict=True)
        ]
        self._note_dependency(endings)
        await self._settle_done([ending for ending in endings if isinstance(ending.outcome, Ack)])
        return [ending for ending in endings if not isinstance(ending.outcome, Ack)]

    async def _applied(self, events: list[UserEvent]) -> list[Exception | None]:
        """One error or None for each event."""
        if not events:
            return []
        try:
            errors = list(await self._effect(events))
        except Exception as error:  # noqa: BLE001 - any error of an effect is a bounded retry, never a dead consumer
            errors = [error] * len(events)
        if len(errors) != len(events):
            errors = [RuntimeError("the effect gave another number of results than events")] * len(events)
        return errors

    def _ending(self, delivery: AmqpDelivery, event: UserEvent | EffectError, error: Exception | None) -> Ending:
        return Ending(delivery, event, error, decide(error, delivery.attempt, max_attempts=self._limits.max_attempts))

    def _note_dependency(self, endings: Sequence[Ending]) -> None:
        if any(ending.error is None for ending in endings):
            self.breaker.succeeded()  # it is there: what failed beside that failed for reasons of its own
            return
        for ending in endings:
            match ending.error:
                case DependencyDown() as error:
                    self.breaker.failed(error, ending.delivery.event_id or "")
                case DecodeError() | ConsumerCrashed():
                    pass  # the effect was not asked
                case EffectError():
                    self.breaker.answered()
                case _:
                    pass  # a bug says nothing about the dependency

    async def _settle_done(self, endings: Sequence[Ending]) -> None:
        there = [ending for ending in endings if not ending.delivery.lost]
        try:
            await self._settler.settle_done([ending.delivery for ending in there])
        except CONNECTION_EXCEPTIONS:
            there = []
        report_done(self.name, self._metrics, there)
        if len(there) < len(endings):
            log.warning("messages_not_settled", effect=self.name, count=len(endings) - len(there))

    async def _settle_failed(self, ending: Ending) -> None:
        try:
            if await self._settle(ending.delivery, ending.outcome):
                report(self.name, self._metrics, ending)
        finally:
            self._set_busy(self._busy - 1)

    async def _settle(self, delivery: AmqpDelivery, outcome: Outcome) -> bool:
        """Settle; while the broker takes no copy, hold the message and try again. False: it will come again."""
        while not delivery.lost:
            try:
                await self._settler.settle(delivery, outcome)
            except PublishError as error:
                log.warning("copy_not_confirmed", effect=self.name, event_id=delivery.event_id, error=str(error))
                if self._stopping:
                    return False
                await asyncio.sleep(SETTLE_AGAIN_S)
            except CONNECTION_EXCEPTIONS:
                break
            else:
                return True
        log.warning("message_not_settled", effect=self.name, event_id=delivery.event_id)
        return False

    async def _copy(self, delivery: AmqpDelivery, queue: str, headers: Mapping[str, HeaderValue]) -> None:
        # The broker's own headers (x-death, x-delivery-count) are left behind: they tell of the original.
        ours = {name: value for name, value in delivery.headers.items() if not name.startswith("x-")}
        await self.outbound.publish(delivery.copy({**ours, **headers}), "", queue, timeout_s=COPY_TIMEOUT_S)

    def _set_busy(self, busy: int) -> None:
        self._busy = busy
        self._metrics.in_flight.set(busy)
        if busy:
            self._idle.clear()
        else:
            self._idle.set()

    def _breaker_changed(self, state: State) -> None:
        self._metrics.breaker(state)
        task = asyncio.get_running_loop().create_task(self._follow_breaker())
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)

    async def _follow_breaker(self) -> None:
        """Open: no more messages, and what waits is put off uncounted. Half open: one at a time. Closed: all again."""
        if self._stopping:
            return
        match self.breaker.state.state:
            case State.OPEN:
                await self.subscription.want(0)
                await self._put_off_rest()
            case State.HALF_OPEN:
                await self.subscription.want(1)
            case State.CLOSED:
                await self.subscription.want(self._limits.prefetch)

    async def _put_off_rest(self) -> None:
        # By a copy, not by a requeue: the broker counts requeues and would give the event up in the end.
        paused = DependencyDown("paused: the dependency is down")
        rest = self.subscription.take_rest()
        await asyncio.gather(*(self._settle(delivery, decide(paused, delivery.attempt)) for delivery in rest))


async def _come_apart(batch: Sequence[AmqpDelivery]) -> None:
    """What ends its consumer at once would end it before its neighbours are done, were they always begun together."""
    if any(1 < delivery.deliveries < CRASH_DELIVERIES for delivery in batch):
        await asyncio.sleep(random.uniform(0, APART_S))  # noqa: S311 - no secret


def _decoded(delivery: AmqpDelivery) -> UserEvent | EffectError:
    """The event, or why it must not reach the effect."""
    if delivery.deliveries >= CRASH_DELIVERIES:
        return ConsumerCrashed(f"handed out {delivery.deliveries} times and never settled")
    try:
        event = decode(delivery.body)
    except DecodeError as error:
        return error
    return event if isinstance(event, UserEvent) else DecodeError("not a user's event")


async def _error_of(effect: Awaitable[None]) -> Exception | None:
    try:
        await effect
    except Exception as error:  # noqa: BLE001 - every error becomes an outcome
        return error
    return None
