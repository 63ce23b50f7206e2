"""What Xata's answers hold, as far as Usher reads it, and the readers of their JSON.

A reader raises KeyError, TypeError, ValueError or AttributeError when the JSON is not what it should be.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch as lists and creations tell it. Lists leave the description out."""

    id: str
    name: str
    region: str


@dataclass(frozen=True, slots=True)
class BranchState:
    """What only a look at the one branch tells. `status` is its `statusType`."""

    status: str
    description: str | None


@dataclass(frozen=True, slots=True)
class Project:
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class InstanceType:
    name: str
    hourly_rate: float


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps; None where Xata does not tell one."""

    branches_per_project: int | None
    branches_per_hour: int | None
    branches_per_organization: int | None = None
    projects: int | None = None
    projects_per_hour: int | None = None


@dataclass(frozen=True, slots=True)
class Login:
    """How to log in to a branch. Prints without its secrets."""

    username: str
    password: str = field(repr=False)
    hostname: str | None
    port: int | None
    dbname: str | None
    connection_string: str | None = field(repr=False)

    @property
    def host(self) -> str | None:
        """Host and port, without port where it is Postgres's own."""
        if self.hostname is None or self.port in {None, 5432}:
            return self.hostname
        return f"{self.hostname}:{self.port}"


def each(name: str, reader: Callable[[Any], T]) -> Callable[[Any], list[T]]:
    return lambda body: [reader(item) for item in body[name]]


def nothing(_body: object) -> None:
    """For answers whose body says nothing."""


def branch(item: Any) -> Branch:
    return Branch(_text(item["id"]), _text(item["name"]), _text(item["region"]))


def branch_state(body: Any) -> BranchState:
    return BranchState(_text(body["status"]["statusType"]), body.get("description"))


def project(item: Any) -> Project:
    return Project(_text(item["id"]), _text(item["name"]))


def login(body: Any) -> Login:
    return Login(
        _text(body["username"]),
        _text(body["password"]),
        _text_or_none(body.get("hostname")),
        _number_or_none(body.get("port")),
        _text_or_none(body.get("dbname")),
        _text_or_none(body.get("connectionString")),
    )


def limits(body: Any) -> Limits:
    def cap(*names: str) -> int | None:
        return next((int(body[name]) for name in names if body.get(name) is not None), None)

    return Limits(
        branches_per_project=cap("maxBranchesPerProject", "maxBranches"),
        branches_per_hour=cap("maxBranchesPerHour"),
        branches_per_organization=cap("maxBranchesPerOrg"),
        projects=cap("maxProjects"),
        projects_per_hour=cap("maxProjectsPerHour"),
    )


def scale_to_zero(minutes: int | None) -> dict[str, Any]:
    return {"enabled": minutes is not None, "inactivityPeriodMinutes": minutes or 30}


def _version(item: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", str(item.get("fullVersion") or item["majorVersion"])))


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("no text")
    return value


def _text_or_none(value: Any) -> str | None:
    return None if value is None else _text(value)


def _number_or_none(value: Any) -> int | None:
    return None if value is None else int(value)


def image(item: Any) -> tuple[tuple[int, ...], str]:
    """Its version and name."""
    return _version(item), _text(item["name"])


def instance_type(item: Any) -> InstanceType:
    return InstanceType(_text(item["name"]), float(item["hourlyRate"]))


def region(item: Any) -> str:
    return _text(item["id"])
