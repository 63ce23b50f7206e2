"""How dead letters are shown and kept: in groups, one by one, whole.

In: letters. Out: tables, or values that JSON can hold. Tables hold ids and reasons only, never what an event says.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from rich.markup import escape
from rich.table import Table

from cli import terminal

if TYPE_CHECKING:
    from cli.dead_letters import DeadLetter

NOTHING: Final = "-"
# In this order: codes, ids with a prefix, uuids, long words with digits in them, numbers.
_FOLDED: Final = re.compile(
    r"(?P<code>sqlstate=\w+|answered \d{3}\b|HTTP \d{3}\b)"
    r"|\b[A-Za-z]+_(?=\w*\d)\w+"
    r"|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"
    r"|\b(?=[a-z]*\d)[0-9a-z]{10,}\b"
    r"|(?P<number>\d+)"
)


def groups_of(letters: Sequence[DeadLetter]) -> list[dict[str, Any]]:
    """One entry per queue, effect, reason and error; `example` is the id of the oldest.

    Errors that differ in ids and numbers only are one trouble: of those, `error` has the folded form.
    """
    grouped: dict[tuple[str, str | None, str, str | None], list[DeadLetter]] = {}
    for letter in letters:
        key = (letter.queue, letter.effect, letter.reason, folded(letter.error) if letter.error else None)
        grouped.setdefault(key, []).append(letter)
    return [
        {
            "queue": queue,
            "effect": effect,
            "reason": reason,
            "error": members[0].error if len({letter.error for letter in members}) == 1 else error,
            "count": len(members),
            "oldest": min(letter.first_failed_at or "" for letter in members) or None,
            "newest": max(letter.first_failed_at or "" for letter in members) or None,
            "example": members[0].id,
        }
        for (queue, effect, reason, error), members in grouped.items()
    ]


def folded(error: str) -> str:
    """The error without what differs from letter to letter; codes that name the kind of trouble stay.

    >>> folded("PermanentError: there is no database user_2abc after 31 looks at 10.0.0.7:5432")
    'PermanentError: there is no database … after # looks at #.#.#.#:#'
    >>> folded("TransientError: Xata answered 503; ForeignKeyViolationError sqlstate=23503")
    'TransientError: Xata answered 503; ForeignKeyViolationError sqlstate=23503'
    """
    return _FOLDED.sub(lambda found: found["code"] or ("#" if found["number"] else "…"), error)


def whole(letter: DeadLetter) -> dict[str, Any]:
    """Everything, as it can be kept: headers and body too, the body as text or else as base64."""
    message = letter.message
    try:
        body = {"body": message.body.decode()}
    except UnicodeDecodeError:
        body = {"body_base64": base64.b64encode(message.body).decode()}
    return {
        **letter.as_json(),
        "content_type": message.content_type,
        "timestamp": message.timestamp,
        "headers": {name: _plain(value) for name, value in message.headers.items()},
        **body,
    }


def _plain(value: object) -> object:
    """A header's value as JSON can hold it."""
    match value:
        case bytes():
            return value.decode(errors="replace")
        case datetime():
            return value.isoformat()
        case dict():
            return {str(name): _plain(inner) for name, inner in value.items()}
        case list():
            return [_plain(inner) for inner in value]
        case _:
            return value


def print_groups(groups: Sequence[dict[str, Any]]) -> None:
    table = Table("queue", "effect", "reason", "count", "oldest", "newest", "error", "an id")
    for group in groups:
        cells = ("queue", "effect", "reason", "count", "oldest", "newest", "error", "example")
        table.add_row(*(escape(str(group[name] if group[name] is not None else NOTHING)) for name in cells))
    if groups:
        terminal.out().print(table)


def print_letters(letters: Sequence[DeadLetter]) -> None:
    """A plain line each, so that ids can be copied and lines searched."""
    for letter in letters:
        where = (letter.first_failed_at, letter.queue, letter.reason, f"attempt {letter.attempt or NOTHING}")
        redrives = f"redriven {letter.redrives}x" if letter.redrives else None
        what = (letter.type or "no event", letter.user_id, letter.id, redrives)
        print("  ".join(str(part) for part in (*where, *what) if part))


def print_letter(letter: DeadLetter, standing: str | None, *, body: bool) -> None:
    table = Table(show_header=False)
    for name, value in letter.as_json().items():
        if name != "history":
            table.add_row(name, escape(str(value if value is not None else NOTHING)))
    terminal.out().print(table)
    _print_history(letter)
    if standing:
        terminal.out().print(escape(standing), soft_wrap=True)
    if body:
        terminal.out().print(escape(letter.message.body.decode(errors="replace")), soft_wrap=True)


def _print_history(letter: DeadLetter) -> None:
    for failure in letter.history:
        times = f"  ({failure.times} times, the last one then)" if failure.times > 1 else ""
        what = (failure.at or "at a time not known", f"attempt {failure.attempt}", failure.reason, failure.error)
        terminal.out().print(escape("  ".join(part for part in what if part) + times), soft_wrap=True)


def counted(number: int, noun: str) -> str:
    """The number with its noun: `1 dead letter`, `2 dead letters`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def print_unseen(unseen: int) -> None:
    if unseen:
        terminal.err().print(f"{unseen} more are in somebody else's hands at the moment: look again later.")
