"""The HTTP face: request id, record, faults, rate limit, key, organization, operation, answer, in this order.

Promise: every request is recorded, every answer has the API's form, and a fault strikes exactly where it is scoped to.
"""

import asyncio
import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, Final

import structlog
from aiohttp import web

from local.xata import check, gojson, ids, refusals, schemas, wires
from local.xata.cloud import Cloud
from local.xata.faults import Fault, FaultKind, Faults
from local.xata.model import ApiKey
from local.xata.operations import Answer, Call, Operation, find
from local.xata.record import Record, Request
from local.xata.refusals import ApiError
from local.xata.wires import Stamp, Wire

log = structlog.get_logger()

_BEARER: Final = "bearer "
_MAX_REQUEST_ID: Final = 100
_GO_BODIES: Final[dict[str, tuple[gojson.Struct, ...]]] = {
    "createProject": (gojson.CREATE_PROJECT,),
    "updateProject": (gojson.UPDATE_PROJECT,),
    "createBranch": (gojson.CREATE_BRANCH, gojson.FROM_PARENT, gojson.FROM_CONFIGURATION),
    "updateBranch": (gojson.UPDATE_BRANCH,),
    "rotateBranchCredentials": (gojson.ROTATE,),
}


class Front:
    def __init__(
        self, cloud: Cloud, operations: Iterable[Operation], keys: dict[str, ApiKey], changed: Callable[[], None]
    ) -> None:
        """`changed`: told when an operation may have changed something, before its answer leaves."""
        self._cloud = cloud
        self._operations = list(operations)
        self._keys = keys
        self._changed = changed
        self._recent: deque[float] = deque()
        self.record = Record()
        self.faults = Faults()
        self.closing = asyncio.Event()
        """Lets go of everything that hangs."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        seen = Request(request.method, request.rel_url.path, dict(request.query))
        self.record.requests.append(seen)
        fault = self.faults.take(request.method, request.rel_url.path)
        seen.fault = fault.kind.value if fault else None
        try:
            return await self._answer(request, seen, fault)
        finally:
            seen.duration_s = time.monotonic() - seen.at

    async def _answer(self, request: web.Request, seen: Request, fault: Fault | None) -> web.StreamResponse:
        own_id = request.headers.get("X-Request-Id")
        stamp = Stamp(own_id, (own_id or ids.request_id())[:_MAX_REQUEST_ID])
        raw = await request.read()
        if fault is not None and fault.late:
            await self._pause(fault.delay_s)
        wire: Wire | None = None
        if fault is None or fault.acts:
            wire = await self._act(request, seen, raw, stamp)
        if fault is not None:
            wire = await self._spoil(fault, wire, stamp)
        if wire is None:
            return wires.reset(request)
        seen.status = wire.status
        wire.headers["X-Request-Id"] = stamp.request_id
        cut_after = fault.after_bytes if fault is not None and fault.kind is FaultKind.CUT else None
        return await wires.send(request, wire, cut_after)

    async def _spoil(self, fault: Fault, wire: Wire | None, stamp: Stamp) -> Wire | None:
        """What is sent instead of `wire`; None: nothing at all."""
        match fault.kind:
            case FaultKind.SLOW if not fault.late:
                await self._pause(fault.delay_s)
            case FaultKind.HANG:
                await self._pause(math.inf)
                return None
            case FaultKind.RESET:
                return None
            case FaultKind.ANSWER:
                return wires.instead(fault, stamp, self._cloud.organization.id)
            case FaultKind.GARBLE if wire is not None:
                return wires.garbled(wire, fault.garbling)
            case _:
                pass
        return wire

    async def _act(self, request: web.Request, seen: Request, raw: bytes, stamp: Stamp) -> Wire:
        try:
            self._check_rate()
        except ApiError as error:
            return wires.gateway(error.status, error.retry_after_s)
        try:
            operation, answer = await self._operate(request, seen, raw)
        except ApiError as error:
            return wires.refusal(error, stamp)
        except Exception:
            log.exception("xata_stand_in_failed", method=seen.method, path=seen.path)
            return wires.refusal(refusals.internal(), stamp)
        seen.acted = True
        self._check_answer(operation, answer)
        return wires.render(answer.status, answer.body, pretty="_pretty" in request.query)

    async def _operate(self, request: web.Request, seen: Request, raw: bytes) -> tuple[Operation, Answer]:
        operation, found = find(self._operations, request.method, request.rel_url.path)
        seen.operation = operation.name
        call = Call(**found, query=dict(request.query), raw=raw, content_type=request.headers.get("Content-Type", ""))
        self._note_body(seen, operation, call)
        key = self._key(request, operation, call)
        self._check_organization(key, operation, call)
        if self._cloud.behaviour.unknown_fields_are_refused:
            _refuse_unknown(operation, seen.body)
        answer = await operation.handler(call)
        if operation.method != "GET":
            self._changed()
        return operation, answer

    def _key(self, request: web.Request, operation: Operation, call: Call) -> ApiKey:
        header = request.headers.get("Authorization", "")
        if len(header) <= len(_BEARER) or not header.lower().startswith(_BEARER.rstrip()):
            raise refusals.no_token()
        key = self._keys.get(header[len(_BEARER) :])
        if key is None:
            raise refusals.invalid_token()
        if not key.allows(operation.scope, call.project or None, call.branch or None):
            raise refusals.access_denied()
        return key

    def _check_organization(self, key: ApiKey, operation: Operation, call: Call) -> None:
        if not call.organization:
            return
        known = key.organizations or {self._cloud.organization.id}
        if call.organization not in known or call.organization != self._cloud.organization.id:
            raise refusals.no_access(call.organization)
        if operation.for_enabled_only and not self._cloud.organization.enabled:
            raise refusals.organization_disabled(call.organization)

    def _check_rate(self) -> None:
        most, window_s = self._cloud.behaviour.requests_per_window, self._cloud.behaviour.rate_window_s
        now = time.monotonic()
        while self._recent and self._recent[0] <= now - window_s:
            self._recent.popleft()
        if most is not None and len(self._recent) >= most:
            wait_s = math.ceil(self._recent[0] + window_s - now)
            tells = self._cloud.behaviour.rate_limit_tells_when
            raise ApiError(HTTPStatus.TOO_MANY_REQUESTS, "", retry_after_s=wait_s if tells else None)
        self._recent.append(now)

    def _note_body(self, seen: Request, operation: Operation, call: Call) -> None:
        if operation.name not in schemas.REQUESTS:
            return
        try:
            seen.body = json.loads(call.raw) if call.raw else None
        except ValueError:
            seen.violations.append("the body is no JSON")
            return
        seen.violations += check.problems(seen.body, schemas.REQUESTS[operation.name])

    def _check_answer(self, operation: Operation, answer: Answer) -> None:
        schema = schemas.ANSWERS.get(operation.name)
        if schema is None:
            return
        self.record.answer_violations += [
            f"{operation.name}: {problem}" for problem in check.problems(answer.body, schema)
        ]

    async def _pause(self, seconds: float) -> None:
        """Until the time has passed, or the stand-in stops."""
        try:
            async with asyncio.timeout(None if math.isinf(seconds) else seconds):
                await self.closing.wait()
        except TimeoutError:
            return


def _refuse_unknown(operation: Operation, body: Any) -> None:
    unknown = gojson.unknown_fields(body, _GO_BODIES.get(operation.name, ()))
    if unknown and operation.name in _GO_BODIES:
        raise refusals.bad_request(f"invalid key [{unknown[0]}] in request")
