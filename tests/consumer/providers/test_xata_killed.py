"""Killed at every await of a creation and of a deletion at Xata, before and after the other side acted.

Each kill takes the process's memory with it: who goes on is a new provider that knows only what Postgres and Xata know.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final
from unittest.mock import patch

import aiohttp
import pytest

from consumer.database_state import State
from consumer.providers.protocol import UserDatabase
from consumer.providers.xata import looks
from consumer.providers.xata.configuration import BranchWishes, PoolWishes, Waiting
from consumer.providers.xata.provider import XataProvider
from consumer.provision_database import ProvisionDatabase
from local.postgres import PostgresCluster
from local.xata import Region, XataStandIn
from shared.events import UserEvent
from tests.consumer.providers.xata_account import Account
from tests.consumer.provisioning import AT_ONCE, Failpoint, Kills, World, _wrapped, deliver, killed_at, new_user
from tests.support.events import user_event

# A creation or deletion has more awaits, all different, than this; fewer would mean that they are not reached.
FEWEST_CREATING: Final = 20
FEWEST_DELETING: Final = 10
# As short as a kill is in a test: nothing is on its way when the next one begins.
UNCLEAR_S: Final = 0.15
REGION: Final = "local"  # the only one of tests.consumer.provisioning

before_and_after: Final = pytest.mark.parametrize("after", [False, True], ids=["before_it_acted", "after_it_acted"])
mode: Final = pytest.mark.parametrize("templates", [{}, {REGION: ("template",)}], ids=["custom", "inherit"])


@pytest.fixture(autouse=True)
def _nobody_is_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "LOOK_LASTS_S", UNCLEAR_S)


@pytest.fixture
async def stand_in(postgres: PostgresCluster) -> AsyncIterator[XataStandIn]:
    async with XataStandIn(postgres_url=postgres.url("postgres"), regions=[Region(REGION)]) as stand_in:
        stand_in.behaviour.update(visible_after_s=0, credentials_after_s=0, healthy_after_s=0)
        yield stand_in


class Xata:
    """The processes: each call of `world` is a new one."""

    def __init__(self, account: Account, templates: dict[str, tuple[str, ...]]) -> None:
        self.account = account
        self.wishes = {
            "pool": PoolWishes((account.projects[0], account.stand_in.add_project("second"))),
            "branch": BranchWishes(templates=templates),
            "waiting": Waiting(polls_s=(0.02,) * 50, unclear_s=UNCLEAR_S),
        }

    def world(self) -> World:
        return World(self.account.pool, self.provider())

    def provider(self) -> XataProvider:
        return self.account.provider(**self.wishes)

    def branches(self) -> list[str]:
        live = self.account.stand_in.live_branches()
        return [branch.name for branch in live if branch.name.startswith("user_")]


_OURS: Final[ContextVar[bool]] = ContextVar("ours", default=False)


@contextmanager
def _killed_at(point: Failpoint, world: World) -> Iterator[None]:
    request = _wrapped(point, "request", aiohttp.ClientSession._request)
    token = _OURS.set(True)
    point.here = _OURS.get  # the stand-in lives in this process too, and goes on living
    with killed_at(point, world), patch.object(aiohttp.ClientSession, "_request", request):
        yield
    _OURS.reset(token)


@pytest.mark.timeout(240)  # up to sixty kills
@mode
@before_and_after
async def test_a_creation_that_was_killed_anywhere_goes_on_to_one_branch(
    account: Account, templates: dict[str, tuple[str, ...]], *, kill_everywhere: bool, after: bool
) -> None:
    xata = Xata(account, templates)
    kills = Kills(kill_everywhere, after)
    async for user, where in _killed_everywhere(xata, "user.created", kills, fewest=FEWEST_CREATING):
        world = xata.world()
        await deliver(world.effect(), _event("user.created", user))

        row = await world.row(user)
        assert (row.state, row.attempts) == (State.READY, 1), where
        assert account.branches_of(row.known) == [row.provider_id], where
        placement = await account.placement(row.known)
        assert placement is not None, where
        assert (placement.project, placement.branch_id) == (row.project, row.provider_id), where
        assert row.schema_version == 1, where
        await deliver(world.effect(holdback=AT_ONCE), _event("user.deleted", user))
    assert xata.branches() == []
    assert account.stand_in.creates["template"] <= 2  # one in each project


@pytest.mark.timeout(240)
@before_and_after
async def test_a_deletion_after_a_creation_killed_anywhere_leaves_nothing(
    account: Account, *, kill_everywhere: bool, after: bool
) -> None:
    xata = Xata(account, {})
    kills = Kills(kill_everywhere, after)
    async for user, where in _killed_everywhere(xata, "user.created", kills, fewest=FEWEST_CREATING):
        await deliver(xata.world().effect(holdback=AT_ONCE), _event("user.deleted", user))
        assert xata.branches() == [], where

        world = xata.world()
        await deliver(world.effect(holdback=AT_ONCE), _event("user.created", user))

        assert (await world.row(user)).state is State.DELETED, where
        assert xata.branches() == [], where
        assert await account.placement(UserDatabase(user, user, None)) is None, where


@pytest.mark.timeout(240)
@before_and_after
async def test_a_deletion_that_was_killed_anywhere_goes_on_until_nothing_is_left(
    account: Account, *, kill_everywhere: bool, after: bool
) -> None:
    xata = Xata(account, {})
    kills = Kills(kill_everywhere, after)
    async for user, where in _killed_everywhere(xata, "user.deleted", kills, fewest=FEWEST_DELETING, made_before=True):
        world = xata.world()
        await deliver(world.effect(holdback=AT_ONCE), _event("user.deleted", user))

        assert (await world.row(user)).state is State.DELETED, where
        assert xata.branches() == [], where
        assert await account.placement(UserDatabase(user, user, None)) is None, where


async def _killed_everywhere(
    xata: Xata, kind: str, kills: Kills, *, fewest: int, made_before: bool = False
) -> AsyncIterator[tuple[str, str]]:
    """Users whose event was killed at one await, a later one, … until one comes through unharmed."""
    for point in kills.points():
        user = new_user()
        if made_before:
            await deliver(xata.world().effect(), _event("user.created", user))
        world = xata.world()
        with _killed_at(point, world):
            survived = await _survived(world.effect(holdback=AT_ONCE), _event(kind, user))
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
