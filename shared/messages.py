"""An event as an AMQP message: body, properties and headers of the contract in one place."""

from typing import Final

import aio_pika
from aio_pika import DeliveryMode

from shared.events import CONTENT_TYPE, Event, encode

APP_ID: Final = "usher"

# Our own headers. `attempt` is 1-based; the rest stands on retried and dead-lettered copies.
ATTEMPT: Final = "attempt"
REASON: Final = "reason"
ERROR: Final = "error"
FIRST_FAILED_AT: Final = "first_failed_at"
QUEUE: Final = "queue"
HISTORY: Final = "history"
REPLAYED_AT: Final = "replayed_at"


def event_message(event: Event) -> aio_pika.Message:
    """The first copy of `event`: persistent, with its id, type and time as properties."""
    return aio_pika.Message(
        encode(event),
        content_type=CONTENT_TYPE,
        delivery_mode=DeliveryMode.PERSISTENT,
        message_id=event.id,
        type=event.type,
        timestamp=event.time,
        app_id=APP_ID,
        headers={ATTEMPT: 1},
    )
