"""From a branch that was created to a database that answers and carries the schema, or to the reason why it does not.

Promise: a worker looks for a few seconds, then the retry ladder waits; how long in all is counted from the request in
the placement, so that it survives restarts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from consumer.providers import schema
from consumer.providers.xata.answers import NotFoundError
from consumer.providers.xata.api import XataApi
from consumer.providers.xata.bodies import Login
from consumer.providers.xata.configuration import Waiting
from consumer.providers.xata.metrics import XataMetrics
from consumer.providers.xata.placements import Placement, Placements
from consumer.providers.xata.templates import FAULT, HEALTHY, USABLE
from shared.errors import DependencyDown, NotYet, PermanentError, TransientError
from shared.migrations import Migration

log = structlog.get_logger()

# Put aside, a broken branch is called <name>-fault-1, so that the name is free for the next.
ASIDE: Final = "-fault-"
# Who waits for a branch looks again sooner the younger it is.
_LOOK_AGAIN_S: Final = ((60.0, 5.0), (600.0, 30.0))
_LOOK_AGAIN_LATE_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a branch has been waited for; without a placement its age is not known, and patience is at its end."""

    placement: Placement | None

    def over(self, limit_s: float) -> bool:
        return self.placement is None or self.placement.age_s > limit_s

    @property
    def look_again_s(self) -> float:
        age_s = self.placement.age_s if self.placement else 0.0
        return next((pause_s for younger_s, pause_s in _LOOK_AGAIN_S if age_s < younger_s), _LOOK_AGAIN_LATE_S)


class Readiness:
    def __init__(
        self,
        api: XataApi,
        placements: Placements,
        metrics: XataMetrics,
        waiting: Waiting,
        migrations: Sequence[Migration],
    ) -> None:
        self._api = api
        self._placements = placements
        self._metrics = metrics
        self._waiting = waiting
        self._migrations = tuple(migrations)

    def born_with(self, branch_id: str, placement: Placement | None, status: str) -> int | None:
        """The schema version that a healthy branch has from its template, where that is all of it."""
        known = placement is not None and placement.branch_id == branch_id and status == HEALTHY
        version = placement.schema_version if placement and known else 0
        newest = max((migration.version for migration in self._migrations), default=0)
        return version if version and version >= newest else None

    async def login(self, project: str, branch_id: str, patience: Patience) -> tuple[Login, str]:
        """How to log in, once it is healthy; and as what it was seen: a sleeping one may not have been up yet.

        Raises:
            NotYet: not yet, or not visible yet.
            TransientError: it is broken, gone, or far too late: something is wrong with it.
            PermanentError: Xata could not make it, several times.
        """
        try:
            status = await self._until_healthy(project, branch_id, patience)
            return await self._api.login(project, branch_id), status
        except NotFoundError as error:
            if not patience.over(self._waiting.visible_s):
                raise NotYet("the branch is not visible yet", patience.look_again_s) from error
            await self._forget_when_gone(branch_id, patience.placement)
            raise TransientError(f"branch {branch_id} is not to be found ({error})") from error

    async def migrated(self, url: str, patience: Patience) -> int:
        """Its schema version, brought up to date."""
        try:
            return await schema.migrate(url, self._migrations)
        except DependencyDown as error:
            # One user's database that does not answer is no outage: it wakes up, or its name is not known yet.
            if patience.over(self._waiting.ready_s):
                raise TransientError(f"the branch does not take connections: {error}") from error
            raise NotYet("the branch does not take connections yet", patience.look_again_s) from error

    async def _until_healthy(self, project: str, branch_id: str, patience: Patience) -> str:
        for pause_s in (*self._waiting.polls_s, None):
            try:
                status = (await self._api.state(project, branch_id)).status
            except NotFoundError:
                if pause_s is None or patience.over(self._waiting.visible_s):
                    raise
                status = "not visible"
            if status in USABLE:
                return status
            if status == FAULT:
                await self._report_fault(project, branch_id, patience.placement)
            if pause_s is not None:
                await asyncio.sleep(pause_s)
        if patience.over(self._waiting.ready_s):
            raise TransientError(f"branch {branch_id} is not ready after {self._waiting.ready_s:.0f} s")
        raise NotYet("Xata is still at the branch", patience.look_again_s)

    async def _report_fault(self, project: str, branch_id: str, placement: Placement | None) -> None:
        """Always raises: try again, with another branch when this one stays broken, and not for ever."""
        self._metrics.faults.inc()
        looks = await self._placements.saw_fault(placement) if placement else self._waiting.looks_at_fault
        aside = placement.put_aside if placement else ()
        log.error("xata_branch_fault", provider_id=branch_id, project=project, looks=looks, put_aside=len(aside))
        if looks >= self._waiting.looks_at_fault:
            if placement is None or len(aside) >= self._waiting.branches_put_aside:
                kept = ", ".join((*aside, branch_id))
                raise PermanentError(f"FAULT: Xata could not make the branch; kept for inspection: {kept}")
            await self._api.rename_branch(project, branch_id, f"{placement.name}{ASIDE}{len(aside) + 1}")
            await self._placements.put_aside(placement)
        raise TransientError(f"FAULT: branch {branch_id} is broken, seen {looks} times; kept for inspection")

    async def _forget_when_gone(self, branch_id: str, placement: Placement | None) -> None:
        """Not to be seen for long: when it is not listed either, it is gone, and the next creation makes another."""
        if placement is None or placement.branch_id != branch_id:
            return
        if not any(branch.id == branch_id for branch in await self._api.branches(placement.project)):
            log.error("xata_branch_gone", user_id=placement.user_id, provider_id=branch_id)
            await self._placements.forget_branch(placement)
