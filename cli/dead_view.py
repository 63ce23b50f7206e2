"""How dead letters are shown and kept: in groups, one by one, whole.

In: letters. Out: tables, or values that JSON can hold. Tables hold ids and reasons only, never what an event says.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from rich.markup import escape
from rich.table import Table

from cli import terminal

if TYPE_CHECKING:
    from cli.dead_letters import DeadLetter
    from cli.redrive import Redriven

SHOWN_STUCK: Final = 10
NOTHING: Final = "-"


def groups_of(letters: Sequence[DeadLetter]) -> list[dict[str, Any]]:
    """One entry per queue, reason and error; `example` is the event id of the oldest."""
    grouped: dict[tuple[str, str, str | None], list[DeadLetter]] = {}
    for letter in letters:
        grouped.setdefault((letter.queue, letter.reason, letter.error), []).append(letter)
    return [
        {
            "queue": queue,
            "reason": reason,
            "error": error,
            "count": len(members),
            "oldest": min(letter.first_failed_at or "" for letter in members) or None,
            "newest": max(letter.first_failed_at or "" for letter in members) or None,
            "example": members[0].event_id,
        }
        for (queue, reason, error), members in grouped.items()
    ]


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
    table = Table("queue", "reason", "count", "oldest", "newest", "error", "an event id")
    for group in groups:
        cells = ("queue", "reason", "count", "oldest", "newest", "error", "example")
        table.add_row(*(escape(str(group[name] if group[name] is not None else NOTHING)) for name in cells))
    if groups:
        terminal.out().print(table)


def print_letters(letters: Sequence[DeadLetter]) -> None:
    """A plain line each, so that ids can be copied and lines searched."""
    for letter in letters:
        where = (letter.first_failed_at, letter.queue, letter.reason, f"attempt {letter.attempt or NOTHING}")
        redrives = f"redriven {letter.redrives}x" if letter.redrives else None
        what = (letter.type, letter.user_id, letter.event_id, redrives)
        print("  ".join(str(part) for part in (*where, *what) if part))


def print_letter(letter: DeadLetter, *, body: bool) -> None:
    table = Table(show_header=False)
    for name, value in letter.as_json().items():
        table.add_row(name, escape(str(value if value is not None else NOTHING)))
    terminal.out().print(table)
    if body:
        terminal.out().print(escape(letter.message.body.decode(errors="replace")), soft_wrap=True)


def print_unseen(unseen: int) -> None:
    if unseen:
        terminal.err().print(f"{unseen} more are in somebody else's hands at the moment: look again later.")


def print_redriven(results: dict[str, Redriven], *, json: bool) -> None:
    stuck = [(queue, *each) for queue, result in results.items() for each in result.stuck]
    done, left = (sum(getattr(result, name) for result in results.values()) for name in ("done", "left"))
    if json:
        terminal.print_json(
            {
                "redriven": done,
                "left": left,
                "stuck": [{"queue": queue, "event_id": event_id, "why": why} for queue, event_id, why in stuck],
                "queues": {queue: result.done for queue, result in results.items()},
            }
        )
        return
    terminal.out().print(f"{done} sent back, {left} left, {len(stuck)} could not be sent back.")
    for queue, event_id, why in stuck[:SHOWN_STUCK]:
        terminal.err().print(escape(f"{queue} {event_id}: {why}"))
    if len(stuck) > SHOWN_STUCK:
        terminal.err().print(f"… and {len(stuck) - SHOWN_STUCK} more")
