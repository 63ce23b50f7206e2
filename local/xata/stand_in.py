"""The stand-in as a thing to start, stop, steer and look into; what tests and `usher xata-stand-in` use.

stand_in = XataStandIn(postgres_url="postgresql://…")     # a superuser's
await stand_in.start()                                    # then .url, .api_key, .organization
project = stand_in.add_project("users")
template = await stand_in.add_branch(project, "template", region="us-east-1")
stand_in.faults.add(Fault.answer(503, retry_after_s=2, probability=0.3))
stand_in.behaviour.healthy_after_s = 2.0
await stand_in.stop()
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from aiohttp import web

from local.errors import ServerError
from local.xata import admin, ids
from local.xata.behaviour import Behaviour
from local.xata.branches import Branches
from local.xata.catalogue import REGIONS, Region
from local.xata.cloud import Cloud, Wish
from local.xata.databases import Databases
from local.xata.faults import Faults
from local.xata.front import Front
from local.xata.memory import Memory
from local.xata.model import ALL_SCOPES, ApiKey, Branch, Cluster, Organization, Project, ScaleToZero, StatusType
from local.xata.projects import Projects
from local.xata.provisioning import Provisioning
from local.xata.record import Record, Request

LOOPBACK: Final = "127.0.0.1"
_MAX_BODY_BYTES: Final = 1024 * 1024
_POLL_S: Final = 0.01


class XataStandIn:
    def __init__(  # noqa: PLR0913 - a server has as many settings as it has
        self,
        *,
        postgres_url: str,
        port: int = 0,
        api_key: str | None = None,
        organization: str | None = None,
        behaviour: Behaviour | None = None,
        regions: Iterable[Region] = REGIONS,
        keep_databases: bool = False,
        state: Path | None = None,
    ) -> None:
        """`port` 0: any free one. `keep_databases`: leave them on the server at `stop`.

        `state`: a file that keeps all of it, and so the databases, from life to life.

        Raises: ServerError when that file cannot be read.
        """
        self._memory = Memory(state)
        self.behaviour = behaviour or Behaviour()
        self.api_key = api_key or self._memory.api_key or ids.user_key()
        mine = Organization(organization or self._memory.organization or ids.organization_id())
        self.cloud = Cloud(self.behaviour, mine, regions)
        self._keys = {self.api_key: ApiKey()}
        self._databases = Databases(postgres_url)
        self._provisioning = Provisioning(self._databases, self.behaviour, self._remember)
        self.port = port
        self._keep_databases = keep_databases or self._memory.keeps
        operations = Projects(self.cloud).operations() + Branches(self.cloud, self._provisioning).operations()
        self._front = Front(self.cloud, operations, self._keys, self._remember)
        self._runner: web.AppRunner | None = None

    # Life

    async def start(self) -> None:
        """Raises: ServerError when PostgreSQL, the port or the state's file is not to be had."""
        await self._databases.start()
        await self._recall()
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.add_subapp("/_stand_in", admin.app(self))
        app.router.add_get("/readyz", _ready)
        app.router.add_route("*", "/{tail:.*}", self._front.handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, LOOPBACK, self.port)
        try:
            await site.start()
        except OSError as error:
            raise ServerError(f"port {self.port}: {os.strerror(error.errno or 0)}") from error
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Lets go of what hangs, closes the port, and takes the databases away."""
        self._front.closing.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await self._provisioning.stop()
        if not self._keep_databases:
            left = [branch for branch in self.cloud.branches() if branch.provisioning is not None]
            await asyncio.gather(*(self._provisioning.remove(branch) for branch in left))
        await self._databases.stop()

    async def _recall(self) -> None:
        recalled = {branch.id: branch for branch in self._memory.recall(self.cloud, self._keys)}
        for branch in recalled.values():
            await self._provisioning.take_up(branch, recalled.get(branch.parent_id or ""))
        self._remember()

    def _remember(self) -> None:
        self._memory.save(self.cloud, self._keys, self.api_key)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def organization(self) -> str:
        return self.cloud.organization.id

    # What is there, past the API

    def add_key(
        self, *scopes: str, projects: Iterable[str] | None = None, branches: Iterable[str] | None = None
    ) -> str:
        """Another key; without scopes it has all.

        Raises: ValueError for a scope that there is not.
        """
        if not set(scopes) <= ALL_SCOPES:
            raise ValueError(f"scopes are {', '.join(sorted(ALL_SCOPES))}")
        key = ids.user_key()
        self._keys[key] = ApiKey(
            scopes=frozenset(scopes) or ALL_SCOPES,
            projects=None if projects is None else frozenset(projects),
            branches=None if branches is None else frozenset(branches),
        )
        self._remember()
        return key

    def remove_key(self, key: str) -> None:
        self._keys.pop(key, None)
        self._remember()

    def add_project(self, name: str = "users") -> str:
        """The project's id."""
        project = self.cloud.create_project(Project(id=ids.project_id(), name=name))
        self._remember()
        return project.id

    def project_named(self, name: str) -> str | None:
        return next((project.id for project in self.cloud.live_projects() if project.name == name), None)

    async def add_branch(
        self,
        project: str,
        name: str,
        *,
        region: str = "us-east-1",
        parent: str | None = None,
        ready: bool = True,
        scale_to_zero: ScaleToZero | None = None,
    ) -> str:
        """A branch's id; with `ready` it is healthy at once, whatever the delays are."""
        own = None if parent else Cluster(region, "postgres:17.9", "xata.micro")
        wish = Wish(name, parent=parent, cluster=own, scale_to_zero=scale_to_zero)
        branch = self.cloud.create_branch(project, wish)
        self.cloud.creates[name] -= 1
        if ready:
            branch.born = float("-inf")
        self._remember()
        self._provisioning.begin(branch, self.branch(parent) if parent else None)
        while ready and not branch.up:
            if branch.doomed:
                raise RuntimeError(f"branch {name} could not be made; see the log")
            await asyncio.sleep(_POLL_S)
        return branch.id

    def branch(self, branch_id: str) -> Branch:
        """Raises: KeyError when there is none that lives."""
        return {branch.id: branch for branch in self.cloud.branches()}[branch_id]

    def live_branches(self, project: str | None = None) -> list[Branch]:
        return [branch for branch in self.cloud.branches() if project in {None, branch.project_id}]

    def force_status(self, branch_id: str, status: StatusType | None) -> None:
        """Whatever the branch is, it says this; None: the truth again."""
        self.branch(branch_id).forced = status

    def hibernate(self, branch_id: str) -> None:
        self.branch(branch_id).hibernated = True

    def connection_url(self, branch_id: str) -> str:
        branch = self.branch(branch_id)
        return self._databases.login_url(branch.database, branch.password)

    # Switches and evidence

    @property
    def faults(self) -> Faults:
        return self._front.faults

    @property
    def record(self) -> Record:
        return self._front.record

    @property
    def requests(self) -> list[Request]:
        return self._front.record.requests

    @property
    def creates(self) -> Counter[str]:
        """How many branches of each name the API ever created."""
        return +self.cloud.creates

    def pace(self, window_s: float = 1.0) -> int:
        """The most requests that arrived within any `window_s`."""
        return self.record.peak(window_s)

    @property
    def billing_ok(self) -> bool:
        return self.cloud.organization.enabled

    @billing_ok.setter
    def billing_ok(self, value: bool) -> None:
        self.cloud.organization.enabled = value
        self._remember()

    def set_age(self, seconds: float) -> None:
        """How long ago the organization was made, as it says."""
        self.cloud.organization.age_s, self.cloud.organization.since = seconds, time.monotonic()
        self._remember()


async def _ready(_request: web.Request) -> web.Response:
    return web.json_response({"status": "ready"})
