"""Durations as people write them: `90s`, `30m`, `2h`, `7d`, or plain seconds."""

import re
from datetime import timedelta
from typing import Final

_UNITS_S: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")
_MAX: Final = timedelta(days=3650)


def parse_duration(text: str) -> timedelta:
    """The duration in `text`, at most ten years.

    Raises:
        ValueError: it is none; the text says what one looks like.
    """
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is no duration: write for example 90s, 30m, 2h or 7d")
    number, unit = match.groups()
    seconds = float(number) * _UNITS_S[unit]
    if seconds > _MAX.total_seconds():
        raise ValueError(f"{text!r} is longer than ten years")
    return timedelta(seconds=seconds)


def format_duration(duration: timedelta) -> str:
    """The duration in its largest whole unit, as `parse_duration` reads it."""
    seconds = round(duration.total_seconds())
    for unit in ("d", "h", "m"):
        if seconds and seconds % _UNITS_S[unit] == 0:
            return f"{seconds // _UNITS_S[unit]}{unit}"
    return f"{seconds}s"
