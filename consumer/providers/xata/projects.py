"""The pool of projects: which one has room for the next branch, and a new one when none has.

In: a name that needs a place. Out: its `Placement`, reserved in Postgres before anything is asked of Xata.
Promise: copies that reserve at once never fill a project beyond its limit; Xata is looked at seldom, not once a user.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import Final

import structlog

from consumer.providers.protocol import QuotaBlocked, UserDatabase
from consumer.providers.xata.answers import AlreadyThereError, NotFoundError, UnclearError
from consumer.providers.xata.api import XataApi
from consumer.providers.xata.bodies import Limits, Project
from consumer.providers.xata.configuration import PoolWishes
from consumer.providers.xata.looks import DEFAULT_MAX_BRANCHES, Looks
from consumer.providers.xata.metrics import XataMetrics
from consumer.providers.xata.pace import Pace
from consumer.providers.xata.placements import Placement, Placements
from shared.errors import DependencyDown, NotYet

log = structlog.get_logger()

# How old what is known of a project may be: while it has room, and when none has.
AGE_S: Final = 600.0
AGE_WHEN_FULL_S: Final = 30.0
# What other copies use of the pool is taken into the metrics so often, while there are creations.
REPORT_S: Final = 2.0
QUOTA_RETRY_S: Final = 300.0
BUSY_RETRY_S: Final = 2.0
LOOKS_AT_OTHERS: Final = 20
WARN_AT: Final = 0.8


class Projects:
    def __init__(
        self,
        looks: Looks,
        api: XataApi,
        pace: Pace,
        placements: Placements,
        wishes: PoolWishes,
        metrics: XataMetrics,
        *,
        sleep_after_minutes: int | None,
    ) -> None:
        self._looks = looks
        self._api = api
        self._pace = pace
        self._placements = placements
        self._wishes = wishes
        self._metrics = metrics
        self._sleep_after_minutes = sleep_after_minutes
        self._members: tuple[float, list[Project]] | None = None
        self._limits: tuple[float, Limits] | None = None
        self._looking = asyncio.Lock()
        self._asking_limits = asyncio.Lock()
        self._warned = False
        self._looked_at = -math.inf
        self._reported_at = -math.inf
        self._used = self._room = 0

    async def place(self, wanted: UserDatabase, region: str) -> Placement:
        """The name's place: where it was before, or reserved now.

        Raises:
            QuotaBlocked: no project has room and none may be made.
            NotYet: another copy is just finding out.
        """
        placed = await self._place_as_known(wanted, region)
        if placed is None:
            # One looks, and the others go by what it saw: a look costs turns, and who does not wait makes a project.
            async with self._looking:
                placed = await self._place_as_known(wanted, region) or await self._place_after_look(wanted, region)
        return placed

    async def _place_as_known(self, wanted: UserDatabase, region: str) -> Placement | None:
        """Without asking Xata for anything."""
        if wanted.project is None and (members := self._fresh_members()):
            return await self._reserve(wanted, region, members)
        placed = await self._placements.find(wanted.name)
        if placed is None and wanted.project is not None:
            await self._placements.remember(wanted, region)
            placed = await self._placements.find(wanted.name)
        return placed

    def _fresh_members(self) -> list[str] | None:
        """The pool's projects, while nothing about them has to be looked at."""
        now = time.monotonic()
        if self._members is None or now - self._members[0] > AGE_S or now - self._looked_at > AGE_WHEN_FULL_S:
            return None
        return [project.id for project in self._members[1]]

    async def _place_after_look(self, wanted: UserDatabase, region: str) -> Placement:
        members = await self.members()
        await self._look(members, AGE_S)
        placed = await self._reserve(wanted, region, members)
        return placed or await self._find_room(wanted, region)

    async def full(self, placement: Placement) -> None:
        """Xata says that the project takes no more: give the place in it back.

        Raises:
            NotYet: a request that has no answer could still make the branch there.
        """
        await self._looks.note_full(placement.project, AGE_WHEN_FULL_S)
        if not await self._placements.release(placement):
            left_s = max(BUSY_RETRY_S, placement.unanswered_s)
            raise NotYet("an earlier request to create the branch has no answer yet", left_s)

    async def members(self, *, age_s: float = AGE_S) -> list[str]:
        """The ids of the pool's projects."""
        if self._members is None or time.monotonic() - self._members[0] > age_s:
            projects = await self._list()
            await self._looks.know(projects)
            self._members = time.monotonic(), projects
            self._looked_at = -math.inf  # some may be new
        return [project.id for project in self._members[1]]

    async def hourly_cap(self) -> int | None:
        """How many branches may be created in an hour."""
        caps = ((await self._organization()).branches_per_hour, self._wishes.branches_per_hour)
        return min((cap for cap in caps if cap is not None), default=None)

    async def _list(self) -> list[Project]:
        given, prefix = self._wishes.given, self._wishes.prefix
        if prefix is None and all(name.startswith("prj_") for name in given):
            return [Project(name, name) for name in given]
        listed = await self._api.projects()
        missing = [name for name in given if not any(name in {project.id, project.name} for project in listed)]
        if missing:
            raise DependencyDown(f"XATA_PROJECTS NAMES WHAT XATA_ORGANIZATION DOES NOT HAVE: {', '.join(missing)}")
        return [
            project
            for project in listed
            if project.id in given or project.name in given or (prefix and project.name.startswith(prefix))
        ]

    async def _look(self, members: list[str], age_s: float) -> None:
        await self._looks.look(members, age_s)
        self._looked_at = time.monotonic()

    async def _reserve(self, wanted: UserDatabase, region: str, members: list[str]) -> Placement | None:
        placed = await self._placements.reserve(wanted, region, members)
        if placed is None:
            return await self._placements.find(wanted.name)  # another worker was quicker
        if time.monotonic() - self._reported_at > REPORT_S:
            await self._report(members)
        elif placed.fresh:
            self._tell(self._used + 1, self._room, len(members))
        return placed

    async def _find_room(self, wanted: UserDatabase, region: str) -> Placement:
        members = await self.members(age_s=AGE_WHEN_FULL_S)
        await self._look(members, AGE_WHEN_FULL_S)
        placed = await self._reserve(wanted, region, members) or await self._after_others(wanted, region, members)
        if placed is None and await self._may_make_one():
            await self._make_one()
            members = await self.members(age_s=0)
            await self._look(members, AGE_WHEN_FULL_S)
            # At once with others it may be their project, which they are looking at.
            placed = await self._reserve(wanted, region, members) or await self._after_others(wanted, region, members)
        if placed is not None:
            return placed
        used, room = await self._report(members)
        raise QuotaBlocked(
            f"no project has room for a branch in {region}: {used} of {room} are used in {len(members)} projects; "
            "add to XATA_PROJECTS, raise XATA_MAX_PROJECTS or ask Xata for more",
            QUOTA_RETRY_S,
        )

    async def _after_others(self, wanted: UserDatabase, region: str, members: list[str]) -> Placement | None:
        """Other copies look as well: what they see may be room."""
        for _ in range(LOOKS_AT_OTHERS):
            if not await self._looks.any_unknown(members):
                break
            await asyncio.sleep(BUSY_RETRY_S / LOOKS_AT_OTHERS)
        else:
            raise NotYet("another copy looks at a project", BUSY_RETRY_S)
        return await self._reserve(wanted, region, members)

    async def _may_make_one(self) -> bool:
        prefix = self._wishes.prefix
        if prefix is None or self._members is None:
            return False
        made = sum(project.name.startswith(prefix) for project in self._members[1])
        return made < self._wishes.most

    async def _make_one(self) -> None:
        """A project of the next free name; the same for all copies, so that at once they make one, not three."""
        names = {project.name for project in self._members[1]} if self._members else set()
        prefix = self._wishes.prefix or ""
        name = next(name for number in range(1, len(names) + 2) if (name := f"{prefix}{number}") not in names)
        claim = await self._pace.claim("project", (await self._organization()).projects_per_hour)
        try:
            await self._api.create_project(name, sleep_after_minutes=self._sleep_after_minutes)
        except (AlreadyThereError, UnclearError) as error:
            # The list tells whether it is there.
            log.info("xata_project_unclear", name=name, error=type(error).__name__)
        except Exception:
            await self._pace.refund(claim)
            raise
        else:
            log.info("xata_project_made", name=name)

    async def _organization(self) -> Limits:
        async with self._asking_limits:
            if self._limits is None or time.monotonic() - self._limits[0] > AGE_S:
                try:
                    limits = await self._api.organization_limits()
                except NotFoundError:  # an older Xata
                    limits = Limits(None, None)
                self._limits = time.monotonic(), limits
            return self._limits[1]

    async def _report(self, members: list[str]) -> tuple[int, int]:
        """Used, and room in all, with what may still be made."""
        used, room = await self._looks.used_and_room(members)
        assert self._members is not None  # noqa: S101 - who reports has asked for them
        if self._wishes.prefix is not None:
            made = sum(project.name.startswith(self._wishes.prefix) for project in self._members[1])
            each = room // len(members) if room else DEFAULT_MAX_BRANCHES
            room += max(0, self._wishes.most - made) * each
        self._reported_at = time.monotonic()
        self._tell(used, room, len(members))
        return used, room

    def _tell(self, used: int, room: int, projects: int) -> None:
        self._used, self._room = used, room
        nearly_full = used >= WARN_AT * room
        self._metrics.pool(used, room, nearly_full=nearly_full)
        if nearly_full and not self._warned:
            log.warning("xata_pool_nearly_full", used=used, room=room, projects=projects)
        self._warned = nearly_full
