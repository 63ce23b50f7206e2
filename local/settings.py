"""What the embedded servers take from the environment; the only module here that reads it.

Standard library only, for the set-up runs it before a virtual environment exists.
"""

import os
from collections.abc import Iterable
from pathlib import Path


def named_path(variable: str) -> Path | None:
    """RABBITMQ_SERVER (a rabbitmq-server script) or POSTGRES_BIN (the folder of initdb and postgres)."""
    value = os.environ.get(variable)
    return Path(value) if value else None


def inherited(*, without: Iterable[str] = ()) -> dict[str, str]:
    """The caller's environment for a child process, less the variables that begin with one of `without`."""
    prefixes = tuple(without)
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
