"""What each answer of Xata's API means: one table from status and text, one from aiohttp's exceptions, to our errors.

Pure. Promise: every status and every exception of aiohttp's client has a row, and the error says whether the request
may have been carried out (`UnclearError`) or certainly was not (all others).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import aiohttp

from consumer.providers.protocol import QuotaBlocked
from shared.errors import DependencyDown, EffectError, NotYet, PermanentError, ThrottledError, TransientError

LONGEST_PATIENCE_S: Final = 3600.0
DEFAULT_THROTTLE_S: Final = 5.0
TEMPLATE_RETRY_S: Final = 30.0
# A new organisation may have ten branches in its first twelve hours.
NEW_ORGANISATION_RETRY_S: Final = 1800.0
QUOTA_RETRY_S: Final = 300.0
LONGEST_TEXT: Final = 200


class UnclearError(DependencyDown):
    """No answer, or one that tells nothing: what was asked for may have been done.

    `ended`: the server itself has spoken, so that it does nothing more and a look tells what it did.
    """

    def __init__(self, text: str, *, ended: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.ended = ended
        self.retry_after_s = retry_after_s


class NotFoundError(PermanentError):
    """What was asked for is not there."""


class AlreadyThereError(TransientError):
    """The name is taken in that project."""


class ProjectFullError(TransientError):
    """The project takes no more branches."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is no success. `message` is what Xata says, `retry_after_s` what it asks for."""

    status: int
    message: str
    retry_after_s: float | None = None

    @property
    def text(self) -> str:
        said = f": {self.message[:LONGEST_TEXT]}" if self.message else ""
        return f"Xata answered {self.status}{said}"


@dataclass(frozen=True, slots=True)
class Row:
    """Answers of these statuses whose text matches `saying` become what `make` makes; `then` says so to people."""

    statuses: range
    saying: str
    then: str
    make: Callable[[Answer], EffectError]


def _down(advice: str) -> Callable[[Answer], EffectError]:
    return lambda answer: DependencyDown(f"{advice} ({answer.text})")


def _patience(answer: Answer, otherwise_s: float) -> float:
    return otherwise_s if answer.retry_after_s is None else answer.retry_after_s


def _one(status: int) -> range:
    return range(status, status + 1)


_ANY: Final = ""
_KEY: Final = "XATA_API_KEY or XATA_ORGANIZATION IS WRONG: no database can be created or deleted until it is put right"
_BILLING: Final = "XATA HAS DISABLED XATA_ORGANIZATION: look at its billing; nothing can be created until then"
_SCOPES: Final = "XATA_API_KEY MAY NOT DO THIS: give it branch:read/write, credentials:read, project:read (and write)"
_DEEP: Final = "XATA_TEMPLATES NAMES A BRANCH THAT CANNOT HAVE MORE CHILDREN: name one without a parent"
_PROTOCOL: Final = "XATA_API_URL does not speak the API that Usher knows"

# Read from top to bottom, the first match decides.
ANSWERS: Final = (
    # The limits are published, the answers to exceeding them are not: by their likeness to the project's.
    Row(
        range(400, 500),
        r"organization .*(too many|per hour)",
        "quota_blocked, look again in five minutes",
        lambda answer: QuotaBlocked(answer.text, _patience(answer, QUOTA_RETRY_S)),
    ),
    Row(_one(400), r"too many branches", "next project", lambda answer: ProjectFullError(answer.text)),
    Row(_one(400), r"maximum (depth|children)", "stop and shout", _down(_DEEP)),
    Row(
        _one(400),
        r"invalid region",
        "stop and shout",
        _down("A REGION OF XATA_TEMPLATES OR XATA_REGIONS IS NOT OFFERED"),
    ),
    Row(_one(400), r"invalid image", "stop and shout", _down("XATA_IMAGE IS NOT OFFERED")),
    Row(_one(400), r"instance type .* not found", "stop and shout", _down("XATA_INSTANCE_TYPE IS NOT OFFERED")),
    Row(_one(400), _ANY, "dead letter", lambda answer: PermanentError(answer.text)),
    Row(_one(401), _ANY, "stop and shout", _down(_KEY)),
    Row(_one(402), _ANY, "stop and shout", _down(_BILLING)),
    Row(
        _one(403),
        r"branch limit for new organizations",
        "quota_blocked, look again in half an hour",
        lambda answer: QuotaBlocked(answer.text, NEW_ORGANISATION_RETRY_S),
    ),
    Row(_one(403), r"disabled|billing", "stop and shout", _down(_BILLING)),
    Row(_one(403), r"temporarily", "try again", lambda answer: TransientError(answer.text)),
    Row(_one(403), _ANY, "stop and shout", _down(_SCOPES)),
    Row(_one(404), _ANY, "not there: the caller knows", lambda answer: NotFoundError(answer.text)),
    Row(_one(408), _ANY, "look, then pause", lambda answer: UnclearError(answer.text)),
    Row(_one(409), r"already exists", "find it and adopt it", lambda answer: AlreadyThereError(answer.text)),
    Row(_one(409), _ANY, "try again", lambda answer: TransientError(answer.text)),
    Row(
        _one(412),
        _ANY,
        "wait for the template",
        lambda answer: NotYet(answer.text, _patience(answer, TEMPLATE_RETRY_S)),
    ),
    Row(_one(413), _ANY, "dead letter", lambda answer: PermanentError(answer.text)),
    Row(_one(414), _ANY, "dead letter", lambda answer: PermanentError(answer.text)),
    Row(_one(422), _ANY, "dead letter", lambda answer: PermanentError(answer.text)),
    Row(
        _one(429),
        _ANY,
        "all copies pause as long as Retry-After says",
        lambda answer: ThrottledError(answer.text, _patience(answer, DEFAULT_THROTTLE_S)),
    ),
    Row(range(400, 500), _ANY, "stop and shout", _down(_PROTOCOL)),
    # Creations that are switched off look like this too: above 499 the API hides its texts.
    Row(
        _one(503),
        _ANY,
        "look; all copies create nothing as long as Retry-After says; pause",
        lambda answer: UnclearError(answer.text, ended=True, retry_after_s=answer.retry_after_s),
    ),
    Row(_one(500), _ANY, "look, then pause", lambda answer: UnclearError(answer.text, ended=True)),
    Row(range(500, 600), _ANY, "look, then pause", lambda answer: UnclearError(answer.text)),
    # A redirect, a 1xx that stays, a 2xx that the call does not expect, a status that HTTP does not have.
    Row(range(1000), _ANY, "stop and shout", _down(_PROTOCOL)),
)

# The first match decides. Above the line nothing was sent; below it the request may have been carried out.
EXCEPTIONS: Final[tuple[tuple[type[Exception], type[DependencyDown]], ...]] = (
    (aiohttp.ConnectionTimeoutError, DependencyDown),
    (aiohttp.ClientConnectorError, DependencyDown),
    (aiohttp.ServerFingerprintMismatch, DependencyDown),
    (aiohttp.ClientHttpProxyError, DependencyDown),
    (aiohttp.InvalidURL, DependencyDown),
    (aiohttp.NonHttpUrlClientError, DependencyDown),
    # ---
    (aiohttp.ClientError, UnclearError),
    (OSError, UnclearError),  # also TimeoutError, our own deadline
)


def error_of(answer: Answer) -> EffectError:
    """What an answer that is no success becomes."""
    return row_of(answer).make(answer)


def row_of(answer: Answer) -> Row:
    return next(
        row for row in ANSWERS if answer.status in row.statuses and re.search(row.saying, answer.message, re.IGNORECASE)
    )


def translate(error: Exception) -> DependencyDown | None:
    """Ours for aiohttp's `error`; None when it is not aiohttp's. Never its text, which may quote the request."""
    for theirs, ours in EXCEPTIONS:
        if isinstance(error, theirs):
            return ours(f"Xata is out of reach: {type(error).__name__}")
    return None


def retry_after_s(header: str | None, now: datetime | None = None) -> float | None:
    """Seconds, from either form of the header; None when there is none or it is no such thing.

    >>> retry_after_s("30"), retry_after_s("soon"), retry_after_s("99999999")
    (30.0, None, 3600.0)
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), LONGEST_PATIENCE_S)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    wait_s = (at.replace(tzinfo=at.tzinfo or UTC) - (now or datetime.now(UTC))).total_seconds()
    return min(max(wait_s, 0.0), LONGEST_PATIENCE_S)
