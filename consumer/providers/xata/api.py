"""Xata's HTTP API, as far as Usher needs it: one connection pool, every call paced, every answer through one table.

Promise: what is safe to repeat is repeated a little; a creation leaves once, and when its answer is unclear the error
says so (`UnclearError`). Keys and connection strings are in no error and no log.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import quote

import aiohttp
import structlog

from consumer.providers.xata import answers, bodies
from consumer.providers.xata.answers import Answer, UnclearError
from consumer.providers.xata.bodies import Branch, BranchState, InstanceType, Limits, Login, Project
from consumer.providers.xata.pace import Pace
from shared.errors import DependencyDown, NotYet, ThrottledError, TransientError

log = structlog.get_logger()
T = TypeVar("T")

TRIES: Final = 3
BACKOFF_S: Final = 0.3
# Longer waits are not for a worker: the retry ladder has them.
LONGEST_WAIT_S: Final = 5.0
USERNAME: Final = "xata"
_CONNECTIONS: Final = 16
# Shorter than any gateway keeps them, so that no request meets one that is just being closed.
_KEPT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `whole` ends what trickles; a creation provisions before it answers, so it has its own.

    `connect` begins when a connection of the pool is free, for which `pool` is waited; `read` is from byte to byte.
    """

    connect: float = 5.0
    read: float = 8.0
    pool: float = 5.0
    whole: float = 12.0
    creation: float = 30.0

    @property
    def asking(self) -> aiohttp.ClientTimeout:
        return self._phases(self.whole, self.read)

    @property
    def creating(self) -> aiohttp.ClientTimeout:
        return self._phases(self.creation, self.creation)

    def _phases(self, total: float, read: float) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(
            total=total, connect=self.pool + self.connect, sock_connect=self.connect, sock_read=read
        )


class XataApi:
    """`url` and `organization` as in XATA_API_URL and XATA_ORGANIZATION; close it in the end."""

    def __init__(self, url: str, key: str, organization: str, *, pace: Pace, timeouts: Timeouts | None = None) -> None:
        timeouts = timeouts or Timeouts()
        self._asking, self._creating = timeouts.asking, timeouts.creating
        self._pace = pace
        self._url = f"{url.rstrip('/')}/organizations/{quote(organization, safe='')}"
        self._headers = {"Authorization": f"Bearer {key}", "User-Agent": "usher"}
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def regions(self) -> list[str]:
        return await self._get("/regions", bodies.each("regions", bodies.region))

    async def images(self, region: str) -> list[str]:
        """Postgres images by name, newest first."""
        images = bodies.each("images", bodies.image)
        return [name for _, name in sorted(await self._get("/images", images, region=region), reverse=True)]

    async def instance_types(self, region: str) -> list[InstanceType]:
        """Cheapest first."""
        kinds = bodies.each("instanceTypes", bodies.instance_type)
        return sorted(await self._get("/instanceTypes", kinds, region=region), key=lambda kind: kind.hourly_rate)

    async def organization_limits(self) -> Limits:
        return await self._get("/limits", bodies.limits)

    async def project_limits(self, project: str) -> Limits:
        return await self._get(f"/projects/{quote(project, safe='')}/limits", bodies.limits)

    async def projects(self) -> list[Project]:
        return await self._get("/projects", bodies.each("projects", bodies.project))

    async def create_project(self, name: str, *, sleep_after_minutes: int | None) -> Project:
        sleeping = bodies.scale_to_zero(sleep_after_minutes)
        configuration = {"scaleToZero": {"baseBranches": sleeping, "childBranches": sleeping}}
        return await self._post("/projects", {"name": name, "configuration": configuration}, bodies.project)

    async def branches(self, project: str) -> list[Branch]:
        return await self._get(_branches(project), bodies.each("branches", bodies.branch))

    async def create_branch(
        self, project: str, name: str, description: str, origin: Mapping[str, Any], *, sleep_after_minutes: int | None
    ) -> Branch:
        """`origin` is `mode` and what belongs to it.

        Raises:
            AlreadyThereError, ProjectFullError, QuotaBlocked, NotYet, CreationPausedError: nothing was created.
            UnclearError: perhaps.
        """
        body = {
            "name": name,
            "description": description,
            "scaleToZero": bodies.scale_to_zero(sleep_after_minutes),
            **origin,
        }
        return await self._post(_branches(project), body, bodies.branch)

    async def state(self, project: str, branch: str) -> BranchState:
        return await self._get(_branches(project, branch), bodies.branch_state)

    async def rename_branch(self, project: str, branch: str, name: str) -> None:
        await self._repeated("PATCH", _branches(project, branch), bodies.nothing, body={"name": name})

    async def wake_branch(self, project: str, branch: str) -> None:
        await self._repeated("PATCH", _branches(project, branch), bodies.nothing, body={"hibernate": False})

    async def delete_branch(self, project: str, branch: str) -> None:
        await self._repeated("DELETE", _branches(project, branch), bodies.nothing)

    async def login(self, project: str, branch: str) -> Login:
        return await self._get(f"{_branches(project, branch)}/credentials", bodies.login, username=USERNAME)

    async def _get(self, path: str, reader: Callable[[Any], T], **query: str) -> T:
        return await self._repeated("GET", path, reader, query=query)

    async def _post(self, path: str, body: Mapping[str, Any], reader: Callable[[Any], T]) -> T:
        return await self._repeated("POST", path, reader, body=body)

    async def _repeated(
        self,
        method: str,
        path: str,
        reader: Callable[[Any], T],
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> T:
        """Try a few times what may be tried again."""
        for tried in range(1, TRIES + 1):
            await self._pace.turn()
            pause_s = BACKOFF_S * 2 ** (tried - 1) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
            try:
                return await self._once(method, path, reader, query, body)
            except ThrottledError as throttled:
                await self._pace.hold(throttled.retry_after_s)
                if throttled.retry_after_s > LONGEST_WAIT_S:
                    # All copies wait; no single event is to blame.
                    raise NotYet(str(throttled), throttled.retry_after_s) from throttled
                if tried == TRIES:
                    raise
            except UnclearError as unclear:
                pause_s = max(pause_s, unclear.retry_after_s or 0.0)
                if method == "POST" or tried == TRIES or pause_s > LONGEST_WAIT_S:
                    raise
            except (DependencyDown, TransientError) as error:
                if tried == TRIES or not _passes(error):
                    raise
            log.info("xata_request_repeated", method=method, tried=tried)
            await asyncio.sleep(pause_s)
        raise AssertionError("the last try returns or raises")

    async def _once(
        self,
        method: str,
        path: str,
        reader: Callable[[Any], T],
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
    ) -> T:
        timeout = self._creating if method == "POST" else self._asking
        try:
            async with self._connected().request(
                method, self._url + path, params=query or None, json=body, timeout=timeout, allow_redirects=False
            ) as response:
                content = await response.read()
        except (aiohttp.ClientError, OSError) as error:
            ours = answers.translate(error)
            if ours is None:
                raise
            # Of the others some print the request with its key.
            raise ours from (error if isinstance(error, aiohttp.ClientConnectionError) else None)
        if not HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
            raise answers.error_of(_answer(response, content))
        return _read(response, content, reader)

    def _connected(self) -> aiohttp.ClientSession:
        """Made by the first request, as it needs a running loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._headers,
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=_KEPT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
            # What is repeated keeps the pace: nothing is sent again behind its back.
            self._session._retry_connection = False  # noqa: SLF001 - there is no other switch
        return self._session


def _passes(error: Exception) -> bool:
    """Whether it may be over in a moment: nothing reached the server, or somebody else was at it."""
    return isinstance(error.__cause__, aiohttp.ClientConnectionError) or type(error) is TransientError


def _answer(response: aiohttp.ClientResponse, content: bytes) -> Answer:
    try:
        message = json.loads(content)["message"]
    except (ValueError, TypeError, KeyError):
        message = ""
    return Answer(
        response.status,
        message if isinstance(message, str) else "",
        answers.retry_after_s(response.headers.get("retry-after")),
    )


def _read(response: aiohttp.ClientResponse, content: bytes, reader: Callable[[Any], T]) -> T:
    try:
        return reader(json.loads(content) if content else None)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        text = f"Xata answered {response.status} with what Usher cannot read: {type(error).__name__}"
        raise UnclearError(text, ended=True) from None


def _branches(project: str, branch: str | None = None) -> str:
    path = f"/projects/{quote(project, safe='')}/branches"
    return path if branch is None else f"{path}/{quote(branch, safe='')}"
