"""Postgres: killed, full, locked, in conflict, and moved to another server."""

import asyncio
import contextlib
from typing import Any, Final

import asyncpg

from tests.chaos.failing_writes import WORKING, failing
from tests.chaos.scenario import Scenario
from tests.chaos.world import Setting, World
from tests.support.eventually import eventually
from tests.support.programs import Program
from tests.support.replica import follow_synchronously, follower, promote

# Longer than a statement may take, so that some are given up while they wait.
LOCKED_S: Final = 32.0

_END_USHERS: Final = "select pg_terminate_backend(pid) from pg_stat_activity where application_name ~ 'usher'"


async def _killed(world: World) -> None:
    async with world.load() as load:
        await load.reached(0.3)
        world.postgres.kill()
        await load.reached(0.9)
        await _paused(world)
        await asyncio.to_thread(world.postgres.start)
        world.repaired()


async def _failing(world: World, sqlstate: str, *, every: int) -> None:
    """Writes to the tables end with that error, each or every so manieth, until the load is accepted."""
    async with world.load() as load, world.database() as connection:
        await load.reached(0.2)
        await connection.execute(failing(sqlstate, every=every))
        await load.reached(0.9)
        if every == 1:
            await _paused(world)
        await connection.execute(WORKING)
        world.repaired()


async def _disk_full(world: World) -> None:
    await _failing(world, "53100", every=1)


async def _conflicts(world: World) -> None:
    await _failing(world, "40001", every=4)


async def _no_connections(world: World) -> None:
    taken: list[Any] = []
    async with world.load() as load:
        await load.reached(0.2)
        try:
            await eventually(lambda: _all_taken(world, taken), timeout_s=60, what="no connection is left to Usher")
            await load.reached(0.9)
            await _paused(world)
        finally:
            for connection in taken:
                connection.terminate()
        world.repaired()


async def _all_taken(world: World, taken: list[Any]) -> bool:
    """Take every free connection, end Usher's, and say whether it has none and all are taken."""
    with contextlib.suppress(asyncpg.TooManyConnectionsError):
        while True:
            taken.append(await asyncpg.connect(world.database_url))
    ended = await taken[0].fetch(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name ~ 'usher'"
    )
    return not ended


async def _locked(world: World) -> None:
    async with world.load() as load, world.database() as connection:
        await load.reached(0.2)
        async with connection.transaction():
            await connection.execute("lock table user_guards, databases in access exclusive mode")
            await load.reached(0.9)
            await asyncio.sleep(LOCKED_S)
        world.repaired()


async def _failed_over(world: World) -> None:
    assert world.postgres_proxy is not None
    second = await asyncio.to_thread(follower, world.postgres, world.ground.folder / "follower")
    try:
        await follow_synchronously(world.postgres, wanted=True)
        async with world.load() as load:
            await load.reached(0.3)
            world.postgres.kill()
            await promote(second)
            world.postgres_proxy.retarget(second.port)
            world.repaired()
        world.database_url = second.url(world.database_url.rpartition("/")[2])
    finally:
        # The first goes on as the only one for those who come after.
        await asyncio.to_thread(world.postgres.start)
        await follow_synchronously(world.postgres, wanted=False)
        world.cleanups.append(lambda: asyncio.to_thread(second.stop))


async def _paused(world: World) -> None:
    """Returns when every consumer has stopped taking events."""

    async def all_paused() -> bool:
        return all([await _has_paused(consumer) for consumer in world.consumers])

    await eventually(all_paused, timeout_s=world.ground.patience_s, what="every consumer pauses")


async def _has_paused(consumer: Program) -> bool:
    status, text = await consumer.readiness()
    return status == 503 and '"state": "open"' in text


SCENARIOS: Final = (
    Scenario("postgres_killed", "kill -9 of all of Postgres under load; started again", _killed),
    Scenario("disk_full", "every write to the tables fails with 53100 (disk full); then no more", _disk_full),
    Scenario("conflicts", "every fourth write fails with 40001 (serialization failure); then no more", _conflicts),
    Scenario("no_connections", "all connections of Postgres are taken by somebody else; given back", _no_connections),
    Scenario("tables_locked", f"both tables are locked for {LOCKED_S:.0f} s by somebody else", _locked),
    Scenario(
        "failed_over",
        "Postgres is killed and its synchronous follower promoted, at another port",
        _failed_over,
        Setting(postgres_proxied=True),
    ),
)
