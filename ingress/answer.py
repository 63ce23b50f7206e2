"""What senders are told, as HTTP: the only place with statuses. Problems follow RFC 9457."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from aiohttp import web

from shared.errors import SignatureProblem

RETRY_AFTER_S: Final = 5
PROBLEM_TYPE: Final = "application/problem+json"
# aiohttp would tell every stranger its version and Python's.
SERVER: Final = "usher"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the sender is told: `decision` for our log, `problem` as the code in a problem+json body."""

    status: HTTPStatus
    decision: str
    problem: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    hang_up: bool = False


PUBLISHED: Final = Answer(HTTPStatus.ACCEPTED, "published")
IGNORED: Final = Answer(HTTPStatus.NO_CONTENT, "ignored")
# The header tells Svix to send this one no more: it would be unreadable again.
KEPT_ASIDE: Final = Answer(HTTPStatus.ACCEPTED, "kept_aside", headers={"webhook-delivery": "abort-message"})
NOT_FOUND: Final = Answer(HTTPStatus.NOT_FOUND, "refused", "not_found")
NOT_ALLOWED: Final = Answer(HTTPStatus.METHOD_NOT_ALLOWED, "refused", "method_not_allowed", {"Allow": "POST"})
UNEXPECTED: Final = Answer(HTTPStatus.EXPECTATION_FAILED, "refused", "expectation_failed")
TOO_LARGE: Final = Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "refused", "too_large", hang_up=True)
CROWDED: Final = Answer(
    HTTPStatus.SERVICE_UNAVAILABLE, "refused", "crowded", {"Retry-After": str(RETRY_AFTER_S)}, hang_up=True
)
TOO_SLOW: Final = Answer(HTTPStatus.REQUEST_TIMEOUT, "refused", "too_slow", hang_up=True)
BROKEN: Final = Answer(HTTPStatus.BAD_REQUEST, "refused", "broken", hang_up=True)
# Svix signs and sends plain bytes; unpacking a stranger's would invite decompression bombs.
COMPRESSED: Final = Answer(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "refused", "compressed", hang_up=True)
_RETRY: Final = {"Retry-After": str(RETRY_AFTER_S)}
NOT_STORED: Final = Answer(HTTPStatus.SERVICE_UNAVAILABLE, "not_stored", "not_stored", _RETRY)
# A bug of ours: the sender keeps the webhook and tries again, so that a repaired Usher still gets it.
FAILED: Final = Answer(HTTPStatus.SERVICE_UNAVAILABLE, "failed", "unavailable", _RETRY)


def unproven(problem: SignatureProblem) -> Answer:
    return Answer(HTTPStatus.UNAUTHORIZED, "refused", problem)


def respond(answer: Answer) -> web.Response:
    """The answer as aiohttp sends it; problems with their code and nothing that helps a forger."""
    response = web.Response(status=answer.status, body=_body(answer), headers=_headers(answer))
    if answer.hang_up:
        response.force_close()
    return response


def as_bytes(answer: Answer) -> bytes:
    """The answer as it goes over a connection that stays open."""
    now = int(time.time())
    return _stored(now) if answer is PUBLISHED else _formatted(answer, now)


@lru_cache(maxsize=1)
def _stored(now: int) -> bytes:
    """The same for all webhooks of a second."""
    return _formatted(PUBLISHED, now)


def _formatted(answer: Answer, now: int) -> bytes:
    body = _body(answer)
    headers = {**_headers(answer), "Date": formatdate(now, usegmt=True)}
    if answer.status != HTTPStatus.NO_CONTENT:
        headers["Content-Length"] = str(len(body or b""))
    lines = [f"HTTP/1.1 {answer.status:d} {answer.status.phrase}", *(f"{name}: {headers[name]}" for name in headers)]
    return "\r\n".join((*lines, "", "")).encode() + (body or b"")


def _headers(answer: Answer) -> dict[str, str]:
    of_problem = {"Content-Type": PROBLEM_TYPE} if answer.problem is not None else {}
    return {"Server": SERVER, **answer.headers, **of_problem}


def _body(answer: Answer) -> bytes | None:
    if answer.problem is None:
        return None
    problem = {
        "type": "about:blank",
        "title": answer.status.phrase,
        "status": answer.status,
        "code": answer.problem,
    }
    return json.dumps(problem).encode()
