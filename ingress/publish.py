"""Events in, the broker's confirm out: `publish` returns when a majority of the brokers have the event on disk.

Promise: never hangs, never says stored when it is not, and no publish waits for another one's confirm.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from time import perf_counter
from typing import Final

import aio_pika
from aio_pika import DeliveryMode

from ingress.metrics import IngressMetrics
from ingress.webhook import VerifiedWebhook
from shared.broker import BrokerLink
from shared.errors import PublishError
from shared.events import UserEvent, format_time
from shared.messages import APP_ID, ERROR, FIRST_FAILED_AT, REASON, event_message
from shared.topology import EVENTS_EXCHANGE, INGRESS_DEAD_QUEUE

# A connection that is on its way back takes this long at most; waiting longer would only pile up requests.
CONNECT_TIMEOUT_S: Final = 1.0
UNREADABLE: Final = "unreadable"


class Publisher:
    """Writes to the broker over one link. At most `max_in_flight` at once: more are refused, not queued."""

    def __init__(self, link: BrokerLink, *, max_in_flight: int, timeout_s: float, metrics: IngressMetrics) -> None:
        self._link = link
        self._max_in_flight = max_in_flight
        self._timeout_s = timeout_s
        self._metrics = metrics
        self._in_flight = 0

    async def publish(self, event: UserEvent) -> None:
        """Store the event.

        Raises:
            PublishError: not confirmed in time, refused, returned, or too many are under way.
        """
        await self._confirmed(event_message(event), EVENTS_EXCHANGE, event.type)

    async def keep_aside(self, webhook: VerifiedWebhook, reason: str) -> None:
        """Store a genuine webhook that cannot be read, whole, for a person to look at.

        This is the one place where a body is kept as it came, with whatever personal data it holds: what cannot be
        read cannot be stripped either. `reason` must not quote it.

        Raises:
            PublishError: as `publish`.
        """
        message = aio_pika.Message(
            webhook.body,
            content_type="application/json",
            delivery_mode=DeliveryMode.PERSISTENT,
            message_id=webhook.id,
            timestamp=webhook.sent_at,
            app_id=APP_ID,
            headers={REASON: UNREADABLE, ERROR: reason, FIRST_FAILED_AT: format_time(datetime.now(UTC))},
        )
        await self._confirmed(message, "", INGRESS_DEAD_QUEUE)

    async def _confirmed(self, message: aio_pika.Message, exchange: str, routing_key: str) -> None:
        with self._counted(), self._timed():
            await self._link.publish(
                message,
                exchange,
                routing_key,
                timeout_s=self._timeout_s,
                connect_timeout_s=min(CONNECT_TIMEOUT_S, self._timeout_s),
            )

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self._in_flight >= self._max_in_flight:
            raise PublishError(f"{self._in_flight} publishes are under way already")
        self._in_flight += 1
        self._metrics.in_flight.inc()
        try:
            yield
        finally:
            self._in_flight -= 1
            self._metrics.in_flight.dec()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started = perf_counter()  # uvloop's own clock knows only milliseconds
        try:
            yield
        finally:
            self._metrics.publish_seconds.observe(perf_counter() - started)
