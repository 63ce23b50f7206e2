"""Killed at every await of a creation and of a deletion, before and after the other side acted."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final

import pytest

from consumer.database_state import State
from consumer.provision_database import ProvisionDatabase
from local.postgres import PostgresCluster
from shared.events import UserEvent
from tests.consumer.provisioning import AT_ONCE, WEEK, Kills, World, deliver, killed_at, new_user
from tests.support.events import user_event

# A creation or deletion has more awaits, all different, than this; fewer would mean that they are not reached.
FEWEST_CREATING: Final = 8
FEWEST_DELETING: Final = 8
FEWEST_HOLDING: Final = 3

before_and_after: Final = pytest.mark.parametrize("after", [False, True], ids=["before_it_acted", "after_it_acted"])


@before_and_after
async def test_a_creation_that_was_killed_anywhere_goes_on_to_one_database(
    world: World, *, kill_everywhere: bool, after: bool
) -> None:
    kills = Kills(kill_everywhere, after)
    async for user, where in _killed_everywhere(world, "user.created", kills, fewest=FEWEST_CREATING):
        await deliver(world.effect(), _event("user.created", user))

        row = await world.row(user)
        assert (row.state, row.attempts) == (State.READY, 1), where
        assert len(await world.at_provider(user)) == 1, where
        assert row.announced_at is not None, where
        assert len({event.id for event in world.announced if event.subject == user}) == 1, where
        await world.provider.delete(row.known)


@before_and_after
async def test_a_deletion_after_a_creation_killed_anywhere_leaves_nothing(
    world: World, *, kill_everywhere: bool, after: bool
) -> None:
    kills = Kills(kill_everywhere, after)
    async for user, where in _killed_everywhere(world, "user.created", kills, fewest=FEWEST_CREATING):
        await deliver(world.effect(holdback=AT_ONCE), _event("user.deleted", user))
        assert not await world.exists(user), where

        await deliver(world.effect(holdback=AT_ONCE), _event("user.created", user))

        assert (await world.row(user)).state is State.DELETED, where
        assert not await world.exists(user), where


@before_and_after
async def test_a_deletion_that_was_killed_anywhere_goes_on_until_nothing_is_left(
    world: World, *, kill_everywhere: bool, after: bool
) -> None:
    kills = Kills(kill_everywhere, after)
    async for user, where in _killed_everywhere(world, "user.deleted", kills, fewest=FEWEST_DELETING, made_before=True):
        await deliver(world.effect(holdback=AT_ONCE), _event("user.deleted", user))

        assert (await world.row(user)).state is State.DELETED, where
        assert not await world.exists(user), where


@before_and_after
async def test_a_held_deletion_that_was_killed_anywhere_is_held_still(
    world: World, *, kill_everywhere: bool, after: bool
) -> None:
    kills = Kills(kill_everywhere, after)
    async for user, where in _killed_everywhere(
        world, "user.deleted", kills, fewest=FEWEST_HOLDING, made_before=True, holdback=WEEK
    ):
        await deliver(world.effect(), _event("user.deleted", user))

        assert (await world.row(user)).state is State.HELD, where
        assert await world.exists(user), where
        await world.provider.delete((await world.row(user)).known)


async def test_a_process_that_is_killed_while_it_announces_frees_the_user_for_the_next(
    world: World, database_url: str, postgres: PostgresCluster, user: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.consumer.provisioning", database_url, postgres.url("postgres"), user,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert await process.stdout.readline() == b"announcing\n"
    assert (await world.row(user)).state is State.READY

    process.send_signal(signal.SIGKILL)
    await process.wait()
    async with asyncio.timeout(20):
        await deliver(world.effect(), _event("user.created", user))

    assert len(world.announced) == 1
    assert (await world.row(user)).announced_at is not None


async def _killed_everywhere(
    world: World,
    kind: str,
    kills: Kills,
    *,
    fewest: int,
    made_before: bool = False,
    holdback: timedelta = AT_ONCE,
) -> AsyncIterator[tuple[str, str]]:
    """Users whose event was killed at one await, a later one, … until one comes through unharmed.

    Each process is a new one, with connections of its own.
    """
    for point in kills.points():
        user = new_user()
        if made_before:
            await deliver(world.effect(), _event("user.created", user))
        async with world.another() as process:
            with killed_at(point, process):
                survived = await _survived(process.effect(holdback=holdback), _event(kind, user))
        assert survived is not point.struck
        yield user, point.where
        if not point.struck:
            assert point.at >= fewest, "the failpoints do not reach the work"
            return
    raise AssertionError("never came through")


async def _survived(effect: ProvisionDatabase, event: UserEvent) -> bool:
    try:
        await deliver(effect, event)
    except asyncio.CancelledError:  # Killed, or what a task made of it on its way
        return False
    return True


def _event(kind: str, user: str) -> UserEvent:
    """The same event each time: as the broker hands it out again."""
    return user_event(kind, user, event_id=f"msg_{kind}_{user}")  # type: ignore[arg-type] # the two kinds of above
