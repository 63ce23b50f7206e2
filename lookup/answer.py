"""What the application is told about a user's database. Pure.

In: the row, or none. Out: status, body and headers. The only place that says which state is which status.

    ready, held                       200  it can be used; a held one until `erase_after`
    requested, creating               202  on its way; `reason` says `slow` when it takes unusually long
    quota_blocked, failed             202  not there, and may still come; `reason` says why a page should not wait
    no row                            404  the webhook has not come (yet), or there is no such user
    held and due, deleting, deleted   410  the user is gone
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final, Literal

from lookup.row import Row
from shared.events import format_time

Reason = Literal["slow", "no_room", "failed"]

# From here on a page says "we will write to you" instead of letting somebody look at it.
SLOW_AFTER_S: Final = 60.0
RETRY_FIRST_S: Final = 1
RETRY_SLOW_S: Final = 60
# Longer than the first rungs of the retry ladder, and an operator is no faster.
RETRY_TROUBLE_S: Final = 30
RETRY_DOWN_S: Final = 5


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is the JSON; `code` is set on problems (RFC 9457); `state` is the row's, for log and metrics."""

    status: HTTPStatus
    body: Mapping[str, Any]
    state: str | None = None
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def problem(
    status: HTTPStatus, code: str, *, state: str | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """The answer as RFC 9457 has it: `code` for programs, no prose that could tell too much."""
    body = {"type": "about:blank", "title": status.phrase, "status": int(status), "code": code}
    return Answer(status, body | ({"state": state} if state else {}), state, code, headers or {})


UNAUTHORIZED: Final = problem(HTTPStatus.UNAUTHORIZED, "unauthorized", headers={"WWW-Authenticate": "Bearer"})
BAD_WAIT: Final = problem(HTTPStatus.BAD_REQUEST, "bad_wait")
UNKNOWN_USER: Final = problem(HTTPStatus.NOT_FOUND, "unknown_user")
UNAVAILABLE: Final = problem(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", headers={"Retry-After": str(RETRY_DOWN_S)})


def answer_about(row: Row | None) -> Answer:
    """What is said about this row.

    Raises:
        ValueError: a state that this version does not know.
    """
    if row is None:
        return UNKNOWN_USER
    match row.state:
        case "held" if row.due:
            # Its time has come: the next moment it may be gone.
            return _gone("deleting")
        case "ready" | "held":
            return Answer(HTTPStatus.OK, _location(row), row.state)
        case "requested" | "creating":
            return _on_its_way(row, "slow" if row.age_s >= SLOW_AFTER_S else None)
        case "quota_blocked":
            return _on_its_way(row, "no_room")
        case "failed":
            return _on_its_way(row, "failed")
        case "deleting" | "deleted":
            return _gone(row.state)
        case _:
            raise ValueError(f"state {row.state} has no answer")


def is_enough(row: Row | None) -> bool:
    """Whether waiting on is of no use: it is there, it is gone, or a page should stop to wait.

    No row is worth waiting for: right after a sign-up the webhook is still on its way.
    """
    said = answer_about(row)
    return not (said is UNKNOWN_USER or (said.status is HTTPStatus.ACCEPTED and said.body["reason"] is None))


def _location(row: Row) -> dict[str, Any]:
    return {
        "user_id": row.user_id,
        "state": row.state,
        "provider": row.provider,
        "project": row.project,
        "name": row.name,
        "region": row.region,
        "host": row.host,
        "schema_version": row.schema_version,
        "ready_at": _time(row.ready_at),
        "erase_after": _time(row.erase_after),
    }


def _on_its_way(row: Row, reason: Reason | None) -> Answer:
    body = {
        "user_id": row.user_id,
        "state": row.state,
        "reason": reason,
        "requested_at": _time(row.requested_at),
    }
    retry_after = {"Retry-After": str(_retry_after_s(row.age_s, reason))}
    return Answer(HTTPStatus.ACCEPTED, body, row.state, headers=retry_after)


def _retry_after_s(age_s: float, reason: Reason | None) -> int:
    """A tenth of the time that it has taken so far: who asks so is told of it at most a tenth too late."""
    floor = RETRY_TROUBLE_S if reason in {"no_room", "failed"} else RETRY_FIRST_S
    return round(min(max(age_s / 10, floor), RETRY_SLOW_S))


def _gone(state: str) -> Answer:
    return problem(HTTPStatus.GONE, "gone", state=state)


def _time(moment: datetime | None) -> str | None:
    return format_time(moment) if moment else None
