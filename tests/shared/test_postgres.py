"""The table of Postgres errors is complete, and what passes through it says nothing of the row."""

import asyncio

import asyncpg
import pytest

from local.postgres import PostgresCluster
from shared.errors import DependencyDown, EffectError, PermanentError, TransientError
from shared.postgres import Locking, Stateless, create_pool, open_ahead, ping, translate, translated


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


@pytest.mark.parametrize("wanted", [2, 5])
async def test_connections_are_opened_ahead_as_far_as_the_pool_goes_and_are_free_then(
    database_url: str, wanted: int
) -> None:
    pool = await create_pool(database_url, max_size=3, name="tests")
    async with asyncio.timeout(40):
        await open_ahead(pool, wanted)
        assert (pool.get_size(), pool.get_idle_size()) == (min(wanted, 3), min(wanted, 3))
        await ping(pool)
    await pool.close()


_LEFT_BEHIND = """
select (select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory'),
       current_setting('lock_timeout'), current_setting('synchronous_commit'), pg_backend_pid()
"""


@pytest.mark.parametrize("ends_by", [TimeoutError, asyncio.CancelledError, asyncpg.DivisionByZeroError])
@pytest.mark.parametrize("kind", [Stateless, Locking])
async def test_a_connection_that_comes_back_amid_a_transaction_holds_nothing_for_the_next_user(
    database_url: str, kind: type[Stateless | Locking], ends_by: type[BaseException]
) -> None:
    pool = await create_pool(database_url, max_size=1, name="tests", lock_timeout_s=7, connection_class=kind)
    clean = await pool.fetchrow(_LEFT_BEHIND)
    begun = asyncio.Event()

    async def work() -> None:
        async with pool.acquire() as connection, connection.transaction():
            if kind is Locking:
                await connection.execute("select pg_advisory_lock(1), pg_advisory_lock(1)")
            await connection.execute("select set_config('synchronous_commit', 'off', true)")
            await connection.execute("create table left_behind ()")
            begun.set()
            if ends_by is asyncpg.DivisionByZeroError:
                await connection.execute("select 1 / 0")
            await connection.execute("select pg_sleep(600)", timeout=0.3 if ends_by is TimeoutError else None)

    working = asyncio.create_task(work())
    async with asyncio.timeout(40):
        await begun.wait()
        if ends_by is asyncio.CancelledError:
            await asyncio.sleep(0)  # into the statement that it would sleep in
            working.cancel()
        with pytest.raises(ends_by):
            await working
        assert await pool.fetchrow(_LEFT_BEHIND) == clean
        assert await pool.fetchval("select to_regclass('left_behind')") is None
    await pool.close()
