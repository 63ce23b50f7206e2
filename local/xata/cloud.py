"""The organization's projects and branches, and every rule about them, without HTTP and without databases.

Promise: each method checks and changes between two awaits: names stay unique and caps exact however many ask at once.
"""

import re
import secrets
import string
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from local.xata import ids, lifecycle, refusals
from local.xata.behaviour import Behaviour
from local.xata.catalogue import IMAGES, INSTANCE_TYPES, LEGACY_IMAGE, REGIONS, Region
from local.xata.model import Branch, Cluster, Organization, Project, ScaleToZero

MAX_DESCRIPTION_LENGTH: Final = 50
_DESCRIPTION: Final = re.compile(r"[a-zA-Z0-9]+[a-zA-Z0-9- ]*")
_PASSWORD_LENGTH: Final = 32


@dataclass(frozen=True, slots=True)
class Wish:
    """A branch that is asked for; with `parent` it takes the parent's cluster, else it has its own."""

    name: str
    parent: str | None = None
    cluster: Cluster | None = None
    description: str | None = None
    scale_to_zero: ScaleToZero | None = None
    backup: dict[str, Any] | None = None


class Cloud:
    def __init__(self, behaviour: Behaviour, organization: Organization, regions: Iterable[Region] = REGIONS) -> None:
        self.behaviour = behaviour
        self.organization = organization
        self.all_regions = list(regions)
        self.projects: dict[str, Project] = {}
        self.creates: Counter[str] = Counter()
        """How many branches of each name were ever created."""
        self.branches_ever = 0
        self._recent_projects: deque[float] = deque()
        self._recent_branches: dict[str, deque[float]] = {}

    def recall(self, projects: Iterable[Project], creates: Counter[str], branches_ever: int) -> None:
        """Take in what an earlier life knew; the hourly caps begin anew."""
        self.projects.update((project.id, project) for project in projects)
        self.creates.update(creates)
        self.branches_ever = branches_ever

    # Regions

    def regions(self) -> list[Region]:
        mine = (None, self.organization.id)
        return sorted((region for region in self.all_regions if region.owner in mine), key=lambda region: region.id)

    def region(self, name: str) -> Region | None:
        return next((region for region in self.regions() if region.id == name), None)

    # Projects

    def live_projects(self) -> list[Project]:
        return [project for project in self.projects.values() if not project.deleted]

    def project(self, project_id: str) -> Project:
        project = self.projects.get(project_id)
        if project is None or project.deleted:
            raise refusals.project_not_found(project_id)
        return project

    def create_project(self, project: Project) -> Project:
        if not project.name:
            raise refusals.bad_request(f"invalid project name [{project.name}]")
        self._check_project_caps()
        self._check_project_name(project.name)
        self._recent_projects.append(time.monotonic())
        self.projects[project.id] = project
        return project

    def rename_project(self, project: Project, name: str) -> None:
        if name != project.name:
            self._check_project_name(name)
        project.name = name

    def delete_project(self, project_id: str) -> None:
        project = self.projects.get(project_id)
        if project is not None and project.live():
            raise refusals.project_not_empty(project_id)
        # The real one does not look whether it was deleted before.
        if project is None:
            raise refusals.project_not_found(project_id)
        project.deleted = True

    # Branches

    def branches(self) -> list[Branch]:
        return [branch for project in self.projects.values() for branch in project.live()]

    def branch(self, project_id: str, branch_id: str) -> Branch:
        branch = self.project(project_id).branches.get(branch_id)
        if branch is None or branch.deleted:
            raise refusals.branch_not_found(branch_id)
        return branch

    def check_new_organization(self) -> None:
        if self.organization.is_new and self.branches_ever >= self.behaviour.new_organization_max_branches:
            raise refusals.new_organization_limit(self.organization.id)

    def parent(self, project_id: str, parent_id: str) -> Branch:
        branch = self.project(project_id).branches.get(parent_id)
        if branch is None or branch.deleted:
            raise refusals.cluster_not_found(parent_id)
        return branch

    def create_branch(self, project_id: str, wish: Wish) -> Branch:
        """In the order of the real one: caps, then the tree, then the name, then the parent's health."""
        project = self.project(project_id)
        parent = self.parent(project_id, wish.parent) if wish.parent is not None else None
        self._check_branch_caps(project)
        depth = self._depth_below(project, parent)
        self.check_branch_name(project, wish.name)
        if parent is not None and not lifecycle.can_have_children(parent, self.behaviour):
            raise refusals.parent_unhealthy(parent.id)
        branch = self._new_branch(project, wish, parent, depth)
        project.branches[branch.id] = branch
        self.creates[branch.name] += 1
        self.branches_ever += 1
        self._recent(project).append(time.monotonic())
        return branch

    def check_branch_name(self, project: Project, name: str) -> None:
        if any(branch.name == name for branch in project.live()):
            raise refusals.branch_exists(name)

    def _new_branch(self, project: Project, wish: Wish, parent: Branch | None, depth: int) -> Branch:
        default = project.child_branches if parent else project.base_branches
        cluster = parent.cluster if parent else wish.cluster
        if cluster is None:
            raise TypeError("a branch has a parent or a cluster of its own")
        doomed = self.behaviour.faulty_branches > 0
        self.behaviour.faulty_branches -= doomed
        return Branch(
            id=ids.branch_id(),
            name=wish.name,
            project_id=project.id,
            parent_id=parent.id if parent else None,
            description=wish.description,
            depth=depth,
            cluster=Cluster(cluster.region, cluster.image, cluster.instance_type, 0, cluster.storage_gib)
            if parent
            else cluster,
            scale_to_zero=wish.scale_to_zero or default,
            backup=wish.backup,
            password=new_password(),
            doomed=doomed,
        )

    def _check_project_name(self, name: str) -> None:
        if any(project.name == name for project in self.live_projects()):
            raise refusals.project_exists(name)

    def _check_project_caps(self) -> None:
        most = self.behaviour.max_projects_per_hour
        if len(self.live_projects()) >= self.behaviour.max_projects:
            raise refusals.organization_full(self.organization.id, "projects")
        if self._still_recent(self._recent_projects) >= most:
            raise refusals.hourly_cap(self.behaviour.hourly_cap_status, self.organization.id, "projects", most)

    def _check_branch_caps(self, project: Project) -> None:
        behaviour = self.behaviour
        if len(project.live()) >= behaviour.max_branches_per_project:
            raise refusals.too_many_branches(project.id)
        if len(self.branches()) >= behaviour.max_branches_per_organization:
            raise refusals.organization_full(self.organization.id, "branches")
        if self._still_recent(self._recent(project)) >= behaviour.max_branches_per_hour:
            raise refusals.hourly_cap(
                behaviour.hourly_cap_status, self.organization.id, "branches", behaviour.max_branches_per_hour
            )

    def _recent(self, project: Project) -> deque[float]:
        key = project.id if self.behaviour.hourly_cap_scope == "project" else ""
        return self._recent_branches.setdefault(key, deque())

    def _still_recent(self, times: deque[float]) -> int:
        oldest = time.monotonic() - self.behaviour.hour_s
        while times and times[0] <= oldest:
            times.popleft()
        return len(times)

    def _depth_below(self, project: Project, parent: Branch | None) -> int:
        if parent is None:
            return 1
        if parent.depth > 1:
            children = sum(branch.parent_id == parent.id for branch in project.live())
            if parent.depth >= self.behaviour.max_depth:
                raise refusals.too_deep(parent.id, self.behaviour.max_depth)
            if children >= self.behaviour.max_children:
                raise refusals.too_many_children(parent.id, self.behaviour.max_children)
        return parent.depth + 1


def check_description(text: str) -> None:
    if len(text.encode()) > MAX_DESCRIPTION_LENGTH:
        raise refusals.bad_request(f"max length is {MAX_DESCRIPTION_LENGTH}")
    if not _DESCRIPTION.fullmatch(text):
        raise refusals.bad_request(f"description {text} invalid: invalid branch description {text}")


def check_image(name: str) -> str:
    """Raises: ValueError with the reason."""
    if name not in IMAGES and name != LEGACY_IMAGE:
        raise ValueError(f"image {name} is not valid")
    return "postgres:17.5" if name == LEGACY_IMAGE else name


def check_instance_type(name: str) -> None:
    """Raises: ValueError with the reason."""
    if name not in {kind.name for kind in INSTANCE_TYPES}:
        raise ValueError(f"instance type {name} is not found")


def new_password() -> str:
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(_PASSWORD_LENGTH))


def touch(thing: Project | Branch) -> None:
    thing.updated_at = datetime.now(UTC)
