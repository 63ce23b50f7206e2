from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import Final

import pytest

from consumer import databases
from consumer.database_state import State
from consumer.providers.protocol import UserDatabase
from consumer.provision_database import BUSY_RETRY_S
from shared import postgres as shared_postgres
from shared.errors import DependencyDown, NotYet
from shared.events import UserEventType
from tests.consumer.provisioning import AT_ONCE, Scripted, World, deliver, new_user
from tests.support.events import user_event
from tests.support.eventually import eventually

CUT_LOCK_HOLDERS: Final = """
select pg_terminate_backend(pid) from pg_locks join pg_database on pg_database.oid = pg_locks.database
where locktype = 'advisory' and datname = current_database()
"""


@dataclass(frozen=True, slots=True)
class Gate:
    """Where a test holds somebody up."""

    reached: asyncio.Event
    open: asyncio.Event

    async def wait(self) -> None:
        self.reached.set()
        await self.open.wait()


@pytest.fixture
def gate(world: World) -> Iterator[Gate]:  # noqa: ARG001 - opened before the world's pool is closed
    gate = Gate(asyncio.Event(), asyncio.Event())
    yield gate
    gate.open.set()  # a test that failed leaves nobody waiting for ever


class TestOrder:
    HISTORY: tuple[tuple[UserEventType, str], ...] = (
        ("user.created", "c"),
        ("user.created", "c"),
        ("user.updated", "u"),
        ("user.deleted", "d"),
        ("user.deleted", "d"),
    )

    async def test_every_order_with_duplicates_ends_without_a_database(self, world: World) -> None:
        for order in sorted(set(permutations(self.HISTORY))):
            user = new_user()
            for kind, event_id in order:
                await deliver(world.effect(holdback=AT_ONCE), user_event(kind, user, event_id=event_id))

            assert (await world.row(user)).state is State.DELETED, order
            assert not await world.exists(user), order

    async def test_every_order_ends_the_same_when_the_holdback_is_over(self, world: World) -> None:
        for order in sorted(set(permutations([event for event in self.HISTORY if event[0] != "user.updated"]))):
            user = new_user()
            events = [user_event(kind, user, event_id=event_id) for kind, event_id in order]
            for event in events:
                await deliver(world.effect(), event)
            await world.pool.execute("update databases set erase_after = now() where state = 'held'")
            for event in events:
                await deliver(world.effect(), event)

            assert (await world.row(user)).state is State.DELETED, order
            assert not await world.exists(user), order

    async def test_every_order_without_a_deletion_ends_with_one_database(self, world: World) -> None:
        for order in sorted(set(permutations(self.HISTORY[:3]))):
            user = new_user()
            for kind, event_id in order:
                await deliver(world.effect(), user_event(kind, user, event_id=event_id))

            assert (await world.row(user)).state is State.READY, order
            assert len(await world.at_provider(user)) == 1, order
            await world.provider.delete((await world.row(user)).known)


class TestAtOnce:
    """Several consumers at one user: each with a pool and a provider of its own, as in processes of their own."""

    async def test_three_creations_end_in_one_database_announced_under_one_id(
        self, world: World, copies: list[World], user: str
    ) -> None:
        event = user_event("user.created", user)

        await asyncio.gather(*(deliver(copy.effect(), event) for copy in copies))

        row = await world.row(user)
        assert (row.state, row.attempts) == (State.READY, 1)
        assert len(await world.at_provider(user)) == 1
        assert len({announcement.id for announcement in world.announced}) == 1

    @pytest.mark.parametrize("head_start_s", [0, 0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.1])
    async def test_creations_and_a_deletion_end_without_a_database(
        self, world: World, copies: list[World], user: str, head_start_s: float
    ) -> None:
        created, deleted = user_event("user.created", user), user_event("user.deleted", user)

        async def later() -> None:
            await asyncio.sleep(head_start_s)  # shifts the deletion over the whole of a creation
            await deliver(copies[2].effect(holdback=AT_ONCE), deleted)

        await asyncio.gather(*(deliver(copy.effect(holdback=AT_ONCE), created) for copy in copies[:2]), later())

        assert (await world.row(user)).state is State.DELETED
        assert not await world.exists(user)

    async def test_a_first_event_gives_way_to_a_deletion_that_is_recorded_while_it_begins(
        self, world: World, copies: list[World], user: str
    ) -> None:
        created, deleted = user_event("user.created", user), user_event("user.deleted", user)
        wanted = UserDatabase(user, user, None)
        async with world.pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await databases.unwant(
                connection,
                wanted,
                provider="postgres",
                event_id=deleted.id,
                happened_at=deleted.time,
                holdback=AT_ONCE,
            )
            begun = asyncio.create_task(copies[0].effect()(created))
            await eventually(partial(_somebody_waits, world), what="the creation waits for the row")
            await transaction.commit()

            await begun

        assert (await world.row(user)).state is State.DELETED
        assert not await world.exists(user)
        assert not world.announced

    async def test_whoever_comes_second_waits_instead_of_working_along(
        self, world: World, copies: list[World], user: str, scripted: Scripted, gate: Gate
    ) -> None:
        scripted.before_create = gate.wait
        first = asyncio.create_task(world.effect(provider=scripted)(user_event("user.created", user)))
        await gate.reached.wait()

        with pytest.raises(NotYet) as caught:
            await copies[0].effect()(user_event("user.created", user))

        assert caught.value.retry_after_s == BUSY_RETRY_S
        gate.open.set()
        await first

    @pytest.mark.parametrize("step", ["before_create", "before_prepare"])
    async def test_a_deletion_amid_a_creation_is_carried_out_by_the_creator(
        self, world: World, copies: list[World], user: str, scripted: Scripted, gate: Gate, step: str
    ) -> None:
        setattr(scripted, step, gate.wait)
        creation = asyncio.create_task(world.effect(provider=scripted)(user_event("user.created", user)))
        await gate.reached.wait()
        with pytest.raises(NotYet):
            await copies[0].effect()(user_event("user.deleted", user))

        gate.open.set()
        await creation

        assert (await world.row(user)).state is State.DELETED
        assert not await world.exists(user)
        assert world.announced == []

    async def test_a_creator_that_lost_its_lock_leaves_no_orphan_behind(
        self, world: World, copies: list[World], user: str, scripted: Scripted, gate: Gate
    ) -> None:
        created, deleted = user_event("user.created", user), user_event("user.deleted", user)
        scripted.before_create = gate.wait
        creation = asyncio.create_task(world.effect(provider=scripted)(created))
        await gate.reached.wait()
        await _cut_lock_holders(copies[0])
        await deliver(copies[0].effect(), deleted)
        assert (await world.row(user)).state is State.DELETED
        gate.open.set()
        with pytest.raises(DependencyDown):
            await creation
        assert await world.exists(user)  # the orphan

        await world.effect()(created)

        assert not await world.exists(user)

    async def test_a_small_pool_does_not_lock_up(self, world: World, database_url: str) -> None:
        pool = await shared_postgres.create_pool(database_url, max_size=2, name="small")
        small = World(pool, world.provider)
        users = [new_user() for _ in range(8)]

        async with asyncio.timeout(60):
            await asyncio.gather(*(deliver(small.effect(), user_event("user.created", user)) for user in users))

        states = await world.pool.fetch("select distinct state from databases")
        assert [row["state"] for row in states] == ["ready"]
        for user in users:
            await world.provider.delete((await world.row(user)).known)
        await pool.close()


async def _cut_lock_holders(world: World) -> None:
    """End the sessions that hold a user's lock, as a network or a fail-over does."""
    assert await world.pool.fetch(CUT_LOCK_HOLDERS)

    async def gone() -> bool:
        return not await world.pool.fetch(CUT_LOCK_HOLDERS)

    await eventually(gone)


async def _somebody_waits(world: World) -> bool:
    waiting = "select count(*) from pg_locks where locktype = 'transactionid' and not granted"
    return bool(await world.pool.fetchval(waiting))
