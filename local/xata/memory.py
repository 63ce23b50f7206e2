"""What the stand-in keeps from life to life: projects, branches with their passwords, keys, how often each was made.

Promise: what an answer says is in the file before the answer leaves, and the file is always whole: kill -9 loses
nothing that anybody was told. Delays, limits, faults and the record of requests are as at the beginning.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from local.env import replace_private
from local.errors import ServerError
from local.xata.cloud import Cloud
from local.xata.model import ApiKey, Branch, Cluster, Project, ScaleToZero

_VERSION: Final = 1
_BRANCH_FIELDS: Final = (
    *("id", "name", "project_id", "parent_id", "description", "depth"),
    *("backup", "password", "doomed", "up", "hibernated"),
)


class Memory:
    """`path` None: nothing is kept. `api_key` and `organization`: of the last life; None in the first."""

    def __init__(self, path: Path | None) -> None:
        """Raises: ServerError: what is there cannot be read."""
        self._path = path
        self._last: dict[str, Any] = {} if path is None else _read(path)
        self.api_key: str | None = self._last.get("api_key")
        self.organization: str | None = self._last.get("organization", {}).get("id")

    @property
    def keeps(self) -> bool:
        return self._path is not None

    def recall(self, cloud: Cloud, keys: dict[str, ApiKey]) -> list[Branch]:
        """Fill in what the last life knew; the branches of it, parents before their children."""
        if not self._last:
            return []
        for key, limits in self._last["keys"].items():
            # The first key is the one that this life was given.
            if key != self.api_key:
                keys.setdefault(key, _key(limits))
        organization = self._last["organization"]
        cloud.organization.enabled, cloud.organization.age_s = organization["enabled"], organization["age_s"]
        cloud.organization.age_s += _age_s(self._last["at"])
        cloud.recall(map(_project, self._last["projects"]), Counter(self._last["creates"]), self._last["branches_ever"])
        return sorted(cloud.branches(), key=lambda branch: branch.depth)

    def save(self, cloud: Cloud, keys: dict[str, ApiKey], api_key: str) -> None:
        """Raises: ServerError: it cannot be written."""
        if self._path is None:
            return
        organization = cloud.organization
        age_s = organization.age_s + time.monotonic() - organization.since
        state = {
            "version": _VERSION,
            "at": datetime.now(UTC).isoformat(),
            "api_key": api_key,
            "organization": {"id": organization.id, "enabled": organization.enabled, "age_s": age_s},
            "keys": {key: {name: _list(value) for name, value in _fields(limits)} for key, limits in keys.items()},
            "projects": [_project_state(project) for project in cloud.projects.values()],
            "creates": dict(cloud.creates),
            "branches_ever": cloud.branches_ever,
        }
        try:
            replace_private(self._path, json.dumps(state) + "\n")
        except OSError as error:
            advice = "the stand-in keeps its state there, name a file in a folder that it can write to"
            raise ServerError(f"{self._path} cannot be written ({error.strerror}): {advice}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ServerError(f"{path} cannot be read ({error}): move it away, and the stand-in begins anew") from error
    if not isinstance(state, dict) or state.get("version") != _VERSION:
        raise ServerError(f"{path} is no state of this stand-in: move it away, and it begins anew")
    return state


def _project_state(project: Project) -> dict[str, Any]:
    """Deleted projects too, since the API tells them from those that never were; of branches only the live ones."""
    return {
        "id": project.id,
        "name": project.name,
        "base_branches": asdict(project.base_branches),
        "child_branches": asdict(project.child_branches),
        "ip_filtering": project.ip_filtering,
        "deleted": project.deleted,
        **_moments(project),
        "branches": [_branch_state(branch) for branch in project.live()],
    }


def _branch_state(branch: Branch) -> dict[str, Any]:
    return {
        **{name: getattr(branch, name) for name in _BRANCH_FIELDS},
        "cluster": asdict(branch.cluster),
        "scale_to_zero": asdict(branch.scale_to_zero),
        **_moments(branch),
    }


def _project(state: dict[str, Any]) -> Project:
    branches = [_branch(each) for each in state["branches"]]
    project = Project(
        id=state["id"],
        name=state["name"],
        base_branches=ScaleToZero(**state["base_branches"]),
        child_branches=ScaleToZero(**state["child_branches"]),
        ip_filtering=state["ip_filtering"],
        created_at=datetime.fromisoformat(state["created_at"]),
        deleted=state["deleted"],
        branches={branch.id: branch for branch in branches},
    )
    project.updated_at = datetime.fromisoformat(state["updated_at"])
    return project


def _branch(state: dict[str, Any]) -> Branch:
    cluster = state["cluster"]
    branch = Branch(
        **{name: state[name] for name in _BRANCH_FIELDS},
        cluster=Cluster(**{**cluster, "preload": tuple(cluster["preload"])}),
        scale_to_zero=ScaleToZero(**state["scale_to_zero"]),
        created_at=datetime.fromisoformat(state["created_at"]),
        # What was ready is so at once, whatever the delays are now; what was not has waited meanwhile.
        born=float("-inf") if state["up"] else time.monotonic() - _age_s(state["created_at"]),
        active_at=time.monotonic(),
    )
    branch.updated_at = datetime.fromisoformat(state["updated_at"])
    return branch


def _moments(thing: Project | Branch) -> dict[str, str]:
    return {"created_at": thing.created_at.isoformat(), "updated_at": thing.updated_at.isoformat()}


def _age_s(moment: str) -> float:
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())


def _fields(limits: ApiKey) -> list[tuple[str, frozenset[str] | None]]:
    return [(name, getattr(limits, name)) for name in ("scopes", "organizations", "projects", "branches")]


def _list(value: frozenset[str] | None) -> list[str] | None:
    return None if value is None else sorted(value)


def _key(limits: dict[str, list[str] | None]) -> ApiKey:
    sets: dict[str, Any] = {name: None if value is None else frozenset(value) for name, value in limits.items()}
    return ApiKey(**sets)
