"""What is told of a settled message: one wide log line and the metrics. Ids only, never what the event says."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from consumer.delivery import AmqpDelivery
from consumer.metrics import ConsumerMetrics
from consumer.outcome import Ack, DeadLetter, Outcome, Retry
from shared.errors import EffectError
from shared.events import UserEvent
from shared.log import trace_of

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Ending:
    """How one delivery ends: what it held, how the effect went, and what follows from that."""

    delivery: AmqpDelivery
    event: UserEvent | EffectError
    error: Exception | None
    outcome: Outcome


def report(effect: str, metrics: ConsumerMetrics, ending: Ending) -> None:
    """Tell what became of a settled delivery."""
    delivery, event, outcome = ending.delivery, ending.event, ending.outcome
    about: dict[str, object] = {"reason": None if isinstance(outcome, Ack) else outcome.reason}
    if isinstance(event, UserEvent):
        about |= {"user_id": event.subject, "type": event.type}
        if isinstance(outcome, Ack):
            metrics.critical_time.observe(max(0.0, (datetime.now(UTC) - event.time).total_seconds()))
    if isinstance(outcome, Retry):
        about["delay_s"] = outcome.delay_s
    if isinstance(outcome, Retry | DeadLetter):
        about["error"] = outcome.error
    if ending.error is not None and not isinstance(ending.error, EffectError):
        about["trace"] = trace_of(ending.error)
    metrics.settled(type(outcome).__name__, str(about["reason"] or ""))
    (log.error if isinstance(outcome, DeadLetter) else log.info)(
        "message_settled",
        effect=effect,
        outcome=type(outcome).__name__,
        event_id=delivery.event_id,
        attempt=delivery.attempt,
        ms=round((time.monotonic() - delivery.received_at) * 1000, 1),
        **about,
    )
