from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from consumer import databases
from consumer.database_state import State
from consumer.providers.protocol import QuotaBlocked
from consumer.providers.regions import RegionMap
from consumer.provision_database import ProvisionDatabase
from local.ports import free_port
from local.postgres import PostgresCluster
from shared import migrations
from shared import postgres as shared_postgres
from shared.errors import (
    DependencyDown,
    NotYet,
    PermanentError,
    PublishError,
    ThrottledError,
    TransientError,
)
from shared.events import DatabaseEvent, decode, encode
from tests.consumer.provisioning import (
    AT_ONCE,
    WEEK,
    Scripted,
    World,
    deliver,
    new_user,
    postgres_provider,
)
from tests.support.events import user_event


class TestCreating:
    async def test_a_created_user_gets_a_database_with_the_schema(self, world: World, user: str) -> None:
        await world.effect()(user_event("user.created", user))

        row = await world.row(user)
        assert row.state is State.READY
        assert row.name == user
        assert row.region == "local"
        assert row.attempts == 1
        assert row.schema_version == len(migrations.user_migrations())
        connection = await asyncpg.connect(await world.provider.connection_url(row.known))
        assert await connection.fetchval("select count(*) from notes") == 0
        await connection.close()

    async def test_a_creation_that_comes_again_changes_nothing(self, world: World, user: str) -> None:
        event = user_event("user.created", user)
        await world.effect()(event)
        before = await world.row(user)

        await world.effect()(event)
        await world.effect()(user_event("user.created", user))

        assert await world.row(user) == before
        assert len(world.announced) == 1

    async def test_an_update_creates_nothing(self, world: World, user: str) -> None:
        await world.effect()(user_event("user.updated", user))

        assert not await world.exists(user)
        assert await world.pool.fetchval("select count(*) from databases") == 0

    async def test_an_id_that_is_no_clerk_id_gets_a_database_too(self, world: World) -> None:
        user = f"crm/{new_user()}'\""

        await world.effect()(user_event("user.created", user))

        [found] = await world.at_provider(user)
        assert found.user_id == user
        await world.provider.delete((await world.row(user)).known)

    async def test_the_region_is_chosen_once_and_kept(self, world: World, user: str, scripted: Scripted) -> None:
        regions = RegionMap("us", frozenset({"us", "eu"}), by_country={"GB": "eu"})
        effect = ProvisionDatabase(world.pool, scripted, regions, WEEK, world.announce)
        scripted.create_errors = [NotYet("still at it", 5), NotYet("still at it", 5)]
        with pytest.raises(NotYet):
            await effect(user_event("user.created", user, country="GB"))
        assert (await world.row(user)).region == "eu"

        with pytest.raises(NotYet):
            await effect(user_event("user.created", user, country="US"))

        assert (await world.row(user)).region == "eu"

    async def test_a_strangers_database_of_that_name_is_a_permanent_failure_with_its_reason(
        self, world: World, user: str
    ) -> None:
        await world.pool.execute(f'create database "{user}"')

        with pytest.raises(PermanentError):
            await world.effect()(user_event("user.created", user))

        row = await world.row(user)
        assert row.state is State.FAILED
        assert user in (row.reason or "")

    async def test_a_redrive_after_the_stranger_has_gone_takes_it_up_again(self, world: World, user: str) -> None:
        event = user_event("user.created", user)
        await world.pool.execute(f'create database "{user}"')
        with pytest.raises(PermanentError):
            await world.effect()(event)
        await world.pool.execute(f'drop database "{user}"')

        await world.effect()(event)

        row = await world.row(user)
        assert (row.state, row.reason, row.attempts) == (State.READY, None, 2)


class TestWaitingAndFailing:
    async def test_a_provider_that_is_still_at_it_is_waited_for_within_one_attempt(
        self, world: World, user: str, scripted: Scripted
    ) -> None:
        event = user_event("user.created", user)
        scripted.create_errors = [NotYet("template is not ready", 5)]
        scripted.prepare_errors = [NotYet("setting up", 5), NotYet("setting up", 5)]
        effect = world.effect(provider=scripted)
        for _ in range(3):
            with pytest.raises(NotYet):
                await effect(event)
            assert (await world.row(user)).state is State.CREATING

        await effect(event)

        row = await world.row(user)
        assert (row.state, row.attempts) == (State.READY, 1)

    async def test_where_the_provider_put_it_is_known_while_it_is_waited_for(
        self, world: World, user: str, scripted: Scripted
    ) -> None:
        scripted.prepare_errors = [NotYet("setting up", 5)]

        with pytest.raises(NotYet):
            await world.effect(provider=scripted)(user_event("user.created", user))

        row = await world.row(user)
        [found] = await world.at_provider(user)
        assert row.provider_id == found.provider_id

    async def test_a_full_quota_is_a_state_with_a_reason_and_goes_on_when_there_is_room(
        self, world: World, user: str, scripted: Scripted
    ) -> None:
        event = user_event("user.created", user)
        scripted.create_errors = [QuotaBlocked("all projects are full", 1800)]
        with pytest.raises(NotYet) as caught:
            await world.effect(provider=scripted)(event)
        blocked = await world.row(user)

        await world.effect(provider=scripted)(event)

        assert caught.value.retry_after_s == 1800
        assert (blocked.state, blocked.reason) == (State.QUOTA_BLOCKED, "all projects are full")
        ready = await world.row(user)
        assert (ready.state, ready.reason, ready.attempts) == (State.READY, None, 2)

    @pytest.mark.parametrize("error", [DependencyDown("connect refused"), ThrottledError("slow down", 60)])
    async def test_what_is_not_this_databases_fault_does_not_mark_it_failed(
        self, world: World, user: str, scripted: Scripted, error: Exception
    ) -> None:
        scripted.create_errors = [error]

        with pytest.raises(type(error)):
            await world.effect(provider=scripted)(user_event("user.created", user))

        row = await world.row(user)
        assert (row.state, row.reason) == (State.CREATING, None)

    async def test_a_failure_that_may_pass_is_shown_until_the_next_attempt(
        self, world: World, user: str, scripted: Scripted
    ) -> None:
        event = user_event("user.created", user)
        scripted.create_errors = [TransientError("branch is in FAULT"), TransientError("branch is in FAULT")]
        effect = world.effect(provider=scripted)
        for attempts in (1, 2):
            with pytest.raises(TransientError):
                await effect(event)
            row = await world.row(user)
            assert (row.state, row.reason, row.attempts) == (State.FAILED, "branch is in FAULT", attempts)

        await effect(event)

        assert (await world.row(user)).state is State.READY

    async def test_the_text_of_a_bug_is_not_kept(self, world: World, user: str, scripted: Scripted) -> None:
        scripted.create_errors = [ValueError("ada@example.org")]

        with pytest.raises(ValueError, match="ada"):
            await world.effect(provider=scripted)(user_event("user.created", user))

        assert (await world.row(user)).reason == "bug: ValueError"

    async def test_a_server_that_is_down_is_a_dependency_that_is_down(self, world: World, user: str) -> None:
        nowhere = postgres_provider(f"postgresql://usher:password@127.0.0.1:{free_port()}/postgres")
        event = user_event("user.created", user)

        with pytest.raises(DependencyDown):
            await world.effect(provider=nowhere)(event)
        with pytest.raises(DependencyDown):
            await world.effect(provider=nowhere).check()

        await world.effect()(event)
        await world.effect().check()
        assert (await world.row(user)).attempts == 1

    async def test_a_control_database_that_is_down_is_a_dependency_that_is_down(self, world: World, user: str) -> None:
        url = f"postgresql://usher:password@127.0.0.1:{free_port()}/usher"
        pool = await shared_postgres.create_pool(url, max_size=2, name="tests")
        effect = World(pool, world.provider).effect()

        with pytest.raises(DependencyDown):
            await effect(user_event("user.created", user))
        with pytest.raises(DependencyDown):
            await effect.check()

        await pool.close()

    async def test_a_database_of_another_provider_is_left_to_a_consumer_that_has_it(
        self, world: World, user: str
    ) -> None:
        created, deleted = user_event("user.created", user), user_event("user.deleted", user)
        await world.effect()(created)
        await world.pool.execute("update databases set provider = 'elsewhere'")

        with pytest.raises(PermanentError, match="elsewhere"):
            await world.effect(holdback=AT_ONCE)(deleted)

        assert await world.exists(user)
        row = await world.row(user)
        assert row.state is State.DELETING
        assert "elsewhere" in (row.reason or "")


class TestAnnouncing:
    async def test_a_database_that_is_ready_is_announced_without_any_secret(
        self, world: World, postgres: PostgresCluster, user: str
    ) -> None:
        await world.effect()(user_event("user.created", user))

        [event] = world.announced
        assert decode(encode(event)).type == "database.ready"
        assert (event.subject, event.source, event.data.name) == (user, "usher/postgres", user)
        assert event.data.schema_version == len(migrations.user_migrations())
        assert postgres.password.encode() not in encode(event)
        assert (await world.row(user)).announced_at is not None

    async def test_an_announcement_that_was_not_confirmed_is_made_again_with_the_same_id(
        self, world: World, user: str
    ) -> None:
        event = user_event("user.created", user)
        tried: list[DatabaseEvent] = []

        async def unconfirmed(announcement: DatabaseEvent) -> None:
            tried.append(announcement)
            raise PublishError("not confirmed")

        provider, regions = world.provider, RegionMap.single("local")
        with pytest.raises(PublishError):
            await ProvisionDatabase(world.pool, provider, regions, WEEK, unconfirmed)(event)

        await world.effect()(event)

        assert world.announced == tried
        assert (await world.row(user)).state is State.READY


class TestDeleting:
    async def test_a_ready_database_is_held_back_and_the_event_waits_for_it(self, world: World, user: str) -> None:
        await world.effect()(user_event("user.created", user))

        with pytest.raises(NotYet) as caught:
            await world.effect(holdback=timedelta(days=7))(user_event("user.deleted", user))

        assert 7 * 86400 - 60 < caught.value.retry_after_s <= 7 * 86400
        assert (await world.row(user)).state is State.HELD
        assert await world.exists(user)

    async def test_a_deletion_that_comes_again_does_not_prolong_the_holdback(self, world: World, user: str) -> None:
        deletion = user_event("user.deleted", user)
        await world.effect()(user_event("user.created", user))
        await deliver(world.effect(), deletion)
        before = await world.row(user)

        for event in (deletion, user_event("user.deleted", user), user_event("user.updated", user)):
            await deliver(world.effect(), event)

        assert (await world.row(user)).erase_after == before.erase_after

    async def test_a_database_is_deleted_when_its_time_has_come(self, world: World, user: str) -> None:
        deletion = user_event("user.deleted", user)
        await world.effect()(user_event("user.created", user))
        await deliver(world.effect(), deletion)
        await world.let_it_be_due(user)

        await world.effect()(deletion)

        row = await world.row(user)
        assert (row.state, row.erase_after) == (State.DELETED, None)
        assert row.deleted_at is not None
        assert not await world.exists(user)

    async def test_without_a_holdback_it_is_deleted_at_once(self, world: World, user: str) -> None:
        await world.effect()(user_event("user.created", user))

        await world.effect(holdback=AT_ONCE)(user_event("user.deleted", user))

        assert (await world.row(user)).state is State.DELETED
        assert not await world.exists(user)

    async def test_a_creation_after_the_deletion_creates_nothing(
        self, world: World, user: str, scripted: Scripted
    ) -> None:
        await world.effect(provider=scripted)(user_event("user.deleted", user))

        await world.effect(provider=scripted)(user_event("user.created", user))

        row = await world.row(user)
        assert (row.state, row.attempts) == (State.DELETED, 0)
        assert not await world.exists(user)
        assert scripted.deletions == 0

    @pytest.mark.parametrize(
        "error", [NotYet("setting up", 5), QuotaBlocked("full", 5), PermanentError("refused"), DependencyDown("down")]
    )
    async def test_a_database_that_never_was_ready_is_deleted_without_a_holdback(
        self, world: World, user: str, scripted: Scripted, error: Exception
    ) -> None:
        scripted.prepare_errors = [error]
        with pytest.raises(type(error)):
            await world.effect(provider=scripted)(user_event("user.created", user))
        assert await world.exists(user)

        await world.effect()(user_event("user.deleted", user))

        assert (await world.row(user)).state is State.DELETED
        assert not await world.exists(user)

    async def test_a_deletion_that_the_provider_refuses_shows_why_and_is_taken_up_by_a_redrive(
        self, world: World, user: str, scripted: Scripted
    ) -> None:
        deletion = user_event("user.deleted", user)
        await world.effect()(user_event("user.created", user))
        scripted.delete_errors = [PermanentError("protected by the operator")]
        with pytest.raises(PermanentError):
            await world.effect(provider=scripted, holdback=AT_ONCE)(deletion)
        refused = await world.row(user)

        await world.effect(provider=scripted, holdback=AT_ONCE)(deletion)

        assert (refused.state, refused.reason) == (State.DELETING, "protected by the operator")
        row = await world.row(user)
        assert (row.state, row.reason) == (State.DELETED, None)


class TestCancellingADeletion:
    async def test_the_waiting_deletion_ends_and_the_database_stays(self, world: World, user: str) -> None:
        deletion = user_event("user.deleted", user)
        await world.effect()(user_event("user.created", user))
        await deliver(world.effect(), deletion)

        assert await _cancel(world, user)
        await world.effect(holdback=AT_ONCE)(deletion)

        assert (await world.row(user)).state is State.READY
        assert await world.exists(user)
        assert len(world.announced) == 1

    async def test_an_earlier_deletion_under_another_id_is_void_too(self, world: World, user: str) -> None:
        await world.effect()(user_event("user.created", user))
        await deliver(world.effect(), user_event("user.deleted", user))
        await _cancel(world, user)

        await world.effect(holdback=AT_ONCE)(user_event("user.deleted", user))

        assert (await world.row(user)).state is State.READY

    async def test_a_deletion_that_comes_again_stays_void_whatever_its_time(self, world: World, user: str) -> None:
        deletion = replace(user_event("user.deleted", user), time=datetime.now(UTC) + timedelta(minutes=5))
        await world.effect()(user_event("user.created", user))
        await deliver(world.effect(), deletion)
        await _cancel(world, user)

        await world.effect(holdback=AT_ONCE)(deletion)

        assert (await world.row(user)).state is State.READY

    async def test_a_deletion_that_happened_later_counts(self, world: World, user: str) -> None:
        await world.effect()(user_event("user.created", user))
        await deliver(world.effect(), user_event("user.deleted", user))
        await _cancel(world, user)
        await world.pool.execute("update databases set cancelled_at = '2026-01-01T00:00:00Z'")

        await world.effect(holdback=AT_ONCE)(user_event("user.deleted", user))

        assert (await world.row(user)).state is State.DELETED

    async def test_only_what_is_held_can_be_kept(self, world: World, user: str) -> None:
        assert not await _cancel(world, user)
        await world.effect()(user_event("user.created", user))
        assert not await _cancel(world, user)
        await world.effect(holdback=AT_ONCE)(user_event("user.deleted", user))
        assert not await _cancel(world, user)


async def _cancel(world: World, user: str) -> bool:
    async with world.pool.acquire() as connection:
        return await databases.cancel_deletion(connection, user)
