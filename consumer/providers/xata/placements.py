"""The table `xata_placements`: in which project a user's branch is, or is about to be, created.

Promise: written before the request to create leaves and removed only when no branch can come of it any more, so that no
name is ever in two projects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import asyncpg

from consumer.providers.protocol import UserDatabase
from shared import postgres

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]


@dataclass(frozen=True, slots=True)
class Placement:
    """One row. `unanswered_s` is how long requests without an answer may still take effect; 0 when there are none.

    `schema_version`: what the branch was born with; 0 when that is not known. `fresh`: reserved just now.
    """

    name: str
    user_id: str
    project: str
    region: str
    branch_id: str | None
    posts: int
    unanswered_s: float
    age_s: float
    faults: int
    put_aside: tuple[str, ...]
    schema_version: int
    fresh: bool = False


_COLUMNS: Final = """
    name, user_id, project, region, branch_id, posts, faults, put_aside, schema_version,
    case when unanswered > 0 then greatest(0, extract(epoch from unanswered_until - clock_timestamp())) else 0
    end::float8 as unanswered_s,
    coalesce(extract(epoch from clock_timestamp() - posted_at), 0)::float8 as age_s
"""
_FIND: Final = f"select {_COLUMNS} from xata_placements where name = $1"  # noqa: S608 - a constant list of columns
# Who reserves waits for the project's row, and then sees what it has by then. That row is not kept until a disk has the
# reservation: no request leaves before `begin` was committed, which puts all that was committed before it on disk too.
_RESERVE: Final = f"""
with there as (
    select {_COLUMNS} from xata_placements where name = $1
), pool as (
    select project from xata_projects
    where project = any($4::text[]) and max_branches - others - placed > 0 and not ($3 = any(lacks))
        and (full_until is null or full_until < clock_timestamp())
        and not exists (select from there) and set_config('synchronous_commit', 'off', true) = 'off'
    order by max_branches - others - placed desc, project limit 1
    for update
), made as (
    insert into xata_placements (name, user_id, region, project) select $1, $2, $3, project from pool
    on conflict (name) do nothing
    returning {_COLUMNS}
)
select *, false as fresh from there union all select *, true as fresh from made
"""  # noqa: S608 - a constant list of columns
_REMEMBER: Final = """
insert into xata_placements (name, user_id, region, project, branch_id, posts, posted_at)
values ($1, $2, $3, $4, $5, 1, clock_timestamp())
on conflict (name) do nothing
"""
_BEGIN_POST: Final = """
update xata_placements set
    posts = posts + 1,
    unanswered = case when unanswered_until > clock_timestamp() then unanswered else 0 end + 1,
    unanswered_until = clock_timestamp() + $3::float8 * interval '1 second',
    posted_at = coalesce(posted_at, clock_timestamp()),
    schema_version = case when posts = 0 then $4 else least(schema_version, $4) end
where name = $1 and project = $2
    and not exists (select from xata_pace where key = 'creating' and free_at > clock_timestamp())
returning true
"""
_ANSWERED: Final = """
update xata_placements set unanswered = greatest(0, unanswered - 1) where name = $1 and project = $2
"""
_MADE: Final = f"""
update xata_placements set
    branch_id = $3, region = $4, posted_at = coalesce(posted_at, clock_timestamp()),
    unanswered = greatest(0, unanswered - $5)
where name = $1 and project = $2
returning {_COLUMNS}
"""  # noqa: S608 - a constant list of columns
_FORGET: Final = """
update xata_placements set branch_id = null, posted_at = null where name = $1 and branch_id = $2
"""
_FAULT: Final = "update xata_placements set faults = faults + 1 where name = $1 and branch_id = $2 returning faults"
_PUT_ASIDE: Final = """
update xata_placements set put_aside = put_aside || $2::text, branch_id = null, posted_at = null, faults = 0
where name = $1 and branch_id = $2
"""
_RELEASE: Final = """
delete from xata_placements where name = $1 and project = $2 and branch_id is null and posts = $3
    and (unanswered = 0 or unanswered_until <= clock_timestamp())
returning true
"""
_REMOVE: Final = """
delete from xata_placements where name = $1 and posts = $2
    and (unanswered = 0 or unanswered_until <= clock_timestamp())
returning true
"""


class Placements:
    """`unclear_s`: for so long a creation without an answer may still come about."""

    def __init__(self, pool: Pool, *, unclear_s: float) -> None:
        self._pool = pool
        self._unclear_s = unclear_s

    async def find(self, name: str) -> Placement | None:
        async with postgres.translated():
            row = await self._pool.fetchrow(_FIND, name)
        return _placement(row) if row else None

    async def remember(self, wanted: UserDatabase, region: str) -> None:
        """Where the users' table says that it is, though no placement does: a restored or moved database of Usher's."""
        async with postgres.translated():
            values = (wanted.name, wanted.user_id, region, wanted.project, wanted.provider_id)
            await self._pool.execute(_REMEMBER, *values)

    async def reserve(self, wanted: UserDatabase, region: str, projects: list[str]) -> Placement | None:
        """Its place, or one in the emptiest of the projects; None when none has room, or another worker was quicker."""
        async with postgres.translated():
            row = await self._pool.fetchrow(_RESERVE, wanted.name, wanted.user_id, region, projects)
        return _placement(row) if row else None

    async def begin_post(self, placement: Placement, schema_version: int) -> bool:
        """Note that a request to create leaves now; False when creating is paused, or the name placed elsewhere."""
        async with postgres.translated():
            values = (placement.name, placement.project, self._unclear_s, schema_version)
            return bool(await self._pool.fetchval(_BEGIN_POST, *values))

    async def answered(self, placement: Placement) -> None:
        """The request has its answer."""
        async with postgres.translated():
            await self._pool.execute(_ANSWERED, placement.name, placement.project)

    async def made(self, placement: Placement, branch_id: str, region: str, *, answered: bool) -> Placement | None:
        """Its branch is there. `answered`: as the request says, not a look. None when it is placed elsewhere."""
        async with postgres.translated():
            values = (placement.name, placement.project, branch_id, region, int(answered))
            row = await self._pool.fetchrow(_MADE, *values)
        return _placement(row) if row else None

    async def forget_branch(self, placement: Placement) -> None:
        """It is gone from Xata: to be created again."""
        async with postgres.translated():
            await self._pool.execute(_FORGET, placement.name, placement.branch_id)

    async def saw_fault(self, placement: Placement) -> int:
        """How often this branch was seen broken, this time included."""
        async with postgres.translated():
            return int(await self._pool.fetchval(_FAULT, placement.name, placement.branch_id) or 0)

    async def put_aside(self, placement: Placement) -> None:
        """The broken branch has another name now: to be created again."""
        async with postgres.translated():
            await self._pool.execute(_PUT_ASIDE, placement.name, placement.branch_id)

    async def release(self, placement: Placement) -> bool:
        """Give up the project, in which no branch of the name is; False when one might still come to be there."""
        async with postgres.translated():
            values = (placement.name, placement.project, placement.posts)
            return bool(await self._pool.fetchval(_RELEASE, *values))

    async def remove(self, placement: Placement) -> bool:
        """After the deletion; False when a request to create left meanwhile or may still take effect."""
        async with postgres.translated():
            return bool(await self._pool.fetchval(_REMOVE, placement.name, placement.posts))


def _placement(row: asyncpg.Record) -> Placement:
    return Placement(**{**row, "put_aside": tuple(row["put_aside"])})
