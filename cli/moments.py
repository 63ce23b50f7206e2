"""Moments as an operator writes them: `2h` ago, a time of the clock, `first`, `now`, `offset:123`."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import typer

if TYPE_CHECKING:
    from cli.log_stream import Offset

HOW: Final = "how long ago (90s, 30m, 2h, 7d), or a time with its offset (2026-11-20T14:30Z)"
OFFSET: Final = "offset:"


def moment(text: str, option: str) -> datetime:
    """The moment that `text` means.

    Raises:
        typer.BadParameter: it means none.
    """
    from shared.durations import parse_duration

    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        try:
            return datetime.now(UTC) - parse_duration(text)
        except ValueError as error:
            raise typer.BadParameter(f"{text!r} is no moment: write {HOW}", param_hint=option) from error
    if at.tzinfo is None:
        raise typer.BadParameter(f"{text!r} does not say in which time zone: write {text}Z for UTC", param_hint=option)
    return at.astimezone(UTC)


def place_in_log(text: str, option: str) -> "Offset":
    """Where in the log that is: `first`, `now`, `offset:` and a number, or a moment.

    Raises:
        typer.BadParameter: it is none of these.
    """
    if text in {"first", "now"}:
        return "first" if text == "first" else "next"
    number = text.removeprefix(OFFSET)
    if text.startswith(OFFSET) and number.isdecimal():
        return int(number)
    return moment(text, option)
