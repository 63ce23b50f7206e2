"""Every error of Usher, grouped by what happens next.

    UsherError
    ├── SettingsError            the operator's fault: the process does not start
    ├── TopologyError            the broker lacks what the process needs, or has it otherwise
    ├── WebhookError             the sender's fault; nothing published
    │   ├── SignatureError       401, with a reason code
    │   └── PayloadError         genuine but unreadable: kept aside, answered 2xx
    ├── PublishError             not confirmed: 503 + Retry-After; a consumer gives the event back
    └── EffectError
        ├── TransientError       retry with backoff, dead-letter when the attempts run out
        │   ├── ThrottledError   … not before `retry_after_s`
        │   ├── ConsumerCrashed  the event was handed out again and again and never settled
        │   └── DependencyDown   the breaker opens; not an attempt
        ├── NotYet               waiting, not failing; not an attempt
        └── PermanentError       dead-letter now
            └── DecodeError      what lies in the queue is no event

Anything else is a bug: retried within the same bound, logged with its traceback, then dead-lettered.
"""

from enum import StrEnum


class UsherError(Exception):
    """What Usher raises on purpose. The text is for an operator: it says what to do, never personal data."""


class SettingsError(UsherError):
    """One or more settings are missing or wrong; the text lists all of them, a line each."""


class TopologyError(UsherError):
    """An exchange or queue is missing or was declared with other arguments."""


class WebhookError(UsherError):
    """A webhook that must not become an event."""


class SignatureProblem(StrEnum):
    """Why a signature was refused: the reason code that the sender sees."""

    MISSING = "missing"
    MALFORMED = "malformed"
    FORGED = "forged"
    STALE = "stale"
    FUTURE = "future"


class SignatureError(WebhookError):
    """The webhook is not proven to come from Clerk. `problem` is all that a stranger learns."""

    def __init__(self, problem: SignatureProblem) -> None:
        super().__init__(f"signature {problem}")
        self.problem = problem


class PayloadError(WebhookError):
    """A genuine webhook that cannot be read as an event; the text says what is wrong with it, without its content."""


class PublishError(UsherError):
    """The broker did not confirm in time, refused or returned the event; it may or may not be stored."""


class EffectError(UsherError):
    """An effect did not come about."""


class TransientError(EffectError):
    """May succeed when tried again; counts as an attempt."""


class ThrottledError(TransientError):
    """The other side asks for patience: the next attempt must not be earlier than in `retry_after_s` seconds."""

    def __init__(self, text: str, retry_after_s: float) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class ConsumerCrashed(TransientError):  # noqa: N818 - the design names it by what happened
    """The broker handed the event out several times and no consumer lived to settle it."""


class DependencyDown(TransientError):  # noqa: N818 - the design names it by what happened
    """What the effect needs is out of reach for every event alike: not this event's fault, not an attempt."""


class NotYet(EffectError):  # noqa: N818 - the design names it so: waiting is no error
    """The effect is under way; look again in `retry_after_s` seconds. Not an attempt."""

    def __init__(self, text: str, retry_after_s: float) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class PermanentError(EffectError):
    """Can never succeed as it is: dead-lettered at once."""


class DecodeError(PermanentError):
    """The bytes are not an event of the contract."""
