"""Events in, the broker's confirm out: `publish` returns when a majority of the brokers have the event on disk.

Promise: never hangs, never says stored when it is not, and no publish waits for another one's confirm.
"""

from datetime import UTC, datetime
from time import perf_counter
from typing import Final

from ingress.amqp.link import PublisherLink
from ingress.amqp.message import Envelope, Message
from ingress.metrics import IngressMetrics
from ingress.webhook import VerifiedWebhook
from shared.errors import PublishError
from shared.events import CONTENT_TYPE, USER_EVENT_TYPES, UserEvent, encode, format_time
from shared.headers import APP_ID, ATTEMPT, ERROR, FIRST_FAILED_AT, REASON
from shared.topology import EVENTS_EXCHANGE, INGRESS_DEAD_QUEUE

# A connection that is on its way back takes this long at most; waiting longer would only pile up requests.
CONNECT_TIMEOUT_S: Final = 1.0
UNREADABLE: Final = "unreadable"

_ENVELOPES: Final = {
    kind: Envelope(EVENTS_EXCHANGE, kind, content_type=CONTENT_TYPE, headers={ATTEMPT: 1}, type_=kind, app_id=APP_ID)
    for kind in USER_EVENT_TYPES
}


class Publisher:
    """Writes to the broker over one link. At most `max_in_flight` at once: more are refused, not queued."""

    def __init__(self, link: PublisherLink, *, max_in_flight: int, timeout_s: float, metrics: IngressMetrics) -> None:
        self._link = link
        self._max_in_flight = max_in_flight
        self._timeout_s = timeout_s
        self._metrics = metrics
        self._in_flight = 0
        metrics.watch_in_flight(lambda: self._in_flight)

    @property
    def ready(self) -> bool:
        """Whether a publish would wait for nothing but its confirm."""
        return self._link.usable

    async def publish(self, event: UserEvent) -> None:
        """Store the event.

        Raises:
            PublishError: not confirmed in time, refused, returned, or too many are under way.
        """
        envelope = _ENVELOPES[event.type]
        await self._confirmed(Message(envelope, event.id, int(event.time.timestamp()), encode(event)))

    async def keep_aside(self, webhook: VerifiedWebhook, reason: str) -> None:
        """Store a genuine webhook that cannot be read, whole, for a person to look at.

        This is the one place where a body is kept as it came, with whatever personal data it holds: what cannot be
        read cannot be stripped either. `reason` must not quote it.

        Raises:
            PublishError: as `publish`.
        """
        headers = {REASON: UNREADABLE, ERROR: reason, FIRST_FAILED_AT: format_time(datetime.now(UTC))}
        envelope = Envelope("", INGRESS_DEAD_QUEUE, content_type="application/json", headers=headers, app_id=APP_ID)
        await self._confirmed(Message(envelope, webhook.id, int(webhook.sent_at.timestamp()), webhook.body))

    async def _confirmed(self, message: Message) -> None:
        if self._in_flight >= self._max_in_flight:
            raise PublishError(f"{self._in_flight} publishes are under way already")
        self._in_flight += 1
        started = perf_counter()  # uvloop's own clock knows only milliseconds
        try:
            await self._link.publish(
                message,
                timeout_s=self._timeout_s,
                connect_timeout_s=min(CONNECT_TIMEOUT_S, self._timeout_s),
            )
        finally:
            self._metrics.publish_seconds.observe(perf_counter() - started)
            self._in_flight -= 1
