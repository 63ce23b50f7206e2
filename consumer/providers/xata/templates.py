"""What a user's branch is made from: a copy of its region's template, or a branch of its own (`custom`).

A parent must be in the same project as its child, so every project of the pool has templates of its own: by name they
are made where they are missing, by id they only serve the project that has them.
Promise: `origin` returns only what a creation can begin with now; else it waits (`NotYet`).
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from consumer.providers import schema
from consumer.providers.xata.answers import AlreadyThereError, NotFoundError, UnclearError
from consumer.providers.xata.api import XataApi
from consumer.providers.xata.bodies import Branch
from consumer.providers.xata.configuration import BranchWishes
from consumer.providers.xata.login import connection_url, host_of
from shared.errors import DependencyDown, NotYet, PermanentError
from shared.migrations import Migration

log = structlog.get_logger()

HEALTHY: Final = "STATUS_TYPE_HEALTHY"
USABLE: Final = frozenset({HEALTHY, "STATUS_TYPE_HIBERNATED"})
FAULT: Final = "STATUS_TYPE_FAULT"
RETRY_S: Final = 5.0
# The mark on templates that Usher made: those it also keeps migrated.
MADE_BY_USHER: Final = "usher template"
_ID: Final = re.compile(r"[a-v][0-9a-v]{25}")


@dataclass(frozen=True, slots=True)
class Origin:
    """What `create_branch` needs to know, and the schema that the branch is born with; 0: not known."""

    body: dict[str, Any]
    schema_version: int = 0


class Templates:
    """Remembers which templates were found usable, and what Xata offers, for as long as the process lives."""

    def __init__(self, api: XataApi, wishes: BranchWishes, *, migrations: Sequence[Migration], api_url: str) -> None:
        self._api = api
        self._wishes = wishes
        self._wanted = wishes.templates
        self._migrations = tuple(migrations)
        self._api_url = api_url
        self._usable: dict[tuple[str, str], tuple[str, int]] = {}
        self._custom_by_region: dict[str, dict[str, Any]] = {}
        self._locks: defaultdict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)

    def lacking(self, branches: Iterable[Branch]) -> list[str]:
        """Regions in which a project with these branches has no template and cannot get one."""
        listed = list(branches)
        return [
            region for region, names in self._wanted.items() if not _find(names, listed) and _name_of(names) is None
        ]

    def to_make(self, branches: Iterable[Branch]) -> int:
        """How many templates a project with these branches still gets: their places are taken."""
        listed = list(branches)
        return sum(1 for names in self._wanted.values() if not _find(names, listed) and _name_of(names) is not None)

    def known(self, project: str, region: str) -> bool:
        """Whether `origin` has nothing to ask Xata for."""
        return (project, region) in self._usable or (region not in self._wanted and region in self._custom_by_region)

    async def origin(self, project: str, region: str) -> Origin:
        """What a creation begins with.

        Raises:
            NotYet: the template is still being made.
        """
        if region not in self._wanted:
            async with self._locks["", region]:
                return Origin(await self._custom(region))
        async with self._locks[project, region]:
            usable = self._usable.get((project, region))
            if usable is None:
                usable = self._usable[project, region] = await self._make_usable(project, region)
        parent, schema_version = usable
        return Origin({"mode": "inherit", "parentID": parent}, schema_version)

    async def wake(self, project: str, region: str) -> None:
        """It is said not to be healthy: asleep perhaps, or gone."""
        usable = self._usable.pop((project, region), None)
        if usable is not None:
            log.info("xata_template_woken", project=project, region=region)
            await self._api.wake_branch(project, usable[0])

    def forget(self, project: str, region: str) -> None:
        self._usable.pop((project, region), None)

    async def _make_usable(self, project: str, region: str) -> tuple[str, int]:
        """Its id and schema version; 0 for those whose schema is not Usher's to know."""
        names = self._wanted[region]
        template = _find(names, await self._api.branches(project))
        if template is None:
            await self._make(project, region, _name_of(names))
            raise NotYet(f"the template of {region} is being made", RETRY_S)
        version = await self._brought_up_to_date(project, template) if template.name in names else 0
        return template.id, version

    async def _make(self, project: str, region: str, name: str | None) -> None:
        if name is None:
            raise DependencyDown(f"XATA_TEMPLATES: PROJECT {project} HAS NO TEMPLATE FOR {region}")
        try:
            await self._api.create_branch(
                project,
                name,
                MADE_BY_USHER,
                await self._custom(region),
                sleep_after_minutes=self._wishes.sleep_after_minutes,
            )
        except (AlreadyThereError, UnclearError) as error:
            # Another copy was quicker, or nobody knows: the list tells next time, and a name is there only once.
            log.info("xata_template_unclear", project=project, region=region, error=type(error).__name__)
        else:
            log.info("xata_template_made", project=project, region=region, name=name)

    async def _brought_up_to_date(self, project: str, template: Branch) -> int:
        """Those that Usher made: up and migrated. Others are left as they are."""
        try:
            state = await self._api.state(project, template.id)
            if state.description != MADE_BY_USHER:
                return 0
            if state.status == FAULT:
                raise DependencyDown(f"XATA TEMPLATE {template.name} OF PROJECT {project} IS BROKEN: delete it there")
            if state.status not in USABLE:
                raise NotYet(f"the template {template.name} is not ready: {state.status}", RETRY_S)
            login = await self._api.login(project, template.id)
        except NotFoundError as error:
            raise NotYet(f"the template {template.name} is not there yet", RETRY_S) from error
        try:
            host = host_of(template.id, template.region, self._api_url)
            return await schema.migrate(connection_url(login, host), self._migrations)
        except PermanentError as error:
            raise DependencyDown(f"XATA TEMPLATE {template.name} OF PROJECT {project}: {error}") from error
        except DependencyDown as error:
            raise NotYet(f"the template {template.name} does not answer yet", RETRY_S) from error

    async def _custom(self, region: str) -> dict[str, Any]:
        origin = self._custom_by_region.get(region)
        if origin is None:
            image = self._wishes.image or next(iter(await self._api.images(region)), None)
            kinds = () if self._wishes.instance_type else await self._api.instance_types(region)
            instance_type = self._wishes.instance_type or next((kind.name for kind in kinds), None)
            if image is None or instance_type is None:
                raise DependencyDown(f"XATA OFFERS NO IMAGE OR NO INSTANCE TYPE IN {region}: choose other regions")
            configuration = {"region": region, "image": image, "instanceType": instance_type, "replicas": 0}
            origin = self._custom_by_region[region] = {"mode": "custom", "configuration": configuration}
        return origin


def _find(names: Sequence[str], branches: Iterable[Branch]) -> Branch | None:
    return next((branch for branch in branches if branch.id in names or branch.name in names), None)


def _name_of(names: Sequence[str]) -> str | None:
    """The name under which a missing template may be made; None when all are ids."""
    return next((name for name in names if not _ID.fullmatch(name)), None)
