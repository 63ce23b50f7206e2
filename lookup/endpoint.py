"""GET /users/{id}/database: token → id → row (waited for, if asked) → answer.

The only place with HTTP requests. Promise: without a token nothing is told; an answer in time, never 500; one log line
a request.
"""

import asyncio
import hmac
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from http import HTTPStatus
from time import perf_counter
from typing import Final, cast

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from lookup import answer
from lookup.answer import Answer
from lookup.metrics import LookupMetrics
from lookup.watch import Watch
from shared.errors import DependencyDown
from shared.log import trace_of

log = structlog.get_logger()

PATH: Final = "/users/{user_id}/database"
# Below the half minute after which proxies and browsers begin to give up.
MAX_WAIT_S: Final = 25
MAX_ID_CHARACTERS: Final = 255

_BEARER: Final = re.compile(r"bearer +(\S+) *", re.IGNORECASE)
_WAIT: Final = re.compile(r"[0-9]{1,2}")
# An id of the application's own making could be an address: only what looks like Clerk's is logged.
_LOGGED_ID: Final = re.compile(r"user_[0-9A-Za-z]{1,64}")


@dataclass(slots=True)
class _Line:
    """What the one log line will say: ids and names from closed sets only."""

    user_id: str | None = None
    wait_s: int = 0
    error: str | None = None


class _RefusedError(Exception):
    """The request asks nothing that could be looked up."""

    def __init__(self, refusal: Answer) -> None:
        super().__init__(refusal.code)
        self.answer = refusal


LINE: Final = web.RequestKey("line", _Line)
ANSWER: Final = web.ResponseKey("answer", Answer)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Who may ask. Kept as digests of one length, so that comparing takes the same time for all of them."""

    digests: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def of(cls, tokens: Sequence[str]) -> "Tokens":
        return cls(tuple(_digest(token) for token in tokens))

    def allow(self, authorization: Sequence[str]) -> bool:
        """Whether these headers, of which there must be one, carry one of the tokens."""
        match = _BEARER.fullmatch(authorization[0]) if len(authorization) == 1 else None
        shown = _digest(match[1] if match else "")
        # Every token is compared, whichever it is.
        return sum([hmac.compare_digest(shown, digest) for digest in self.digests]) > 0 and match is not None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The pipe with what it needs. `database` is the handler, `account` the middleware around every request."""

    tokens: Tokens
    watch: Watch
    metrics: LookupMetrics

    async def database(self, request: web.Request) -> web.Response:
        line = request[LINE]
        user_id = _user_id(request)
        line.wait_s = _wait_s(request)
        row = await self.watch.row(user_id, wait_s=line.wait_s, enough=answer.is_enough)
        return respond(answer.answer_about(row))

    async def account(self, request: web.Request, handler: Handler) -> web.Response:
        """Answer the request, whatever happens, and tell of it."""
        started = perf_counter()  # uvloop's own clock knows only milliseconds
        line = request[LINE] = _Line()
        try:
            response = await self._answered(request, handler, line)
        except asyncio.CancelledError:
            log.info("lookup_left", user_id=line.user_id, wait_s=line.wait_s)
            raise
        self._record(response, line, perf_counter() - started)
        return response

    async def _answered(self, request: web.Request, handler: Handler, line: _Line) -> web.Response:
        if not self.tokens.allow(request.headers.getall("Authorization", ())):
            return respond(answer.UNAUTHORIZED)
        line.user_id = _loggable(request.match_info.get("user_id"))
        try:
            return cast("web.Response", await handler(request))  # there is one handler, above
        except _RefusedError as refused:
            return respond(refused.answer)
        except web.HTTPException as error:
            return respond(_of_http(error))
        except DependencyDown as error:
            line.error = str(error)
        except Exception as error:  # noqa: BLE001 - a bug is not the asker's: he may ask again
            line.error = f"bug: {type(error).__name__}"
            log.error("lookup_failed", error=type(error).__name__, trace=trace_of(error))  # noqa: TRY400 - its text may quote values
        return respond(answer.UNAVAILABLE)

    def _record(self, response: web.Response, line: _Line, seconds: float) -> None:
        said = response[ANSWER]
        self.metrics.answered(said.status, said.state, waited=line.wait_s > 0, seconds=seconds)
        write = log.warning if said.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.SERVICE_UNAVAILABLE} else log.info
        write(
            "lookup_answered",
            status=int(said.status),
            code=said.code,
            state=said.state,
            user_id=line.user_id,
            wait_s=line.wait_s,
            error=line.error,
            ms=round(seconds * 1000, 1),
        )


def public_app(endpoint: Endpoint) -> web.Application:
    """The application of the port: one route, and problem+json for everything else."""

    @web.middleware
    async def account(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await endpoint.account(request, handler)

    async def unsigned(_request: web.Request, response: web.StreamResponse) -> None:
        # aiohttp would tell its version and Python's; what is said holds for this moment only, on errors too.
        response.headers["Server"] = "usher"
        response.headers["Cache-Control"] = "no-store"

    app = web.Application(middlewares=[account])
    app.on_response_prepare.append(unsigned)
    app.router.add_get(PATH, endpoint.database, allow_head=False)
    return app


def respond(said: Answer) -> web.Response:
    """The answer as HTTP."""
    kind = "application/problem+json" if said.code else "application/json"
    headers = {**said.headers, "Content-Type": kind}
    response = web.Response(status=said.status, body=json.dumps(said.body).encode(), headers=headers)
    response[ANSWER] = said
    return response


def _user_id(request: web.Request) -> str:
    user_id = request.match_info["user_id"]
    # NUL, lone surrogates and the like cannot be in the table, and would spoil the question for those who wait.
    if len(user_id) > MAX_ID_CHARACTERS or not user_id.isprintable():
        raise _RefusedError(answer.UNKNOWN_USER)
    return user_id


def _wait_s(request: web.Request) -> int:
    given = request.query.getall("wait", ["0"])
    if len(given) != 1 or not _WAIT.fullmatch(given[0]) or int(given[0]) > MAX_WAIT_S:
        raise _RefusedError(answer.BAD_WAIT)
    return int(given[0])


def _loggable(user_id: str | None) -> str | None:
    return user_id if user_id and _LOGGED_ID.fullmatch(user_id) else None


def _of_http(error: web.HTTPException) -> Answer:
    """Wrong path, wrong method: in our words."""
    status = HTTPStatus(error.status)
    allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return answer.problem(status, status.name.lower(), headers=allow)


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogateescape")).digest()
