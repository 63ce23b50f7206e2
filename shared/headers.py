"""The headers and properties that are Usher's own, by name: the same with whatever AMQP client."""

from typing import Final

APP_ID: Final = "usher"

# `attempt` is 1-based; the rest stands on retried and dead-lettered copies.
ATTEMPT: Final = "attempt"
REASON: Final = "reason"
ERROR: Final = "error"
FIRST_FAILED_AT: Final = "first_failed_at"
QUEUE: Final = "queue"
HISTORY: Final = "history"
REPLAYED_AT: Final = "replayed_at"
