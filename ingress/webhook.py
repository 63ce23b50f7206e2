"""The two states of a webhook: as it came in, and proven to come from Clerk.

Only `verify` makes a `VerifiedWebhook`; what takes one needs no further check.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Mode(StrEnum):
    """Who signed: Svix towards us, or a Hookdeck relay in between."""

    SVIX = "svix"
    HOOKDECK = "hookdeck"


@dataclass(frozen=True, slots=True)
class RawWebhook:
    """What a stranger sent: every header line in order, doubles included, and the exact bytes of the body."""

    headers: Sequence[tuple[str, str]] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class VerifiedWebhook:
    """A body that somebody with a secret of ours has signed.

    `id` is the best-proven message id: printable ASCII without a full stop, at most 255 characters.
    `sent_at` is the signed time of sending, or when it came in if no time was signed.
    """

    id: str
    body: bytes = field(repr=False)
    mode: Mode
    sent_at: datetime
