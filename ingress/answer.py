"""What senders are told, as HTTP: the only place with statuses. Problems follow RFC 9457."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

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


def respond(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
    """The answer as HTTP; problems with their code and nothing that helps a forger."""
    if answer is PUBLISHED and request.keep_alive and request.version == HttpVersion11:
        return _STORED
    body = None
    headers = {"Server": SERVER, **answer.headers}
    if answer.problem is not None:
        headers["Content-Type"] = PROBLEM_TYPE
        problem = {
            "type": "about:blank",
            "title": answer.status.phrase,
            "status": answer.status,
            "code": answer.problem,
        }
        body = json.dumps(problem).encode()
    response = web.Response(status=answer.status, body=body, headers=headers)
    if answer.hang_up:
        response.force_close()
    return response


class _Stored(web.StreamResponse):
    """202 to a sender that keeps its connection: the same bytes for every webhook of a second, so made once for all.

    Making and formatting headers for each takes a quarter of what HTTP costs here. It holds no state of any request.
    """

    def __init__(self) -> None:
        super().__init__(status=PUBLISHED.status)
        self._second = 0
        self._bytes = b""

    @property
    def keep_alive(self) -> bool:
        return True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        writer = request.writer
        await writer.write(self._of_now())
        # Who sends webhook after webhook and never reads is not read either: its answers would pile up here.
        await writer.drain()
        return writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing follows."""

    def _of_now(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            date = formatdate(second, usegmt=True)
            status = f"{PUBLISHED.status:d} {PUBLISHED.status.phrase}"
            lines = (f"HTTP/1.1 {status}", "Content-Length: 0", f"Date: {date}", f"Server: {SERVER}")
            self._second, self._bytes = second, "".join(f"{line}\r\n" for line in (*lines, "")).encode()
        return self._bytes


_STORED: Final = _Stored()
