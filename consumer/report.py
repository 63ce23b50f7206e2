"""What is told of a settled message: one wide log line and the metrics. Ids only, never what the event says."""

import time
from collections.abc import Iterable
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
    if isinstance(outcome, Ack):
        report_done(effect, metrics, [ending])
        return
    about: dict[str, object] = {"reason": outcome.reason}
    if isinstance(event, UserEvent):
        about |= {"user_id": event.subject, "type": event.type}
    if isinstance(outcome, Retry):
        about["delay_s"] = outcome.delay_s
    about["error"] = outcome.error
    if ending.error is not None and not isinstance(ending.error, EffectError):
        about["trace"] = trace_of(ending.error)
    metrics.failed(type(outcome).__name__, outcome.reason)
    (log.error if isinstance(outcome, DeadLetter) else log.info)(
        "message_settled",
        effect=effect,
        outcome=type(outcome).__name__,
        event_id=delivery.event_id,
        attempt=delivery.attempt,
        ms=round((time.monotonic() - delivery.received_at) * 1000, 1),
        **about,
    )


def report_done(effect: str, metrics: ConsumerMetrics, endings: Iterable[Ending]) -> None:
    """`report` for several that are done, as nearly all are: what they have in common is asked for once."""
    now, at, tell = datetime.now(UTC), time.monotonic(), log.info
    done = [(ending.delivery, ending.event) for ending in endings if isinstance(ending.event, UserEvent)]
    metrics.done([max(0.0, (now - event.time).total_seconds()) for _, event in done])
    for delivery, event in done:
        tell(
            "message_settled",
            effect=effect,
            outcome="Ack",
            event_id=delivery.event_id,
            attempt=delivery.attempt,
            ms=round((at - delivery.received_at) * 1000, 1),
            reason=None,
            user_id=event.subject,
            type=event.type,
        )
