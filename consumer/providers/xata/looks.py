"""What is known of the projects at Xata: asked there, kept in the table `xata_projects`, shared by all copies.

In: ids of projects. Out: how full they are. Promise: one copy looks at a project while the others wait or go by what
was known; nothing is asked here once a user.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from consumer.providers.xata.answers import NotFoundError
from consumer.providers.xata.api import XataApi
from consumer.providers.xata.bodies import Project
from consumer.providers.xata.templates import Templates
from shared import postgres

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]

log = structlog.get_logger()

# Whoever died while looking is not waited for longer; two looks at once cost requests, no more.
LOOK_LASTS_S: Final = 20.0
DEFAULT_MAX_BRANCHES: Final = 100

_KNOW: Final = """
insert into xata_projects (project, name) select * from unnest($1::text[], $2::text[])
on conflict (project) do update set name = excluded.name where xata_projects.name <> excluded.name
"""
_STALE: Final = """
select project from xata_projects where project = any($1::text[])
    and (looked_at is null or looked_at < clock_timestamp() - $2::float8 * interval '1 second') order by project
"""
_BEGIN_LOOK: Final = """
update xata_projects set looking_until = clock_timestamp() + $3::float8 * interval '1 second'
where project = $1
    and (looked_at is null or looked_at < clock_timestamp() - $2::float8 * interval '1 second')
    and (looking_until is null or looking_until < clock_timestamp())
returning true
"""
_UNKNOWN: Final = """
select exists (
    select from xata_projects
    where project = any($1::text[]) and (max_branches is null or looking_until > clock_timestamp())
)
"""
_END_LOOK: Final = "update xata_projects set looking_until = null where project = $1"
_NOTE: Final = """
update xata_projects set max_branches = $2, lacks = $4, looked_at = clock_timestamp(), others = $5 + (
    select count(*) from unnest($3::text[]) as listed(name)
    where not exists (select from xata_placements as own where own.project = $1 and own.name = listed.name)
)
where project = $1
"""
_NOTE_FULL: Final = """
update xata_projects set full_until = clock_timestamp() + $2::float8 * interval '1 second', looked_at = null
where project = $1
"""
_FILL: Final = """
select coalesce(sum(max_branches), 0) as room, coalesce(sum(others + placed), 0) as used
from xata_projects where project = any($1::text[])
"""


class Looks:
    def __init__(self, pool: Pool, api: XataApi, templates: Templates) -> None:
        self._pool = pool
        self._api = api
        self._templates = templates

    async def know(self, projects: Sequence[Project]) -> None:
        """These are the pool's; how full they are is not known of new ones."""
        columns = [project.id for project in projects], [project.name for project in projects]
        async with postgres.translated():
            await self._pool.execute(_KNOW, *columns)

    async def look(self, members: list[str], age_s: float) -> None:
        """Bring what is known of the projects up to date, unless another copy is at it."""
        async with postgres.translated():
            stale = [row["project"] for row in await self._pool.fetch(_STALE, members, age_s)]
        for project in stale:
            async with postgres.translated():
                mine = await self._pool.fetchval(_BEGIN_LOOK, project, age_s, LOOK_LASTS_S)
            if not mine:
                continue
            try:
                await self._look_at(project)
            finally:
                async with postgres.translated():
                    await self._pool.execute(_END_LOOK, project)

    async def any_unknown(self, members: list[str]) -> bool:
        """Whether one of them was never looked at, or is being looked at."""
        async with postgres.translated():
            return bool(await self._pool.fetchval(_UNKNOWN, members))

    async def note_full(self, project: str, for_s: float) -> None:
        """Xata says so: not asked again before then."""
        async with postgres.translated():
            await self._pool.execute(_NOTE_FULL, project, for_s)

    async def used_and_room(self, members: list[str]) -> tuple[int, int]:
        """How many branches there are and are reserved, and how many there may be."""
        async with postgres.translated():
            row = await self._pool.fetchrow(_FILL, members)
        assert row is not None  # noqa: S101 - aggregates have a row
        return int(row["used"]), int(row["room"])

    async def _look_at(self, project: str) -> None:
        try:
            most = (await self._api.project_limits(project)).branches_per_project or DEFAULT_MAX_BRANCHES
            branches = await self._api.branches(project)
        except NotFoundError:
            log.warning("xata_project_missing", project=project)
            most, branches = 0, []
        names = [branch.name for branch in branches]
        lacks, to_make = self._templates.lacking(branches), self._templates.to_make(branches)
        async with postgres.translated():
            await self._pool.execute(_NOTE, project, most, names, lacks, to_make)
