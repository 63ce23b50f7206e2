"""A PostgreSQL server that follows another one and can take its place."""

from pathlib import Path

import asyncpg

from local import postgres, programs
from local.ports import free_port
from local.postgres import PostgresCluster


def follower(primary: PostgresCluster, folder: Path) -> PostgresCluster:
    """A running copy of `primary` that follows it; `promote` makes it a primary."""
    copy = PostgresCluster(
        folder, port=free_port(), password=primary.password, user=primary.user, database=primary.database, fsync=False
    )
    account = postgres._account()
    copy._make_folder(account)
    with postgres._reachable(copy.folder, account) as (reachable, fds):
        tools = postgres._Tools(programs.postgres_bin(None), account, reachable, fds)
        tools.run(
            "pg_basebackup", "-d", primary.url(), "-D", reachable / "data", "-R", "--checkpoint=fast",
        )  # fmt: skip
    copy._write_password(account)
    copy.start()
    return copy


async def follow_synchronously(primary: PostgresCluster, *, wanted: bool) -> None:
    """From now on a commit on `primary` waits until its follower has it, too, or no longer does."""
    connection = await asyncpg.connect(primary.url())
    change = "set synchronous_standby_names = '*'" if wanted else "reset synchronous_standby_names"
    await connection.execute(f"alter system {change}")
    await connection.execute("select pg_reload_conf()")
    await connection.close()


async def promote(follower: PostgresCluster) -> None:
    connection = await asyncpg.connect(follower.url())
    assert await connection.fetchval("select pg_promote(true, 60)")
    await connection.close()
