"""What the embedded servers take from the environment; the only module here that reads it.

Standard library only, for the set-up runs it before a virtual environment exists.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from local.errors import ServerError

# Below the range from which kernels take the ports of outgoing connections (32768 on Linux, 49152 on macOS):
# a server that binds seconds after the choice still finds its port free.
_FREE_PORTS: Final = "20000-31999"
_LEAST_PORTS: Final = 1_000
_LAST_PORT: Final = 65_535


def named_path(variable: str) -> Path | None:
    """RABBITMQ_SERVER (a rabbitmq-server script) or POSTGRES_BIN (the folder of initdb and postgres)."""
    value = os.environ.get(variable)
    return Path(value) if value else None


def inherited(*, without: Iterable[str] = ()) -> dict[str, str]:
    """The caller's environment for a child process, less the variables that begin with one of `without`."""
    prefixes = tuple(without)
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}


def free_port_range() -> range:
    """USHER_FREE_PORTS, as in 20000-31999: where free ports are looked for, so that runs side by side share none."""
    first, _, last = os.environ.get("USHER_FREE_PORTS", _FREE_PORTS).partition("-")
    try:
        ports = range(int(first), int(last) + 1)
    except ValueError:
        ports = range(0)
    if len(ports) < _LEAST_PORTS or ports[0] < 1 or ports[-1] > _LAST_PORT:
        raise ServerError("USHER_FREE_PORTS wants a range of at least 1,000 ports, as in 20000-31999")
    return ports
