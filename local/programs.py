"""Where the servers' programs are: named by the user, installed by the system, or missing.

Standard library only, for the set-up runs this before a virtual environment exists.
"""

import re
import shutil
from pathlib import Path

from local import settings
from local.errors import MissingServerError

# The wrappers in /usr/sbin and /usr/bin refuse every user but root and rabbitmq, so the real scripts come first.
_RABBITMQ_SERVERS = (
    "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "/opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server",
    "/usr/local/opt/rabbitmq/sbin/rabbitmq-server",
)
_POSTGRES_BINS = (
    "/usr/lib/postgresql/*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
)
_EPMDS = (
    "/usr/lib/erlang/bin/epmd",
    "/usr/lib/erlang/erts-*/bin/epmd",
    "/opt/homebrew/opt/erlang/lib/erlang/bin/epmd",
    "/usr/local/opt/erlang/lib/erlang/bin/epmd",
)


def rabbitmq_server(named: Path | None = None) -> Path:
    """The `rabbitmq-server` script: `named`, else $RABBITMQ_SERVER, else the system's.

    Raises: MissingServerError.
    """
    chosen = named or settings.named_path("RABBITMQ_SERVER")
    if chosen:
        return _existing(chosen, "RABBITMQ_SERVER", "a rabbitmq-server script")
    candidates = [Path(path) for path in _RABBITMQ_SERVERS] + _newest("/opt/rabbitmq_server-*/sbin/rabbitmq-server")
    found = next((path for path in candidates if path.is_file()), None) or _on_path("rabbitmq-server")
    if not found:
        raise MissingServerError("RabbitMQ is not installed.")
    return found


def postgres_bin(named: Path | None = None) -> Path:
    """The folder of `postgres` and `initdb`: `named`, else $POSTGRES_BIN, else the newest installed.

    Raises: MissingServerError.
    """
    chosen = named or settings.named_path("POSTGRES_BIN")
    if chosen:
        _existing(chosen / "initdb", "POSTGRES_BIN", "a folder with initdb and postgres")
        return chosen
    folders = [path for pattern in _POSTGRES_BINS for path in _newest(pattern)]
    on_path = _on_path("initdb")
    if on_path:
        folders.append(on_path.parent)
    found = next((path for path in folders if (path / "initdb").is_file() and (path / "postgres").is_file()), None)
    if not found:
        raise MissingServerError("PostgreSQL is not installed.")
    return found


def epmd(server: Path) -> Path:
    """Erlang's port mapper: beside the `server` script when somebody put one there, else the system's.

    Raises: MissingServerError.
    """
    beside = server.parent / "epmd"
    if beside.is_file():
        return beside
    found = _on_path("epmd") or next((path for pattern in _EPMDS for path in _newest(pattern)), None)
    if not found:
        raise MissingServerError(f"Erlang's epmd was not found on the PATH, nor beside {server}.")
    return found


def _existing(path: Path, name: str, what: str) -> Path:
    if not path.exists():
        raise MissingServerError(f"{path} does not exist: {name} has to name {what}.")
    return path


def _on_path(name: str) -> Path | None:
    found = shutil.which(name)
    return Path(found).resolve() if found else None


def _newest(pattern: str) -> list[Path]:
    """Matches of an absolute glob, the highest version number first."""
    return sorted(Path("/").glob(pattern.lstrip("/")), key=_version, reverse=True)


def _version(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(path))]
