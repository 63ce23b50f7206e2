"""Answers as bytes: rendering, refusing, spoiling and cutting them, as the API and the gateway before it do."""

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from local.xata import refusals
from local.xata.faults import Fault, Garbling
from local.xata.refusals import ApiError

_SERVER_ERRORS: Final = 500
_UNAVAILABLE_S: Final = 30
# Envoy's own answers: plain text, from before the API.
_GATEWAY: Final = {
    HTTPStatus.REQUEST_TIMEOUT: b"stream timeout",
    HTTPStatus.TOO_MANY_REQUESTS: b"local_rate_limited",
    HTTPStatus.BAD_GATEWAY: b"upstream connect error or disconnect/reset before headers",
    HTTPStatus.GATEWAY_TIMEOUT: b"upstream request timeout",
}

_HTML: Final = b"<!DOCTYPE html><html><head><title>upstream</title></head><body><h1>It works!</h1></body></html>"


@dataclass(slots=True)
class Wire:
    status: int
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Stamp:
    """The request's id: the caller's own, if it sent one, and the one that is answered with."""

    own: str | None
    request_id: str


def render(status: int, body: Any, *, pretty: bool = False) -> Wire:
    """As Go's encoder: compact, one line feed at the end; no body at all for None."""
    if body is None:
        return Wire(status, b"", {})
    text = json.dumps(body, ensure_ascii=False, indent=2 if pretty else None, separators=None if pretty else (",", ":"))
    return Wire(status, f"{text}\n".encode(), {"Content-Type": "application/json"})


def refusal(error: ApiError, stamp: Stamp) -> Wire:
    """The API's error handler: from 500 on it tells nothing but the request's id, and 503 always says when."""
    message, retry_after_s = error.message, error.retry_after_s
    if error.status >= _SERVER_ERRORS:
        message = "Internal Error"
        if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
            message = "Service temporarily unavailable. Please try again later."
            retry_after_s = _UNAVAILABLE_S if retry_after_s is None else retry_after_s
        message += f" (Request ID: {stamp.request_id})"
    return _error(error.status, message, retry_after_s, stamp)


def gateway(status: int, retry_after_s: float | None) -> Wire:
    headers = {"Content-Type": "text/plain", **_when(retry_after_s)}
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        headers["x-envoy-ratelimited"] = "true"
    return Wire(status, _GATEWAY[HTTPStatus(status)], headers)


def instead(fault: Fault, stamp: Stamp, organization: str) -> Wire:
    """The fault's answer, in the words of whoever gives it in reality where the fault brings none."""
    if fault.message is not None:
        return _error(fault.status, fault.message, fault.retry_after_s, stamp)
    if fault.status in _GATEWAY:
        return gateway(fault.status, fault.retry_after_s)
    words = {
        HTTPStatus.UNAUTHORIZED: refusals.invalid_token().message,
        HTTPStatus.FORBIDDEN: refusals.organization_disabled(organization).message,
    }
    message = words.get(HTTPStatus(fault.status), HTTPStatus(fault.status).phrase)
    return refusal(ApiError(fault.status, message, retry_after_s=fault.retry_after_s), stamp)


def garbled(wire: Wire, how: Garbling) -> Wire:
    match how:
        case Garbling.TRUNCATED:
            return Wire(wire.status, wire.body[: max(len(wire.body) // 2, 1)], wire.headers)
        case Garbling.WRONG_TYPES:
            return Wire(wire.status, render(wire.status, _twisted(json.loads(wire.body or b"{}"))).body, wire.headers)
        case Garbling.HTML:
            return Wire(wire.status, _HTML, {"Content-Type": "text/html; charset=utf-8"})
        case Garbling.EMPTY:
            return Wire(wire.status, b"", wire.headers)
        case Garbling.NOT_AN_OBJECT:
            return Wire(wire.status, b'["unexpected"]\n', {"Content-Type": "application/json"})


async def send(request: web.Request, wire: Wire, cut_after: int | None) -> web.StreamResponse:
    """All of it, or its head and `cut_after` bytes of its body and then the end; without a body, just the end."""
    if cut_after is not None and not wire.body:
        return reset(request)
    if cut_after is None or cut_after >= len(wire.body):
        return web.Response(status=wire.status, body=wire.body, headers=wire.headers)
    response = web.StreamResponse(status=wire.status, headers=wire.headers)
    response.content_length = len(wire.body)
    await response.prepare(request)
    await response.write(wire.body[:cut_after])
    if request.transport is not None:
        request.transport.close()
    return response


def reset(request: web.Request) -> web.StreamResponse:
    """The end of the connection, without a byte."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _error(status: int, message: str, retry_after_s: float | None, stamp: Stamp) -> Wire:
    wire = render(status, {"message": message} if stamp.own is None else {"id": stamp.own, "message": message})
    wire.headers.update(_when(retry_after_s))
    return wire


def _when(retry_after_s: float | None) -> dict[str, str]:
    return {} if retry_after_s is None else {"Retry-After": f"{retry_after_s:g}"}


def _twisted(value: Any) -> Any:
    """Every value of another type than it should be; the field names stay."""
    if isinstance(value, dict):
        return {name: _twisted(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return {"items": len(value)}
    if isinstance(value, str):
        return len(value)
    return [value]
