"""Users' databases at Xata: the provider `xata`, one branch per user, put together from its parts.

Promise: as of every provider (see consumer.providers): repeated at will, killed anywhere, one database or none.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from consumer.providers.names import is_user_name
from consumer.providers.protocol import Found, Place, Usable, UserDatabase
from consumer.providers.xata.answers import NotFoundError
from consumer.providers.xata.api import Timeouts, XataApi
from consumer.providers.xata.configuration import XataConfiguration
from consumer.providers.xata.creating import BUSY_RETRY_S, Creating, is_ours
from consumer.providers.xata.live_regions import LiveRegions
from consumer.providers.xata.login import connection_url, host_of
from consumer.providers.xata.looks import Looks
from consumer.providers.xata.metrics import XataMetrics
from consumer.providers.xata.pace import Pace
from consumer.providers.xata.placements import Placement, Placements
from consumer.providers.xata.projects import Projects
from consumer.providers.xata.readiness import ASIDE, Patience, Readiness
from consumer.providers.xata.templates import Templates
from shared.errors import NotYet, PermanentError
from shared.migrations import Migration

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]

log = structlog.get_logger()

# Each call ends within a minute; what is not done by then goes on at the next delivery.
CALL_TIMEOUT_S: Final = 50.0
_LOOK_AGAIN_S: Final = 0.1
_MOST_REMEMBERED: Final = 1000


class XataProvider:
    """`pool` leads to Usher's own database, where copies share what they know. `close` ends the connections to Xata."""

    name: Final = "xata"

    def __init__(
        self,
        pool: Pool,
        configuration: XataConfiguration,
        *,
        default_region: str,
        migrations: Sequence[Migration],
        metrics: XataMetrics | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        wishes, branch, metrics = configuration, configuration.branch, metrics or XataMetrics()
        self._url = wishes.url
        self._default_region = default_region
        pace = Pace(pool, requests_per_s=wishes.requests_per_s, patience_s=wishes.patience_s)
        self._api = XataApi(wishes.url, wishes.key, wishes.organization, pace=pace, timeouts=timeouts)
        self.regions = LiveRegions(self._api, wishes.regions)
        self._placements = Placements(pool, unclear_s=wishes.waiting.unclear_s)
        templates = Templates(self._api, branch, migrations=migrations, api_url=wishes.url)
        sleep = branch.sleep_after_minutes
        looks = Looks(pool, self._api, templates)
        self._projects = Projects(
            looks, self._api, pace, self._placements, wishes.pool, metrics, sleep_after_minutes=sleep
        )
        self._creating = Creating(
            self._api, pace, self._projects, self._placements, templates, sleep_after_minutes=sleep
        )
        self._made: dict[str, Placement] = {}
        self._readiness = Readiness(self._api, self._placements, metrics, wishes.waiting, migrations)

    async def create(self, wanted: UserDatabase) -> Place:
        async with _within_a_minute():
            placement = await self._projects.place(wanted, wanted.region or self._default_region)
            branch, made = await self._creating.known_or_created(placement)
            self._remember(made)
            return Place(branch.id, branch.region, host_of(branch.id, branch.region, self._url), placement.project)

    async def prepare(self, database: UserDatabase) -> Usable:
        async with _within_a_minute():
            project, branch_id = await self._where(database)
            placement = self._made.pop(database.name, None) or await self._placements.find(database.name)
            patience = Patience(placement)
            login, status = await self._readiness.login(project, branch_id, patience)
            version = self._readiness.born_with(branch_id, placement, status)
            if version is not None:
                # Healthy, with a login, and a copy of what carries the schema: nobody has to connect, or wake it.
                return Usable(version, login.host)
            url = connection_url(login, host_of(branch_id, database.region or "", self._url))
            return Usable(await self._readiness.migrated(url, patience), login.host)

    async def delete(self, database: UserDatabase) -> None:
        """As the protocol says. Raises NotYet while a request to create could still bring the branch back."""
        async with _within_a_minute():
            placement = await self._settled(database.name)
            if database.project is not None and database.provider_id is not None:
                await self._delete_branch(database.project, database.provider_id)
            for project in await self._possible_projects(database, placement):
                await self._delete_by_name(project, database)
            if placement is not None and not await self._placements.remove(placement):
                raise NotYet("a creation was under way meanwhile", BUSY_RETRY_S)

    async def connection_url(self, database: UserDatabase) -> str:
        async with _within_a_minute():
            project, branch_id = await self._where(database)
            try:
                login = await self._api.login(project, branch_id)
            except NotFoundError as error:
                raise PermanentError(f"there is no branch {database.name}, or it is not ready ({error})") from error
            return connection_url(login, host_of(branch_id, database.region or "", self._url))

    async def inventory(self) -> Sequence[Found]:
        found = []
        for project in await self._projects.members(age_s=0):
            for branch in await self._api.branches(project):
                name, aside, _ = branch.name.partition(ASIDE)
                if is_user_name(name):
                    user_id = name if name.startswith("user_") else None
                    found.append(
                        Found(branch.name, branch.id, branch.region, project, user_id, name if aside else None)
                    )
        return found

    async def check(self) -> None:
        await self.regions.compared()

    async def close(self) -> None:
        await self._api.close()

    def _remember(self, made: Placement | None) -> None:
        """For `prepare`, which follows at once; what a failure in between leaves over is dropped some time."""
        if len(self._made) >= _MOST_REMEMBERED:
            self._made.clear()
        if made is not None:
            self._made[made.name] = made

    async def _where(self, database: UserDatabase) -> tuple[str, str]:
        """Its project and branch id, from what is known or by its name over all projects."""
        if database.project is not None and database.provider_id is not None:
            return database.project, database.provider_id
        for project in await self._possible_projects(database, await self._placements.find(database.name)):
            for branch in await self._api.branches(project):
                if branch.name == database.name and await is_ours(self._api, project, branch):
                    return project, branch.id
        raise PermanentError(f"there is no branch {database.name}")

    async def _possible_projects(self, database: UserDatabase, placement: Placement | None) -> list[str]:
        """Where a branch of that name can be: all projects when nothing was noted (another Usher may have made it)."""
        noted = {project for project in (database.project, placement and placement.project) if project}
        return sorted(noted) or await self._projects.members()

    async def _settled(self, name: str) -> Placement | None:
        """The placement, once no request to create is without an answer."""
        deadline = time.monotonic() + BUSY_RETRY_S
        while True:
            placement = await self._placements.find(name)
            if placement is None or placement.unanswered_s <= 0:
                return placement
            if time.monotonic() > deadline:
                raise NotYet("a request to create the branch has no answer yet", placement.unanswered_s)
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def _delete_by_name(self, project: str, database: UserDatabase) -> None:
        try:
            branches = await self._api.branches(project)
        except NotFoundError:
            return
        for branch in branches:
            if branch.name != database.name and not branch.name.startswith(f"{database.name}{ASIDE}"):
                continue
            if await is_ours(self._api, project, branch):
                await self._delete_branch(project, branch.id)
            else:
                log.warning("strangers_database_left_alone", user_id=database.user_id, name=branch.name)

    async def _delete_branch(self, project: str, branch_id: str) -> None:
        try:
            await self._api.delete_branch(project, branch_id)
        except NotFoundError:
            log.debug("xata_branch_was_gone", provider_id=branch_id)


@asynccontextmanager
async def _within_a_minute() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            yield
    except TimeoutError as error:
        # Single requests have their own deadlines: so many of them waited for their turns, and nobody is to blame.
        raise NotYet(f"not done within {CALL_TIMEOUT_S:.0f} s", BUSY_RETRY_S) from error
