"""POST /webhooks/clerk: receive → verify → normalize → publish, and the answer that follows from it.

Promise: 202 means stored; a stranger gets 4xx, never 500; one log line a webhook.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import perf_counter
from typing import Final, assert_never

import structlog
from aiohttp import web

from ingress import answer as answers
from ingress.answer import Answer, respond
from ingress.metrics import IngressMetrics
from ingress.normalize import Ignored, normalize
from ingress.publish import Publisher
from ingress.verify import Keys, mode_of, verify
from ingress.webhook import RawWebhook
from shared.errors import PayloadError, PublishError, SignatureError
from shared.events import UserEvent
from shared.log import trace_of

log = structlog.get_logger()

PATH: Final = "/webhooks/clerk"
BODY_TIMEOUT_S: Final = 10.0
# Clerk's are smaller. What goes beyond is bounded for all requests together: before its signature is checked, a body
# is a stranger's, and many large ones at once would be all of the memory.
SMALL_BODY_BYTES: Final = 16 * 1024
LARGE_BODIES_BYTES: Final = 64 * 1024 * 1024
NO_TYPE: Final = "none"


class _RefusedError(Exception):
    """The request is answered before it is a webhook."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.problem)
        self.answer = answer


@dataclass(slots=True)
class _LargeBodies:
    """How much of large bodies is held at present, over all requests that are being read."""

    held: int = 0


@dataclass(slots=True)
class _Line:
    """What the one log line will say: ids and names from closed sets only."""

    mode: str = "none"
    type: str = NO_TYPE
    id: str | None = None
    user_id: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Receiver:
    """The pipe with what it needs. `handle` takes whatever comes in on the public port."""

    keys: Keys
    publisher: Publisher
    country_of: Callable[[str], str | None]
    region_key: str
    max_body_bytes: int
    metrics: IngressMetrics
    _large: _LargeBodies = field(default_factory=_LargeBodies)

    async def handle(self, request: web.BaseRequest) -> web.Response:
        if request.path != PATH:
            return self._refuse(answers.NOT_FOUND)
        if request.method != "POST":
            return self._refuse(answers.NOT_ALLOWED)
        if "Expect" in request.headers and not await _go_on(request):
            return self._refuse(answers.UNEXPECTED)
        return respond(await self.accept(request))

    async def accept(self, source: web.BaseRequest | RawWebhook) -> Answer:
        """What the sender of one webhook is to be told; of a request the body is still to be read."""
        started = perf_counter()  # uvloop's own clock knows only milliseconds
        line = _Line()
        answer = await self._answer(source, line)
        self._record(answer, line, ms=round((perf_counter() - started) * 1000, 1))
        return answer

    def _refuse(self, answer: Answer) -> web.Response:
        """What is no webhook has no log line: anybody can send any number of them."""
        self.metrics.refused(answer.status)
        return respond(answer)

    async def _answer(self, source: web.BaseRequest | RawWebhook, line: _Line) -> Answer:
        try:
            return await self._take(source, line)
        except _RefusedError as refused:
            return refused.answer
        except SignatureError as error:
            return answers.unproven(error.problem)
        except PublishError as error:
            line.error = str(error)
            return answers.NOT_STORED
        except Exception as error:  # noqa: BLE001 - whatever a stranger's bytes set off, the sender keeps the webhook
            log.error(  # noqa: TRY400 - a traceback would carry the error's text, which may quote the body
                "webhook_failed", id=line.id, type=line.type, error=type(error).__name__, trace=trace_of(error)
            )
            return answers.FAILED

    async def _take(self, source: web.BaseRequest | RawWebhook, line: _Line) -> Answer:
        raw = source if isinstance(source, RawWebhook) else await _read(source, self.max_body_bytes, self._large)
        line.mode = mode_of(raw, self.keys)
        webhook = verify(raw, self.keys, datetime.now(UTC))
        line.id = webhook.id
        try:
            event = normalize(webhook, self.country_of, self.region_key)
        except PayloadError as error:
            line.error = str(error)
            await self.publisher.keep_aside(webhook, str(error))
            return answers.KEPT_ASIDE
        line.type = event.type
        match event:
            case Ignored():
                return answers.IGNORED
            case UserEvent():
                line.user_id = event.subject
                await self.publisher.publish(event)
                return answers.PUBLISHED
            case _:
                assert_never(event)

    def _record(self, answer: Answer, line: _Line, *, ms: float) -> None:
        kind = "other" if answer is answers.IGNORED else line.type
        self.metrics.webhook(answer.status, answer.decision, kind, line.mode, answer.problem or "none")
        write = log.info if answer.problem is None else log.warning
        write(
            "webhook_received",
            decision=answer.decision,
            status=int(answer.status),
            problem=answer.problem,
            mode=line.mode,
            type=line.type,
            id=line.id,
            user_id=line.user_id,
            error=line.error,
            ms=ms,
        )


async def _read(request: web.BaseRequest, max_body_bytes: int, large: _LargeBodies) -> RawWebhook:
    """The whole request, within `max_body_bytes` and ten seconds."""
    if request.headers.get("Content-Encoding", "identity").strip().lower() not in {"", "identity"}:
        raise _RefusedError(answers.COMPRESSED)
    if (request.content_length or 0) > max_body_bytes:
        raise _RefusedError(answers.TOO_LARGE)
    try:
        if request.content.is_eof():
            # Mostly it came in one piece with the headers.
            body = request.content.read_nowait()
        else:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await _read_body(request, max_body_bytes, large)
    except TimeoutError:
        raise _RefusedError(answers.TOO_SLOW) from None
    except (web.RequestPayloadError, OSError):
        # Broken chunks, or a connection that ended before the body did.
        raise _RefusedError(answers.BROKEN) from None
    if len(body) > max_body_bytes:
        raise _RefusedError(answers.TOO_LARGE)
    return RawWebhook(request.headers.items(), body)


async def _read_body(request: web.BaseRequest, max_body_bytes: int, large: _LargeBodies) -> bytes:
    body = bytearray()
    held = 0
    try:
        while chunk := await request.content.readany():
            body += chunk
            if len(body) > max_body_bytes:
                raise _RefusedError(answers.TOO_LARGE)
            more = max(0, len(body) - SMALL_BODY_BYTES) - held
            held, large.held = held + more, large.held + more
            if more and large.held > LARGE_BODIES_BYTES:
                raise _RefusedError(answers.CROWDED)
        return bytes(body)
    finally:
        large.held -= held


async def _go_on(request: web.BaseRequest) -> bool:
    """Tell a sender that waits for it to send the body; False if it expects something else."""
    if request.headers["Expect"].lower() != "100-continue":
        return False
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # no part of the answer
    return True
