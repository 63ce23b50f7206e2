"""What becomes of an event after its effect: a pure function from the error and the attempt to an outcome.

Promise: attempts are bounded; waiting and outages are not attempts; nothing ends but acknowledged or dead-lettered.
"""

from dataclasses import dataclass
from typing import Final

from shared.errors import (
    ConsumerCrashed,
    DecodeError,
    DependencyDown,
    NotYet,
    PermanentError,
    ThrottledError,
    UsherError,
)
from shared.topology import RETRY_DELAYS_S

# The wait after the 1st, 2nd, … failed attempt: eight attempts over about three hours.
BACKOFF_S: Final = (5, 30, 300, 300, 1800, 1800, 7200)
DEFAULT_MAX_ATTEMPTS: Final = len(BACKOFF_S) + 1

# An event that was handed out so often without being settled is taken for one that ends its consumer.
CRASH_DELIVERIES: Final = 5


@dataclass(frozen=True, slots=True)
class Ack:
    """Done."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Hand it out again after `delay_s` (one of the ladder's) as attempt number `attempt`."""

    delay_s: int
    attempt: int
    reason: str
    error: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Give it up, visibly: `reason` is a static code, `error` a sentence without personal data."""

    reason: str
    error: str


Outcome = Ack | Retry | DeadLetter


def decide(error: Exception | None, attempt: int, *, max_attempts: int = DEFAULT_MAX_ATTEMPTS) -> Outcome:
    """The outcome for an event whose `attempt`-th attempt ended with `error` (None: done).

    >>> decide(None, 1)
    Ack()
    >>> decide(NotYet("still creating", retry_after_s=60), 3)
    Retry(delay_s=30, attempt=3, reason='not_yet', error='NotYet: still creating')
    >>> decide(PermanentError("no such thing"), 1)
    DeadLetter(reason='permanent', error='PermanentError: no such thing')
    """
    match error:
        case None:
            return Ack()
        case NotYet():
            return Retry(_delay_up_to(error.retry_after_s), attempt, "not_yet", describe(error))
        case DependencyDown():
            return Retry(RETRY_DELAYS_S[0], attempt, "dependency_down", describe(error))
        case PermanentError():
            return DeadLetter(_permanent_reason(error), describe(error))
        case _ if attempt >= max_attempts:
            return DeadLetter(_exhausted_reason(error), describe(error))
        case ThrottledError():
            delay_s = _delay_from(max(error.retry_after_s, backoff_s(attempt)))
            return Retry(delay_s, attempt + 1, "throttled", describe(error))
        case _:
            return Retry(backoff_s(attempt), attempt + 1, _retry_reason(error), describe(error))


def backoff_s(attempt: int) -> int:
    """The wait after the failed attempt number `attempt`.

    >>> [backoff_s(attempt) for attempt in (1, 2, 7, 100)]
    [5, 30, 7200, 7200]
    """
    return BACKOFF_S[min(max(attempt, 1), len(BACKOFF_S)) - 1]


def describe(error: Exception) -> str:
    """The error for headers and logs. A bug's text may quote the event, so only its class is named."""
    name = type(error).__name__
    return f"{name}: {error}" if isinstance(error, UsherError) else name


def _permanent_reason(error: PermanentError) -> str:
    return "undecodable" if isinstance(error, DecodeError) else "permanent"


def _exhausted_reason(error: Exception) -> str:
    return "crashed_consumer" if isinstance(error, ConsumerCrashed) else "attempts_exhausted"


def _retry_reason(error: Exception) -> str:
    if isinstance(error, ConsumerCrashed):
        return "crashed_consumer"
    return "transient" if isinstance(error, UsherError) else "bug"


def _delay_up_to(seconds: float) -> int:
    """The ladder's longest delay that is not beyond `seconds`: early is fine when one only looks again."""
    return max((delay for delay in RETRY_DELAYS_S if delay <= seconds), default=RETRY_DELAYS_S[0])


def _delay_from(seconds: float) -> int:
    """The ladder's shortest delay that is not before `seconds`: who asked for patience gets it, up to the longest."""
    return min((delay for delay in RETRY_DELAYS_S if delay >= seconds), default=RETRY_DELAYS_S[-1])
