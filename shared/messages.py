"""An event as an AMQP message: body, properties and headers of the contract in one place."""

import aio_pika
from aio_pika import DeliveryMode

from shared.events import CONTENT_TYPE, Event, encode
from shared.headers import (
    APP_ID,
    ATTEMPT,
    ERROR,
    FIRST_FAILED_AT,
    HISTORY,
    QUEUE,
    REASON,
    REPLAYED_AT,
)

__all__ = [
    "APP_ID",
    "ATTEMPT",
    "ERROR",
    "FIRST_FAILED_AT",
    "HISTORY",
    "QUEUE",
    "REASON",
    "REPLAYED_AT",
    "event_message",
]


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
