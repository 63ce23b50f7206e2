"""`.usher/env`: the running system's addresses and secrets, as a dotenv file that only its owner can read.

Any tool can be pointed at the system with it (`set -a; . .usher/env`). Standard library only.

    INGRESS_URL                       where webhooks are sent: $INGRESS_URL/webhooks/clerk
    INGRESS_INTERNAL_URL              /livez, /readyz, /metrics of the ingress
    SYNC_USER_INTERNAL_URL            the same of that consumer; of each copy, separated by commas
    PROVISION_DATABASE_INTERNAL_URL   as above
    LOOKUP_URL                        where the application asks: $LOOKUP_URL/users/ID/database
    LOOKUP_INTERNAL_URL               as INGRESS_INTERNAL_URL
    AMQP_URL                          RabbitMQ, login included
    MANAGEMENT_URL                    RabbitMQ's management UI and API, login included: http://user:password@host:port
    DATABASE_URL                      the control database: users, databases, guards
    PROVIDER_POSTGRES_URL             the server on which users' databases are made
    DATABASE_PROVIDER                 postgres; xata with --xata-stand-in, and with it
    XATA_API_URL, XATA_API_KEY, …     how the stand-in is reached; $XATA_API_URL/_stand_in/ has its switches
    CLERK_WEBHOOK_SIGNING_SECRET      generated once and kept, unless the environment of `usher up` gave another
    HOOKDECK_WEBHOOK_SECRET           as above
    LOOKUP_TOKEN                      as above: Authorization: Bearer $LOOKUP_TOKEN
"""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

_HEAD = "# Written by `usher up`: addresses and secrets of the running system. Keep it to yourself.\n"


def default_folder() -> Path:
    """The clone's `.usher`, from wherever the command is run; without a clone that of the current folder."""
    root = Path(__file__).resolve().parent.parent
    home = root if (root / "pyproject.toml").is_file() else Path.cwd()
    return home / ".usher"


def read_env(folder: Path) -> dict[str, str]:
    """What `write_env` wrote; empty when there is no file."""
    try:
        text = (folder / "env").read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {name: "".join(shlex.split(value)) for name, _, value in pairs}


def write_env(folder: Path, values: Mapping[str, str]) -> None:
    """Replaces the file at once, so that a reader sees the old one or the new one; mode 0600 from its first byte."""
    text = _HEAD + "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
    replace_private(folder / "env", text)


def replace_private(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)
