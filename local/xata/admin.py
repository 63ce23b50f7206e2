"""The stand-in's own API under /_stand_in: switches and evidence over HTTP, for whoever tries the system by hand.

GET    /_stand_in/             what there is
GET    /_stand_in/requests     every request, its status, its fault, its violations; DELETE forgets them
GET    /_stand_in/pace         ?window_s=1: the most requests within any window; per operation and in all
GET    /_stand_in/branches     live branches and how often each name was created
POST   /_stand_in/branches/ID  {"status": "STATUS_TYPE_FAULT" | … | null} or {"hibernated": true}
GET    /_stand_in/faults       active ones; POST adds one (fields of local.xata.Fault); DELETE clears them
GET    /_stand_in/behaviour    delays, limits, switches; PATCH changes some (null seconds: never)
PATCH  /_stand_in/organization {"billing_ok": false, "age_s": 3600}
POST   /_stand_in/keys         {"scopes": ["branch:read"], "projects": [...]} gives another key
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from local.xata.faults import Fault
from local.xata.lifecycle import status
from local.xata.model import StatusType

if TYPE_CHECKING:
    from local.xata.stand_in import XataStandIn

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def app(stand_in: XataStandIn) -> web.Application:
    switchboard = _Switchboard(stand_in)
    made = web.Application(middlewares=[_explain])
    made.add_routes(
        [
            web.get("/", switchboard.index),
            web.get("/requests", switchboard.requests),
            web.delete("/requests", switchboard.forget),
            web.get("/pace", switchboard.pace),
            web.get("/branches", switchboard.branches),
            web.post("/branches/{branch}", switchboard.set_branch),
            web.get("/faults", switchboard.faults),
            web.post("/faults", switchboard.add_fault),
            web.delete("/faults", switchboard.clear_faults),
            web.get("/behaviour", switchboard.behaviour),
            web.patch("/behaviour", switchboard.behave),
            web.patch("/organization", switchboard.set_organization),
            web.post("/keys", switchboard.add_key),
        ]
    )
    return made


@web.middleware
async def _explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return web.json_response({"message": str(error)}, status=400)


class _Switchboard:
    def __init__(self, stand_in: XataStandIn) -> None:
        self._stand_in = stand_in

    async def index(self, _request: web.Request) -> web.Response:
        return web.Response(text=__doc__ or "")

    async def requests(self, _request: web.Request) -> web.Response:
        began = time.monotonic()
        return web.json_response(
            {
                "requests": [
                    {**request.as_json(), "ago_s": round(began - request.at, 3)} for request in self._stand_in.requests
                ],
                "violations": self._stand_in.record.violations,
                "answer_violations": self._stand_in.record.answer_violations,
            }
        )

    async def forget(self, _request: web.Request) -> web.Response:
        self._stand_in.record.clear()
        return web.Response(status=204)

    async def pace(self, request: web.Request) -> web.Response:
        window_s = float(request.query.get("window_s", 1))
        record = self._stand_in.record
        operations = sorted({seen.operation for seen in record.requests if seen.operation})
        return web.json_response(
            {
                "window_s": window_s,
                "most": record.peak(window_s),
                "operations": {name: record.peak(window_s, name) for name in operations},
            }
        )

    async def branches(self, _request: web.Request) -> web.Response:
        behaviour = self._stand_in.behaviour
        return web.json_response(
            {
                "branches": [
                    {
                        "id": branch.id,
                        "name": branch.name,
                        "project": branch.project_id,
                        "parent": branch.parent_id,
                        "region": branch.cluster.region,
                        "status": status(branch, behaviour).type.value,
                        "database": branch.database,
                    }
                    for branch in self._stand_in.live_branches()
                ],
                "creates": self._stand_in.creates,
            }
        )

    async def set_branch(self, request: web.Request) -> web.Response:
        body = await _object(request)
        branch = request.match_info["branch"]
        if "status" in body:
            self._stand_in.force_status(branch, None if body["status"] is None else StatusType(body["status"]))
        if "hibernated" in body:
            self._stand_in.branch(branch).hibernated = bool(body["hibernated"])
        return web.Response(status=204)

    async def faults(self, _request: web.Request) -> web.Response:
        active = self._stand_in.faults.active()
        return web.json_response({"faults": [{**fault.as_json(), "strikes": strikes} for fault, strikes in active]})

    async def add_fault(self, request: web.Request) -> web.Response:
        fault = Fault.read(await _object(request))
        self._stand_in.faults.add(fault)
        return web.json_response(fault.as_json(), status=201)

    async def clear_faults(self, _request: web.Request) -> web.Response:
        self._stand_in.faults.clear()
        return web.Response(status=204)

    async def behaviour(self, _request: web.Request) -> web.Response:
        return web.json_response(self._stand_in.behaviour.as_json())

    async def behave(self, request: web.Request) -> web.Response:
        self._stand_in.behaviour.update(**await _object(request))
        return await self.behaviour(request)

    async def set_organization(self, request: web.Request) -> web.Response:
        body = await _object(request)
        if "billing_ok" in body:
            self._stand_in.billing_ok = bool(body["billing_ok"])
        if "age_s" in body:
            self._stand_in.set_age(float(body["age_s"]))
        return web.Response(status=204)

    async def add_key(self, request: web.Request) -> web.Response:
        body = await _object(request)
        key = self._stand_in.add_key(
            *body.get("scopes", ()), projects=body.get("projects"), branches=body.get("branches")
        )
        return web.json_response({"key": key}, status=201)


async def _object(request: web.Request) -> dict[str, Any]:
    value = await request.json()
    if not isinstance(value, dict):
        raise TypeError("send a JSON object")
    return value
