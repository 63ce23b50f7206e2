"""Numbered SQL files, applied once each, in order, to one database.

Goes in: a database and a set of migrations. Comes out: the version it is at. Promise: several processes may migrate at
once, a kill at any point leaves whole steps only, and a file that was changed after it ran is refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

import asyncpg

from shared import postgres
from shared.errors import SettingsError

_FILE_NAME: Final = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_LOCK: Final = "select pg_advisory_xact_lock(hashtextextended('usher.schema_migrations', 0))"
_CREATE: Final = """
create table if not exists schema_migrations (
    version integer primary key,
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default now()
)
"""
_APPLIED: Final = "select version, checksum from schema_migrations"
_RECORD: Final = "insert into schema_migrations (version, name, checksum) values ($1, $2, $3)"


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def control_migrations() -> list[Migration]:
    """What Usher's own database holds: users, guards, databases."""
    return read(files("migrations") / "control")


def user_migrations() -> list[Migration]:
    """What every user's database holds."""
    return read(files("migrations") / "user")


def read(folder: Traversable) -> list[Migration]:
    """The folder's migrations by number.

    Raises:
        SettingsError: a file's name is not `0001_words.sql`, or a number is missing or there twice.
    """
    found: list[Migration] = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if not entry.name.endswith(".sql"):
            continue
        match = _FILE_NAME.fullmatch(entry.name)
        if match is None:
            raise SettingsError(f"{entry.name}: name migrations 0001_what_it_does.sql, 0002_…")
        found.append(Migration(int(match[1]), match[2], entry.read_text(encoding="utf-8")))
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise SettingsError("migrations are numbered from 0001 without gaps or repeats")
    return found


async def apply(connection: asyncpg.Connection[asyncpg.Record], migrations: Sequence[Migration]) -> int:
    """Apply what is missing; returns the version the database is at then.

    Raises:
        SettingsError: a file was changed after it had been applied.
        EffectError: Postgres refused or is out of reach.
    """
    async with postgres.translated(), connection.transaction():
        # One transaction for all: another process that migrates waits here, and a kill leaves nothing half done.
        await connection.execute(_LOCK)
        await connection.execute(_CREATE)
        applied: dict[int, str] = {row["version"]: row["checksum"] for row in await connection.fetch(_APPLIED)}
        for migration in migrations:
            await _apply_one(connection, migration, applied.get(migration.version))
        return max([0, *applied, *(migration.version for migration in migrations)])


async def _apply_one(
    connection: asyncpg.Connection[asyncpg.Record],
    migration: Migration,
    applied_checksum: str | None,
) -> None:
    if applied_checksum is None:
        await connection.execute(migration.sql)
        await connection.execute(_RECORD, migration.version, migration.name, migration.checksum)
    elif applied_checksum != migration.checksum:
        raise SettingsError(
            f"migration {migration.version:04} was changed after it had been applied: put it back and add a new one",
        )
