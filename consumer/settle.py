"""How a message ends: the only place that acknowledges.

Goes in: a delivery and its outcome. Comes out: nothing. Promise: a copy is confirmed before the original is
acknowledged, so a crash at any point duplicates and never loses.

It knows the broker only through `Delivery`, `Copy` and `AckAll`, so that a model of the broker can stand in for it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar, assert_never

from consumer.delivery import Delivery
from consumer.outcome import Ack, DeadLetter, Outcome, Retry
from consumer.properties import HeaderValue
from shared.events import format_time
from shared.history import Failure, noted
from shared.messages import ATTEMPT, ERROR, FIRST_FAILED_AT, HISTORY, QUEUE, REASON
from shared.topology import dead_queue_of, retry_queue_of

D = TypeVar("D", bound=Delivery)

# Publishes a copy of the delivery to a queue with these headers added, and returns when the broker has confirmed it.
Copy = Callable[[D, str, Mapping[str, HeaderValue]], Awaitable[None]]

# Acknowledges several deliveries together, and nothing else with them.
AckAll = Callable[[Sequence[D]], Awaitable[None]]


async def ack_each(deliveries: Sequence[Delivery]) -> None:
    for delivery in deliveries:
        await delivery.ack()


@dataclass(frozen=True, slots=True)
class Settler(Generic[D]):
    """Ends the messages of one queue."""

    queue: str
    copy: Copy[D]
    ack_all: AckAll[D] = ack_each

    async def settle_done(self, deliveries: Sequence[D]) -> None:
        """End deliveries whose outcome is `Ack`, together."""
        await self.ack_all(deliveries)

    async def settle(self, delivery: D, outcome: Outcome) -> None:
        """End `delivery` as `outcome` says.

        Raises:
            PublishError: the copy was not confirmed; the original is still unsettled, settling again is safe.
        """
        match outcome:
            case Ack():
                pass
            case Retry():
                headers = self._failure(delivery, outcome) | {ATTEMPT: outcome.attempt}
                await self.copy(delivery, retry_queue_of(self.queue, outcome.delay_s), headers)
            case DeadLetter():
                headers = self._failure(delivery, outcome) | {ATTEMPT: delivery.attempt}
                await self.copy(delivery, dead_queue_of(self.queue), headers)
            case _:
                assert_never(outcome)
        # Confirm before ack: a crash here duplicates, never loses.
        await delivery.ack()

    def _failure(self, delivery: Delivery, outcome: Retry | DeadLetter) -> dict[str, HeaderValue]:
        first, now = delivery.headers.get(FIRST_FAILED_AT), format_time(datetime.now(UTC))
        failure = Failure(now, delivery.attempt, outcome.reason, outcome.error)
        return {
            REASON: outcome.reason,
            ERROR: outcome.error,
            FIRST_FAILED_AT: first if isinstance(first, str) else now,
            QUEUE: self.queue,
            HISTORY: noted(delivery.headers.get(HISTORY), failure),
        }
