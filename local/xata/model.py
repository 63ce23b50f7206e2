"""What the stand-in keeps: an organization, its keys, projects and branches. Plain data."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

ALL_SCOPES = frozenset(
    {
        "org:read",
        "project:read",
        "project:write",
        "branch:read",
        "branch:write",
        "credentials:read",
        "credentials:write",
        "metrics:read",
        "keys:read",
        "keys:write",
    }
)
DEFAULT_INACTIVITY_MINUTES = 30
NEW_ORGANIZATION_S = 12 * 3600.0


class StatusType(StrEnum):
    UNSPECIFIED = "STATUS_TYPE_UNSPECIFIED"
    HEALTHY = "STATUS_TYPE_HEALTHY"
    TRANSIENT = "STATUS_TYPE_TRANSIENT"
    FAULT = "STATUS_TYPE_FAULT"
    HIBERNATED = "STATUS_TYPE_HIBERNATED"


@dataclass(slots=True)
class Organization:
    id: str
    name: str = "Usher tests"
    enabled: bool = True
    """False: billing has disabled it."""
    age_s: float = 365 * 24 * 3600.0
    """When the stand-in began."""
    since: float = field(default_factory=time.monotonic)

    @property
    def is_new(self) -> bool:
        return self.age_s + time.monotonic() - self.since < NEW_ORGANIZATION_S


@dataclass(frozen=True, slots=True)
class ApiKey:
    """`projects` and `branches`: what it is limited to; None is no limit."""

    scopes: frozenset[str] = ALL_SCOPES
    organizations: frozenset[str] = frozenset()
    projects: frozenset[str] | None = None
    branches: frozenset[str] | None = None

    def allows(self, scope: str, project: str | None, branch: str | None) -> bool:
        if scope not in self.scopes:
            return False
        if self.projects is not None and project is not None and project not in self.projects:
            return False
        return self.branches is None or branch is None or branch in self.branches


@dataclass(frozen=True, slots=True)
class ScaleToZero:
    enabled: bool = False
    inactivity_minutes: int = DEFAULT_INACTIVITY_MINUTES

    def as_json(self) -> dict[str, Any]:
        return {"enabled": self.enabled, "inactivityPeriodMinutes": self.inactivity_minutes}


@dataclass(slots=True)
class Project:
    id: str
    name: str
    base_branches: ScaleToZero = ScaleToZero()
    child_branches: ScaleToZero = ScaleToZero()
    ip_filtering: dict[str, Any] | None = None
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    updated_at: datetime = field(init=False)
    deleted: bool = False
    branches: dict[str, Branch] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.updated_at = self.created_at

    def live(self) -> list[Branch]:
        return [branch for branch in self.branches.values() if not branch.deleted]


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a branch runs on; a child takes its parent's."""

    region: str
    image: str
    instance_type: str
    replicas: int = 0
    storage_gib: int = 10
    parameters: dict[str, str] = field(default_factory=dict)
    preload: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Branch:
    id: str
    name: str
    project_id: str
    parent_id: str | None
    description: str | None
    depth: int
    cluster: Cluster
    scale_to_zero: ScaleToZero
    backup: dict[str, Any] | None
    password: str = field(repr=False)
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    updated_at: datetime = field(init=False)

    born: float = field(default_factory=time.monotonic)
    doomed: bool = False
    """Ends as FAULT instead of HEALTHY."""
    up: bool = False
    """Its database is there and lets its user in."""
    hibernated: bool = False
    awake_at: float = 0.0
    active_at: float = 0.0
    sessions: int = 0
    forced: StatusType | None = None
    """What a test wants it to say."""
    deleted: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    provisioning: asyncio.Task[None] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.updated_at = self.created_at

    @property
    def database(self) -> str:
        """The name of the real database and of its role."""
        return f"xata_{self.id}"

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.born
