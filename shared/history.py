"""The failed attempts of an event, told in one header that every copy takes along.

In: the header as it came, and a failure. Out: the header for the copy. Promise: bounded in number and length, and
reading never fails: what is no history is an empty one.
"""

import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from typing import Final

MAX_FAILURES: Final = 12
MAX_ERROR_CHARS: Final = 100
# Room for all of them, were every character to be written as two \u….
MAX_HISTORY_CHARS: Final = MAX_FAILURES * (12 * MAX_ERROR_CHARS + 100)


@dataclass(frozen=True, slots=True)
class Failure:
    """One attempt that failed; `times` of them in a row did so alike, the last one `at`."""

    at: str | None
    attempt: int
    reason: str
    error: str = ""
    times: int = 1


def noted(history: object, failure: Failure) -> str:
    """The header with one more failure. The first and the latest are kept, and waits in a row are one.

    >>> once = noted(None, Failure("2026-11-20T12:00:00.000Z", 1, "not_yet", "NotYet: held"))
    >>> noted(once, Failure("2026-11-20T14:00:00.000Z", 1, "not_yet", "NotYet: held"))
    '[["2026-11-20T14:00:00.000Z",1,"not_yet","NotYet: held",2]]'
    """
    known = list(failures(history))
    new = replace(failure, error=_shortened(failure.error))
    if known and _alike(known[-1], new):
        known[-1] = replace(new, times=known[-1].times + 1)
    else:
        known.append(new)
    header = _written([*known[:1], *known[1:][-(MAX_FAILURES - 1) :]])
    # Only what somebody else wrote into the header can be longer.
    return header if len(header) <= MAX_HISTORY_CHARS else _written([new])


def failures(history: object) -> tuple[Failure, ...]:
    """What the header tells, the oldest first.

    >>> failures("no history")
    ()
    """
    try:
        entries = json.loads(history) if isinstance(history, str) else []
        return tuple(_failure(*entry) for entry in entries)
    except (ValueError, TypeError, RecursionError):
        return ()


def _failure(at: object, attempt: object, reason: object, error: object, times: object) -> Failure:
    if not isinstance(attempt, int) or not isinstance(times, int):
        raise TypeError("an attempt is a number")
    return Failure(at if isinstance(at, str) else None, attempt, str(reason), str(error), times)


def _alike(one: Failure, other: Failure) -> bool:
    return (one.attempt, one.reason, one.error) == (other.attempt, other.reason, other.error)


def _written(entries: Sequence[Failure]) -> str:
    # ASCII alone: what half a character somebody wrote into the header must be writable again.
    return json.dumps([astuple(entry) for entry in entries], separators=(",", ":"))


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_ERROR_CHARS else f"{text[: MAX_ERROR_CHARS - 1]}…"
