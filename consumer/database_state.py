"""The states of a user's database. They carry the wish too: the last three say that the user is gone.

requested → creating → ready → held → deleting → deleted; quota_blocked and failed lead back to creating.
"""

from enum import StrEnum


class State(StrEnum):
    REQUESTED = "requested"
    CREATING = "creating"
    READY = "ready"
    QUOTA_BLOCKED = "quota_blocked"
    FAILED = "failed"
    HELD = "held"
    DELETING = "deleting"
    DELETED = "deleted"
