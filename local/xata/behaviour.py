"""How the stand-in behaves: its delays, its limits, and what is switched off. Every field may be set at any time."""

import math
from dataclasses import dataclass, fields
from typing import Any, Literal


@dataclass(slots=True)
class Behaviour:
    """Delays count from a branch's creation. `math.inf` (null over HTTP) is never."""

    visible_after_s: float = 0.05
    """Until then GET of the branch is 404 (`Branch [b]: not found`), as while the cluster is not in the cell yet."""
    hibernated_at_first_s: float = 0.0
    """How long after that it says STATUS_TYPE_HIBERNATED without instances, as the source does before the cluster is
    there (DescribePostgresCluster's default); it is not ready then, whatever the word says."""
    credentials_after_s: float = 0.15
    """Until then GET of the credentials is 404."""
    healthy_after_s: float = 0.3
    """Until then STATUS_TYPE_TRANSIENT, and nobody can log in."""
    wake_s: float = 0.2
    """From PATCH {"hibernate": false} to healthy."""
    minute_s: float = 60.0
    """How long one of scaleToZero's inactivityPeriodMinutes lasts here."""
    hour_s: float = 3600.0
    """How long the hour of the hourly caps lasts here."""

    max_projects: int = 100
    max_projects_per_hour: int = 1000
    max_branches_per_project: int = 100
    max_branches_per_organization: int = 10_000
    max_branches_per_hour: int = 10_000
    hourly_cap_scope: Literal["organization", "project"] = "organization"
    hourly_cap_status: int = 429
    """Inferred; the real one is not published."""
    new_organization_max_branches: int = 10
    """While the organization is younger than 12 h; counts deleted ones too."""
    max_depth: int = 50
    max_children: int = 100
    """Of branches that are children themselves; roots have no limit."""
    requests_per_window: int | None = None
    """The gateway answers 429 beyond it."""
    rate_window_s: float = 60.0
    rate_limit_tells_when: bool = True
    """Whether that 429 has Retry-After."""

    branch_creation_disabled: bool = False
    child_branch_creation_disabled: bool = False
    updates_forbidden: bool = False
    """PATCH of a branch's cluster is 403."""
    conflicting_updates: int = 0
    """That many PATCHes of a branch's cluster are 409 `was modified concurrently`."""
    faulty_branches: int = 0
    """That many of the next branches end as STATUS_TYPE_FAULT."""
    hibernated_parent_is_healthy: bool = False
    """Otherwise a child of a hibernated parent is 412, until it is woken."""
    connection_string_is_null: bool = False
    """Otherwise the deprecated one is given once there are credentials; its host does not exist, as announced."""
    username_is_required: bool = True
    """`?username=xata` of the credentials: required by the published source, optional since."""
    unknown_fields_are_refused: bool = False
    """The published source ignores them (and the record notes them); then 400 `invalid key [x] in request`."""

    def as_json(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: None if value == math.inf else value for name, value in values.items()}

    def update(self, **changes: Any) -> None:
        """All of them or none.

        Raises: KeyError for a name that is no field; TypeError or ValueError for a value that cannot be one.
        """
        kinds = {field.name: type(getattr(Behaviour(), field.name)) for field in fields(self)}
        fitting = {name: _fitting(kinds[name], name, value) for name, value in changes.items()}
        if fitting.get("hourly_cap_scope", "project") not in {"organization", "project"}:
            raise ValueError("hourly_cap_scope is organization or project")
        for name, value in fitting.items():
            setattr(self, name, value)


def _fitting(kind: type, name: str, value: Any) -> Any:
    if kind is float:
        if value is None:
            return math.inf
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{name} is a number of seconds, or null for never")
        return float(value)
    if kind is type(None):
        kind = int
        if value is None:
            return None
    if type(value) is not kind:
        raise TypeError(f"{name} is a {kind.__name__}")
    return value
