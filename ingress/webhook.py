"""The two states of a webhook: as it came in, and proven to come from Clerk.

Only `verify` makes a `VerifiedWebhook`; what takes one needs no further check.
"""

from collections.abc import Iterable
from dataclasses import InitVar, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

# Before a secret of Svix's, whose rest is base64.
SVIX_PREFIX: Final = "whsec_"


class Mode(StrEnum):
    """Who signed: Svix towards us, or a Hookdeck relay in between."""

    SVIX = "svix"
    HOOKDECK = "hookdeck"


@dataclass(frozen=True, slots=True)
class RawWebhook:
    """What a stranger sent: the values of every header by its name in small letters, doubles included, and the body."""

    header_lines: InitVar[Iterable[tuple[str, str]]]
    body: bytes = field(repr=False)
    headers: dict[str, list[str]] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self, header_lines: Iterable[tuple[str, str]]) -> None:
        for name, value in header_lines:
            self.headers.setdefault(name.lower(), []).append(value)


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
