"""From a branch that was created to a database that answers: waiting, breaking, sleeping; and taking it away."""

from __future__ import annotations

import asyncio
import time
from functools import partial

import asyncpg
import pytest

from consumer.providers.protocol import UserDatabase
from consumer.providers.xata.configuration import PoolWishes, Waiting
from consumer.providers.xata.provider import XataProvider
from local.xata import Fault, StatusType, XataStandIn
from shared.errors import DependencyDown, NotYet, PermanentError, TransientError
from tests.consumer.providers.contract import known, made, patiently
from tests.consumer.providers.xata_account import SOON, Account, new_wish


@pytest.fixture
def wanted() -> UserDatabase:
    return new_wish()


async def _created(provider: XataProvider, wanted: UserDatabase) -> UserDatabase:
    return known(wanted, await patiently(lambda: provider.create(wanted)))


async def _grow_older(account: Account, by: str) -> None:
    await account.pool.execute("update xata_placements set posted_at = posted_at - $1::text::interval", by)


class TestWaiting:
    async def test_a_worker_looks_for_a_few_moments_and_then_the_ladder_waits(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn, xata: XataProvider
    ) -> None:
        stand_in.behaviour.update(visible_after_s=0.0, healthy_after_s=3600.0)
        database = await _created(xata, wanted)
        began = time.monotonic()

        with pytest.raises(NotYet) as caught:
            await xata.prepare(database)

        assert time.monotonic() - began < 3
        assert caught.value.retry_after_s == 5
        assert account.asked("describeBranch") == len(SOON.polls_s) + 1

    async def test_the_longer_it_takes_the_seldomer_it_is_looked_at(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn
    ) -> None:
        stand_in.behaviour.update(visible_after_s=0.0, healthy_after_s=3600.0)
        provider = account.provider(waiting=Waiting(polls_s=()))
        database = await _created(provider, wanted)
        waits = []

        for older in ("0 s", "2 min", "10 min"):
            await _grow_older(account, older)
            with pytest.raises(NotYet) as caught:
                await provider.prepare(database)
            waits.append(caught.value.retry_after_s)

        assert waits == [5, 30, 300]

    async def test_far_too_late_is_a_failure_however_often_consumers_were_restarted(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn
    ) -> None:
        stand_in.behaviour.update(visible_after_s=0.0, healthy_after_s=3600.0)
        database = await _created(account.provider(), wanted)
        await _grow_older(account, "61 s")

        with pytest.raises(TransientError, match="not ready after 60 s"):
            await account.provider().prepare(database)

    async def test_not_visible_yet_is_waited_for(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn, xata: XataProvider
    ) -> None:
        stand_in.behaviour.update(visible_after_s=1.0, healthy_after_s=1.2, credentials_after_s=1.4)

        await made(xata, wanted)

        assert 404 in [request.status for request in stand_in.requests]
        assert account.branches_of(wanted)

    async def test_not_visible_for_long_though_listed_is_a_failure_and_is_not_made_again(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn
    ) -> None:
        stand_in.behaviour.update(visible_after_s=3600.0)
        database = await _created(account.provider(), wanted)
        await _grow_older(account, "21 s")

        with pytest.raises(TransientError, match="not to be found"):
            await account.provider().prepare(database)

        assert (await _created(account.provider(), wanted)).provider_id == database.provider_id

    async def test_a_branch_that_claims_to_sleep_before_it_is_there_is_waited_for(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn, xata: XataProvider
    ) -> None:
        stand_in.behaviour.update(visible_after_s=0.0, hibernated_at_first_s=1.0, healthy_after_s=1.5)

        database = await made(xata, wanted)

        assert account.branches_of(wanted) == [database.provider_id]

    async def test_a_sleeping_branch_is_ready(
        self, wanted: UserDatabase, stand_in: XataStandIn, xata: XataProvider
    ) -> None:
        database = await made(xata, wanted)
        stand_in.hibernate(database.provider_id or "")

        assert (await xata.prepare(database)).schema_version == 1

    async def test_a_database_that_lets_nobody_in_is_waited_for_and_is_no_outage(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn, xata: XataProvider
    ) -> None:
        stand_in.behaviour.update(healthy_after_s=3600.0, credentials_after_s=0.0)
        database = await _created(xata, wanted)
        stand_in.force_status(database.provider_id or "", StatusType.HEALTHY)

        with pytest.raises(NotYet, match="does not take connections"):
            await xata.prepare(database)
        await _grow_older(account, "61 s")
        with pytest.raises(TransientError, match="does not take connections") as caught:
            await xata.prepare(database)
        assert not isinstance(caught.value, DependencyDown)


class TestFault:
    async def test_a_broken_branch_is_looked_at_again_and_may_recover(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn, xata: XataProvider
    ) -> None:
        database = await _created(xata, wanted)
        stand_in.force_status(database.provider_id or "", StatusType.FAULT)
        with pytest.raises(TransientError, match="FAULT"):
            await xata.prepare(database)

        stand_in.force_status(database.provider_id or "", None)

        await patiently(lambda: xata.prepare(database))
        assert account.branches_of(wanted) == [database.provider_id]

    async def test_a_branch_that_stays_broken_is_kept_under_another_name_and_another_is_made(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn
    ) -> None:
        stand_in.behaviour.faulty_branches = 1
        broken = await _created(account.provider(), wanted)
        for _ in range(SOON.looks_at_fault):
            with pytest.raises(TransientError, match=f"FAULT.*{broken.provider_id}"):
                await patiently(lambda: account.provider().prepare(broken))  # consumers come and go

        database = await made(account.provider(), wanted)

        assert account.branches_of(wanted) == [database.provider_id]
        assert stand_in.branch(broken.provider_id or "").name == f"{wanted.name}-fault-1"

    async def test_after_some_broken_branches_it_is_given_up_with_their_ids(
        self, wanted: UserDatabase, stand_in: XataStandIn, xata: XataProvider
    ) -> None:
        stand_in.behaviour.faulty_branches = 99
        error: Exception | None = None

        for _ in range(20):
            try:
                await made(xata, wanted)
            except PermanentError as permanent:
                error = permanent
                break
            except TransientError:
                continue

        ids = [branch.id for branch in stand_in.live_branches()]
        assert len(ids) == SOON.branches_put_aside + 1
        assert all(branch_id in str(error) for branch_id in ids)

    async def test_broken_branches_go_with_their_user(
        self, wanted: UserDatabase, stand_in: XataStandIn, xata: XataProvider
    ) -> None:
        stand_in.behaviour.faulty_branches = 1
        broken = await _created(xata, wanted)
        for _ in range(SOON.looks_at_fault):
            with pytest.raises(TransientError):
                await patiently(lambda: xata.prepare(broken))
        database = await made(xata, wanted)
        assert {found.put_aside_from for found in await xata.inventory()} == {wanted.name, None}

        await xata.delete(database)

        assert stand_in.live_branches() == []


class TestDeleting:
    async def test_it_goes_by_name_over_all_projects_when_nothing_is_known(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn
    ) -> None:
        pool = PoolWishes((account.projects[0], stand_in.add_project("b"), stand_in.add_project("c")))
        await stand_in.add_branch(pool.given[1], wanted.name)

        await account.provider(pool=pool).delete(wanted)

        assert stand_in.live_branches() == []

    async def test_a_deletion_that_was_done_and_not_answered_succeeds(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn, xata: XataProvider
    ) -> None:
        database = await made(xata, wanted)
        stand_in.faults.add(Fault.hang(acts=True, method="DELETE", times=1))

        await xata.delete(database)

        assert stand_in.live_branches() == []
        assert await account.placement(wanted) is None

    async def test_it_waits_while_a_creation_without_an_answer_may_still_take_effect(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn, xata: XataProvider
    ) -> None:
        stand_in.faults.add(Fault.hang(method="POST", times=1))
        with pytest.raises(DependencyDown):
            await xata.create(wanted)
        await account.pool.execute("update xata_placements set unanswered_until = now() + interval '1 minute'")

        with pytest.raises(NotYet) as caught:
            await xata.delete(wanted)
        assert 50 < caught.value.retry_after_s <= 60

        late = await stand_in.add_branch(account.projects[0], wanted.name)
        await account.pool.execute("update xata_placements set unanswered_until = now()")
        await xata.delete(wanted)

        assert late not in [branch.id for branch in stand_in.live_branches()]
        assert await account.placement(wanted) is None

    async def test_a_deletion_in_a_project_that_is_gone_succeeds(
        self, account: Account, stand_in: XataStandIn, xata: XataProvider, wanted: UserDatabase
    ) -> None:
        gone = stand_in.add_project("gone")
        stand_in.cloud.delete_project(gone)

        await xata.delete(UserDatabase(wanted.user_id, wanted.name, None, gone, "q0c8h2m1tq7k5l9a3v6n4b2d1e"))

        assert await account.placement(wanted) is None

    async def test_other_users_are_left_alone(self, stand_in: XataStandIn, xata: XataProvider) -> None:
        one, other = new_wish(), new_wish()
        longer = UserDatabase(f"{one.user_id}x", f"{one.name}x", None)
        databases = [await made(xata, wanted) for wanted in (one, other, longer)]

        await xata.delete(databases[0])

        assert {branch.name for branch in stand_in.live_branches()} == {other.name, longer.name}

    async def test_deletions_and_creations_at_once_of_one_user_leave_one_branch_at_most(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn
    ) -> None:
        pool = PoolWishes((account.projects[0], stand_in.add_project("b")))
        providers = [account.provider(pool=pool) for _ in range(3)]

        for _ in range(5):
            await asyncio.gather(
                *(patiently(partial(each.create, wanted)) for each in providers),
                *(patiently(partial(each.delete, wanted)) for each in providers),
            )
            assert len(account.branches_of(wanted)) <= 1

        await patiently(lambda: providers[0].delete(wanted))
        assert account.branches_of(wanted) == []


class TestReading:
    async def test_the_url_is_fetched_fresh_and_works(
        self, wanted: UserDatabase, xata: XataProvider, account: Account
    ) -> None:
        database = await made(xata, wanted)
        connection = await asyncpg.connect(await xata.connection_url(database))
        assert await connection.fetchval("select count(*) from notes") == 0
        await connection.close()

        assert await account.provider().connection_url(UserDatabase(wanted.user_id, wanted.name, None))

    async def test_the_inventory_is_of_users_branches_in_all_projects(
        self, account: Account, stand_in: XataStandIn
    ) -> None:
        pool = PoolWishes((account.projects[0], stand_in.add_project("b")))
        await stand_in.add_branch(pool.given[1], "staging")
        orphan = await stand_in.add_branch(pool.given[1], "user_2orphan", region="eu-central-1")

        found = await account.provider(pool=pool).inventory()

        assert [(each.name, each.provider_id, each.project, each.region) for each in found] == [
            ("user_2orphan", orphan, pool.given[1], "eu-central-1")
        ]
