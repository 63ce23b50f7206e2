"""The table of Postgres errors is complete, and what passes through it says nothing of the row."""

import asyncpg
import pytest

from local.postgres import PostgresCluster
from shared.errors import DependencyDown, EffectError, PermanentError, TransientError
from shared.postgres import create_pool, ping, translate, translated


def _all_subclasses(kind: type[BaseException]) -> set[type[BaseException]]:
    return {kind} | {deeper for sub in kind.__subclasses__() for deeper in _all_subclasses(sub)}


@pytest.mark.parametrize(
    "kind",
    sorted(
        _all_subclasses(asyncpg.PostgresError)
        | _all_subclasses(asyncpg.InterfaceError)
        | _all_subclasses(asyncpg.InternalClientError),
        key=str,
    ),
)
def test_every_exception_of_the_driver_becomes_one_of_ours(kind: type[BaseException]) -> None:
    assert isinstance(translate(kind("ada@example.org")), EffectError)


@pytest.mark.parametrize(
    ("kind", "ours"),
    [
        (asyncpg.TooManyConnectionsError, DependencyDown),
        (asyncpg.DiskFullError, DependencyDown),
        (asyncpg.CannotConnectNowError, DependencyDown),
        (asyncpg.AdminShutdownError, DependencyDown),
        (asyncpg.ConnectionDoesNotExistError, DependencyDown),
        (asyncpg.InvalidPasswordError, DependencyDown),
        (asyncpg.UndefinedTableError, DependencyDown),
        (asyncpg.ReadOnlySQLTransactionError, DependencyDown),
        (asyncpg.SerializationError, TransientError),
        (asyncpg.DeadlockDetectedError, TransientError),
        (asyncpg.LockNotAvailableError, TransientError),
        (asyncpg.QueryCanceledError, TransientError),
        (asyncpg.UniqueViolationError, PermanentError),
        (asyncpg.CheckViolationError, PermanentError),
        (asyncpg.CharacterNotInRepertoireError, PermanentError),
        (asyncpg.NumericValueOutOfRangeError, PermanentError),
        (TimeoutError, DependencyDown),
        (ConnectionRefusedError, DependencyDown),
    ],
)
def test_errors_are_grouped_by_what_happens_next(kind: type[Exception], ours: type[EffectError]) -> None:
    assert type(translate(kind("x"))) is ours


def test_a_bug_is_not_taken_for_the_databases_fault() -> None:
    assert translate(KeyError("x")) is None


async def test_the_text_names_the_constraint_and_not_the_value(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    await pool.execute("create table secrets (email text primary key)")

    async def insert_twice() -> None:
        async with translated():
            for _ in range(2):
                await pool.execute("insert into secrets values ('ada@example.org')")

    with pytest.raises(PermanentError) as caught:
        await insert_twice()
    assert "secrets_pkey" in str(caught.value)
    assert "ada" not in str(caught.value)


@pytest.mark.parametrize("code", ["XX000", "XX002"])
async def test_what_is_corrupt_under_one_statement_is_no_outage(
    pool: "asyncpg.Pool[asyncpg.Record]", code: str
) -> None:
    with pytest.raises(TransientError) as caught:
        async with translated():
            await pool.execute(f"do $$ begin raise exception 'x' using errcode = '{code}'; end $$")
    assert not isinstance(caught.value, DependencyDown)


async def test_a_server_that_is_killed_under_a_pool_is_down_and_then_back(postgres: PostgresCluster) -> None:
    pool = await create_pool(postgres.url("postgres"), max_size=2, name="tests")
    await ping(pool)
    postgres.kill()
    with pytest.raises(DependencyDown):
        await ping(pool)
    postgres.start()
    await ping(pool)
    await pool.close()
