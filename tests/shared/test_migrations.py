"""Migrations on a real Postgres: once each, all or nothing, by several processes at once."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from shared.errors import EffectError, SettingsError
from shared.migrations import Migration, apply, control_migrations, read, user_migrations

ONE = Migration(1, "one", "create table one (a int)")
TWO = Migration(2, "two", "create table two (a int)")
BROKEN = Migration(2, "broken", "create table half (a int); select no_such_function()")


@pytest.fixture
async def empty_url(database_url: str) -> str:
    """A database without tables."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("drop schema public cascade; create schema public")
    await connection.close()
    return database_url


async def _tables(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("select tablename from pg_tables where schemaname = 'public'")
    finally:
        await connection.close()
    return {row["tablename"] for row in rows}


async def _migrate(url: str, *migrations: Migration) -> int:
    connection = await asyncpg.connect(url)
    try:
        return await apply(connection, migrations)
    finally:
        await connection.close()


async def test_what_is_missing_is_applied_once_in_order(empty_url: str) -> None:
    assert await _migrate(empty_url, ONE) == 1
    assert await _migrate(empty_url, ONE, TWO) == 2
    assert await _migrate(empty_url, ONE, TWO) == 2
    assert await _tables(empty_url) == {"one", "two", "schema_migrations"}


async def test_an_older_program_leaves_a_newer_database_alone(empty_url: str) -> None:
    await _migrate(empty_url, ONE, TWO)
    assert await _migrate(empty_url, ONE) == 2


async def test_a_broken_migration_leaves_nothing_half_done(empty_url: str) -> None:
    with pytest.raises(EffectError):
        await _migrate(empty_url, ONE, BROKEN)
    assert await _tables(empty_url) == set()


async def test_several_processes_migrate_at_once(empty_url: str) -> None:
    assert await asyncio.gather(*(_migrate(empty_url, ONE, TWO) for _ in range(5))) == [2] * 5


async def test_a_file_changed_after_it_was_applied_is_refused(empty_url: str) -> None:
    await _migrate(empty_url, ONE)
    with pytest.raises(SettingsError, match="migration 0001 was changed"):
        await _migrate(empty_url, Migration(1, "one", "create table other (a int)"))


@pytest.mark.parametrize("name", ["1_one.sql", "0002_two.sql", "0001_One.sql", "0001.sql"])
def test_a_misnamed_or_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("select 1")
    with pytest.raises(SettingsError):
        read(tmp_path)


def test_the_shipped_migrations_are_found() -> None:
    assert [migration.version for migration in control_migrations()][:1] == [1]
    assert [migration.version for migration in user_migrations()][:1] == [1]
