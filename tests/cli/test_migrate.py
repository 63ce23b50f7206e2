import asyncpg
import pytest

from tests.cli.conftest import Usher


@pytest.fixture
async def empty_database_url(database_url: str) -> str:
    connection = await asyncpg.connect(database_url)
    await connection.execute("drop schema public cascade; create schema public")
    await connection.close()
    return database_url


async def test_it_applies_what_is_missing_and_then_has_nothing_to_do(
    usher: Usher, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database_url)

    first = await usher("migrate")
    second = await usher("migrate", "--json")

    assert first.code == 0, first.err
    assert "from version 0000" in first.out
    assert second.json["before"] == second.json["version"] == second.json["newest"] > 0
    connection = await asyncpg.connect(empty_database_url)
    assert await connection.fetchval("select count(*) from users") == 0
    await connection.close()


async def test_the_check_says_behind_and_changes_nothing(
    usher: Usher, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database_url)

    done = await usher("migrate", "--check", "--json")

    assert done.code == 1
    assert done.json["behind"] is True
    connection = await asyncpg.connect(empty_database_url)
    assert await connection.fetchval("select count(*) from information_schema.tables where table_schema='public'") == 0
    await connection.close()


async def test_the_check_passes_where_everything_is_applied(
    usher: Usher, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)

    done = await usher("migrate", "--check")

    assert done.code == 0, done.err
    assert "nothing to do" in done.out


async def test_a_database_of_a_newer_usher_is_left_alone(
    usher: Usher, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    connection = await asyncpg.connect(database_url)
    await connection.execute("insert into schema_migrations (version, name, checksum) values (9999, 'later', 'x')")
    await connection.close()

    done = await usher("migrate")

    assert done.code == 0, done.err
    assert "newer than this Usher" in done.out


async def test_a_postgres_that_is_not_there_is_one_sentence(usher: Usher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://somebody:secret-word@127.0.0.1:1/usher")

    done = await usher("migrate")

    assert done.code == 1
    assert done.err.startswith("usher: Postgres does not answer at 127.0.0.1:1 (ConnectionRefusedError)")
    assert "secret-word" not in done.err
