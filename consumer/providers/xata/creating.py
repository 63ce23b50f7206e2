"""One branch, created or adopted: everything between a placement and a branch id.

Promise: whatever becomes of the request to create, the truth is found by listing; a name moves to another project only
when it is certain not to come to be in the former one. A kill anywhere goes on from the placement.
"""

from __future__ import annotations

from typing import Final

import structlog

from consumer.providers.xata.answers import (
    AlreadyThereError,
    NotFoundError,
    ProjectFullError,
    UnclearError,
)
from consumer.providers.xata.api import XataApi
from consumer.providers.xata.bodies import Branch
from consumer.providers.xata.pace import Pace
from consumer.providers.xata.placements import Placement, Placements
from consumer.providers.xata.projects import Projects
from consumer.providers.xata.templates import Templates
from shared.errors import DependencyDown, EffectError, NotYet, PermanentError

log = structlog.get_logger()

BUSY_RETRY_S: Final = 2.0
MARK: Final = "usher "
MAX_DESCRIPTION: Final = 50


class Creating:
    def __init__(
        self,
        api: XataApi,
        pace: Pace,
        projects: Projects,
        placements: Placements,
        templates: Templates,
        *,
        sleep_after_minutes: int | None,
    ) -> None:
        self._api = api
        self._pace = pace
        self._projects = projects
        self._placements = placements
        self._templates = templates
        self._sleep_after_minutes = sleep_after_minutes

    async def known_or_created(self, placement: Placement) -> tuple[Branch, Placement | None]:
        """The placement's branch, which may not be up yet; and the placement as it is then.

        Raises:
            NotYet, QuotaBlocked, DependencyDown: go on at the next delivery.
            PermanentError: a branch of that name is a stranger's, or Xata refuses it for good.
        """
        if placement.branch_id is not None:
            return Branch(placement.branch_id, placement.name, placement.region), placement
        # Begun before: perhaps it is there, whatever became of that request.
        branch, answered = await self._listed(placement) if placement.posts else None, False
        if branch is None:
            branch, answered = await self._created(placement)
        made = await self._placements.made(placement, branch.id, branch.region, answered=answered)
        if branch.region != placement.region:
            log.warning("xata_branch_in_another_region", name=branch.name, region=branch.region)
        return branch, made

    async def _created(self, placement: Placement) -> tuple[Branch, bool]:
        """And whether the request has an answer that is still to be noted."""
        if not self._templates.known(placement.project, placement.region):
            await self._pace.creating_allowed()  # the template may have to be created first
        origin = await self._templates.origin(placement.project, placement.region)
        claim = await self._pace.claim("branch", await self._projects.hourly_cap())
        if not await self._placements.begin_post(placement, origin.schema_version):
            await self._pace.refund(claim)
            await self._pace.creating_allowed()
            raise NotYet("the branch was given another project", BUSY_RETRY_S)
        try:
            branch = await self._api.create_branch(
                placement.project,
                placement.name,
                description(placement.name),
                origin.body,
                sleep_after_minutes=self._sleep_after_minutes,
            )
        except UnclearError as unclear:
            return await self._after_unclear(placement, unclear), False
        except EffectError as refused:
            await self._placements.answered(placement)
            await self._pace.refund(claim)
            return await self._after_refusal(placement, refused), False
        return branch, True

    async def _after_unclear(self, placement: Placement, unclear: UnclearError) -> Branch:
        """Look. Without the server's word it stays unanswered in the row: it may take effect even after this look."""
        if unclear.ended:
            await self._placements.answered(placement)
        if unclear.retry_after_s is not None:
            await self._pace.pause_creating(unclear.retry_after_s)
        found = await self._listed(placement)
        if found is None:
            raise unclear
        return found

    async def _after_refusal(self, placement: Placement, refused: EffectError) -> Branch:
        """Nothing was created: adopt what is there, or raise what it means."""
        match refused:
            case AlreadyThereError():
                found = await self._listed(placement)
                if found is not None:
                    return found
                raise NotYet("Xata has the name but does not list it", BUSY_RETRY_S) from refused
            case ProjectFullError():
                await self._give_project_up(placement)
                raise NotYet("its project is full: on to the next one", BUSY_RETRY_S) from refused
            case NotFoundError():
                self._templates.forget(placement.project, placement.region)
                advice = f"XATA_PROJECTS OR XATA_TEMPLATES: {placement.project} OR ITS TEMPLATE IS GONE"
                raise DependencyDown(f"{advice} ({refused})") from refused
            case NotYet() if "not healthy" in str(refused):
                await self._templates.wake(placement.project, placement.region)
            case _:
                pass
        raise refused

    async def _give_project_up(self, placement: Placement) -> None:
        log.info("xata_project_full", project=placement.project)
        now = await self._placements.find(placement.name)
        if now is not None and now.project == placement.project:
            await self._projects.full(now)

    async def _listed(self, placement: Placement) -> Branch | None:
        """The branch of that name in its project.

        Raises:
            PermanentError: it is there and is not ours.
        """
        for branch in await self._api.branches(placement.project):
            if branch.name != placement.name:
                continue
            if not await is_ours(self._api, placement.project, branch):
                raise PermanentError(
                    f"a branch {branch.name} is there and is not Usher's: rename or delete it, then redrive"
                )
            log.info("xata_branch_adopted", name=branch.name, provider_id=branch.id)
            return branch
        return None


def description(name: str) -> str:
    """Our mark and whose it is. An underscore is not allowed there, so only what follows the name's.

    >>> description("user_2abc")
    'usher 2abc'
    """
    return f"{MARK}{name.partition('_')[2]}"[:MAX_DESCRIPTION]


async def is_ours(api: XataApi, project: str, branch: Branch) -> bool:
    """Our mark, or none: a user's name in our projects is ours unless its description says otherwise."""
    try:
        marked = (await api.state(project, branch.id)).description
    except NotFoundError:
        return True  # so new that only the list has it
    return not marked or marked.startswith(MARK)
