"""A stand-in for Xata that costs next to nothing: every branch is healthy at once, and all lead to one database.

It has one project with a template as Usher makes one, so that its children are born with the schema, and answers only
what a consumer asks for while it creates: what is measured is Usher. (`local.xata` is the strict one.)
"""

import asyncio
import json
import os
import signal
from http import HTTPStatus
from itertools import count
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import web

from consumer.providers.xata.templates import HEALTHY, MADE_BY_USHER
from local.ports import LOOPBACK

_REGION: Final = "eu-central-1"
_MOST: Final = 10**6
_TEMPLATE: Final = "t0"


class AtOnce:
    def __init__(self, key: str, organization: str, database_url: str) -> None:
        self._authorization = f"Bearer {key}"
        self._root = f"/organizations/{organization}"
        self._numbers = count(1)
        self._branches = {_TEMPLATE: _branch(_TEMPLATE, "template", MADE_BY_USHER)}
        self._login = _login(database_url)
        self._fixed: dict[str, Any] = {
            "/regions": {"regions": [{"id": _REGION}]},
            "/limits": {"maxBranchesPerHour": _MOST, "maxProjectsPerHour": _MOST},
            "/projects": {"projects": [{"id": "prj_1", "name": "bench-1"}]},
            "/projects/prj_1/limits": {"maxBranches": _MOST},
        }

    async def handle(self, request: web.BaseRequest) -> web.Response:
        if request.headers.get("Authorization") != self._authorization or not request.path.startswith(self._root):
            return _answer({"message": "invalid token"}, HTTPStatus.UNAUTHORIZED)
        path = request.path.removeprefix(self._root)
        if path in self._fixed:
            return _answer(self._fixed[path])
        if request.method == "POST":
            return self._created(json.loads(await request.read()))
        return self._told(*path.split("/")[4:])

    def _created(self, wanted: dict[str, Any]) -> web.Response:
        branch = _branch(f"b{next(self._numbers):025}", wanted["name"], wanted["description"])
        self._branches[branch["id"]] = branch
        return _answer(branch, HTTPStatus.CREATED)

    def _told(self, branch: str = "", what: str = "") -> web.Response:
        if not branch:
            return _answer({"branches": list(self._branches.values())})
        if branch not in self._branches:
            return _answer({"message": f"Branch [{branch}]: not found"}, HTTPStatus.NOT_FOUND)
        return _answer(self._login if what == "credentials" else self._branches[branch])


def _branch(branch_id: str, name: str, description: str) -> dict[str, Any]:
    status = {"status": "Cluster in healthy state", "statusType": HEALTHY}
    return {"id": branch_id, "name": name, "description": description, "region": _REGION, "status": status}


def _login(database_url: str) -> dict[str, Any]:
    parts = urlsplit(database_url)
    return {
        "username": parts.username,
        "password": parts.password,
        "hostname": parts.hostname,
        "port": parts.port,
        "dbname": parts.path.strip("/"),
        "connectionString": database_url,
    }


def _answer(body: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    return web.Response(body=json.dumps(body).encode(), status=status, content_type="application/json")


async def _serve() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    at_once = AtOnce(os.environ["KEY"], os.environ["ORGANIZATION"], os.environ["DATABASE_URL"])
    runner = web.ServerRunner(web.Server(at_once.handle, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, int(os.environ["PORT"])).start()
    await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(_serve())
