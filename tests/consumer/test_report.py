"""What is told of settled messages: each counted once, with how long after its event, and a line with ids alone."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from aiormq.abc import AbstractChannel
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from consumer.delivery import AmqpDelivery, Origin
from consumer.intake import Arrived
from consumer.metrics import ConsumerMetrics
from consumer.outcome import Ack
from consumer.properties import Kind, Properties
from consumer.report import Ending, report_done
from tests.support.events import user_event


def _done(number: int, *, happened_at: datetime) -> Ending:
    kind = Kind({}, None, None, None, attempt=number, deliveries=0)
    arrived = Arrived(number, Properties(f"msg_{number}", None, kind), b"")
    delivery = AmqpDelivery(arrived, Origin(cast("AbstractChannel", None)))
    delivery.received_at -= 2
    event = replace(user_event(user=f"user_{number}"), time=happened_at)
    return Ending(delivery, event, None, Ack())


def test_of_what_is_done_together_each_is_counted_timed_and_told() -> None:
    registry, now = CollectorRegistry(), datetime.now(UTC)
    metrics = ConsumerMetrics(registry, "sync_user", "usher.sync_user")
    an_hour_ago, ahead = now - timedelta(hours=1), now + timedelta(hours=1)  # by a clock that is fast

    with capture_logs() as lines:
        report_done("sync_user", metrics, [_done(1, happened_at=an_hour_ago), _done(2, happened_at=ahead)])

    labels = {"queue": "usher.sync_user", "outcome": "Ack", "reason": ""}
    assert registry.get_sample_value("usher_messages_total", labels) == 2
    told = {
        name: registry.get_sample_value(f"usher_critical_time_seconds_{name}", {"effect": "sync_user"})
        for name in ("count", "sum")
    }
    assert told == {"count": 2, "sum": pytest.approx(3600, abs=60)}
    assert [2000 <= line.pop("ms") < 60_000 for line in lines] == [True, True]
    common = {
        "event": "message_settled",
        "log_level": "info",
        "effect": "sync_user",
        "outcome": "Ack",
        "reason": None,
        "type": "user.created",
    }
    assert lines == [
        {**common, "event_id": f"msg_{number}", "user_id": f"user_{number}", "attempt": number} for number in (1, 2)
    ]


def test_where_nothing_is_done_nothing_is_counted() -> None:
    registry = CollectorRegistry()
    report_done("sync_user", ConsumerMetrics(registry, "sync_user", "q"), [])
    assert registry.get_sample_value("usher_critical_time_seconds_count", {"effect": "sync_user"}) == 0
