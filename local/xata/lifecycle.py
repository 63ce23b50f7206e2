"""A branch's life as its status tells it: not visible, transient, healthy, hibernated, faulty."""

import time
from dataclasses import dataclass
from typing import Any, Final

from local.xata.behaviour import Behaviour
from local.xata.model import Branch, StatusType

# The phases of CloudNativePG, which the API hands through.
_HEALTHY: Final = "Cluster in healthy state"
_FIRST_PRIMARY: Final = "Setting up primary"
_WAKING: Final = "Waiting for the instances to become active"
_BROKEN: Final = "Unable to create required cluster objects"
_FORCED: Final = {
    StatusType.UNSPECIFIED: "unknown",
    StatusType.HEALTHY: _HEALTHY,
    StatusType.TRANSIENT: _WAKING,
    StatusType.FAULT: _BROKEN,
    StatusType.HIBERNATED: _HEALTHY,
}


@dataclass(frozen=True, slots=True)
class Status:
    text: str
    type: StatusType
    instances: int
    ready: int


def visible(branch: Branch, behaviour: Behaviour) -> bool:
    return branch.age_s >= behaviour.visible_after_s


def has_credentials(branch: Branch, behaviour: Behaviour) -> bool:
    return branch.age_s >= behaviour.credentials_after_s


def status(branch: Branch, behaviour: Behaviour) -> Status:
    count = branch.cluster.replicas + 1
    if branch.forced is not None:
        ready = count if branch.forced is StatusType.HEALTHY else 0
        return Status(_FORCED[branch.forced], branch.forced, count, ready)
    if branch.age_s < behaviour.visible_after_s + behaviour.hibernated_at_first_s:
        return Status(_HEALTHY, StatusType.HIBERNATED, 0, 0)
    if branch.doomed and branch.age_s >= behaviour.healthy_after_s:
        return Status(_BROKEN, StatusType.FAULT, count, 0)
    if not branch.up:
        return Status(_FIRST_PRIMARY, StatusType.TRANSIENT, count, 0)
    if branch.hibernated:
        return Status(_HEALTHY, StatusType.HIBERNATED, count, 0)
    if time.monotonic() < branch.awake_at:
        return Status(_WAKING, StatusType.TRANSIENT, count, 0)
    return Status(_HEALTHY, StatusType.HEALTHY, count, count)


def can_have_children(branch: Branch, behaviour: Behaviour) -> bool:
    now = status(branch, behaviour).type
    return now is StatusType.HEALTHY or (now is StatusType.HIBERNATED and behaviour.hibernated_parent_is_healthy)


def fall_asleep_when_idle(branch: Branch, behaviour: Behaviour, *, connected: int, sessions: int) -> None:
    """Take in how many are connected and how many ever were: a connection wakes it, a while without lets it sleep."""
    now = time.monotonic()
    if connected or sessions > branch.sessions:
        branch.sessions = sessions
        branch.active_at = now
        branch.hibernated = False
    idle_s = branch.scale_to_zero.inactivity_minutes * behaviour.minute_s
    if branch.up and branch.scale_to_zero.enabled and now - max(branch.active_at, branch.awake_at) >= idle_s:
        branch.hibernated = True


def wake(branch: Branch, behaviour: Behaviour) -> None:
    if branch.hibernated:
        branch.hibernated = False
        branch.awake_at = time.monotonic() + behaviour.wake_s


def status_answer(branch: Branch, behaviour: Behaviour) -> dict[str, Any]:
    now = status(branch, behaviour)
    word = "Unknown" if now.ready == 0 else "healthy"
    return {
        "status": now.text,
        "statusType": now.type.value,
        "message": now.text,
        "instanceCount": now.instances,
        "instanceReadyCount": now.ready,
        "instances": [
            {"id": f"{branch.id}-{number}", "status": word, "primary": number == 1, "targetPrimary": number == 1}
            for number in range(1, now.instances + 1)
        ],
    }
