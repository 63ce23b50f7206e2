"""The users table: what each event does, and that their order does not matter."""

import asyncio
import itertools
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumer.sync_user import SyncUser
from consumer.users import Synced, sync, sync_all
from shared.errors import DependencyDown, PermanentError
from shared.events import UserEvent
from shared.postgres import create_pool
from tests.support.events import user_event
from tests.support.eventually import eventually


async def _user(pool: Any, user: str = "user_2abc") -> dict[str, Any] | None:
    row = await pool.fetchrow("select * from users where user_id = $1", user)
    return None if row is None else dict(row)


async def _guard(pool: Any, user: str = "user_2abc") -> dict[str, Any]:
    return dict(await pool.fetchrow("select * from user_guards where user_id = $1", user))


async def test_a_created_user_has_a_row_with_every_mapped_field(pool: Any) -> None:
    event = user_event(
        last_name="Lovelace",
        photo_url="https://img.clerk.com/x",
        phone_number="+441234",
        external_id="crm-7",
        version=1_763_650_000_050,
    )
    assert await sync(pool, event) is Synced.APPLIED
    row = await _user(pool)
    assert row is not None
    assert row.pop("synced_at") is not None
    assert row == {
        "user_id": "user_2abc",
        "email": "ada@example.org",
        "username": "ada",
        "first_name": "Ada",
        "last_name": "Lovelace",
        "photo_url": "https://img.clerk.com/x",
        "phone_number": "+441234",
        "external_id": "crm-7",
        "created_at": datetime.fromtimestamp(1_763_650_000, UTC),
        "updated_at": datetime.fromtimestamp(1_763_650_000.05, UTC),
    }


async def test_an_update_changes_the_row_and_keeps_no_old_value(pool: Any) -> None:
    await sync(pool, user_event(version=1, last_name="Byron"))
    await sync(pool, user_event("user.updated", version=2, email="new@example.org", last_name=None))
    row = await _user(pool)
    assert row is not None
    assert (row["email"], row["last_name"]) == ("new@example.org", None)


async def test_an_older_update_that_comes_late_changes_nothing(pool: Any) -> None:
    await sync(pool, user_event("user.updated", version=2, email="new@example.org"))
    assert await sync(pool, user_event(version=1, email="old@example.org")) is Synced.STALE
    row = await _user(pool)
    assert row is not None
    assert row["email"] == "new@example.org"


async def test_a_deletion_removes_the_row_and_leaves_a_tombstone_without_personal_data(pool: Any) -> None:
    await sync(pool, user_event(version=1))
    await sync(pool, user_event("user.deleted", event_id="msg_del"))
    assert await _user(pool) is None
    guard = await _guard(pool)
    assert guard.pop("settled_at") is not None
    assert guard == {
        "user_id": "user_2abc",
        "deleted": True,
        "version": 0,
        "event_id": "msg_del",
        "event_time": user_event().time,
    }


async def test_nothing_brings_a_deleted_user_back(pool: Any) -> None:
    await sync(pool, user_event("user.deleted"))
    for kind, version in itertools.product(("user.created", "user.updated"), (1, 2**62)):
        assert await sync(pool, user_event(kind, version=version)) is Synced.STALE  # type: ignore[arg-type] # literals
    assert await _user(pool) is None


async def test_two_users_may_hold_one_email_and_one_username_for_a_moment(pool: Any) -> None:
    await sync(pool, user_event(user="user_1"))
    await sync(pool, user_event(user="user_2"))
    assert await pool.fetchval("select count(*) from users where email = 'ada@example.org'") == 2


async def test_a_deletion_cascades_to_what_applications_hang_on_the_user(pool: Any) -> None:
    await pool.execute("create table orders (user_id text references users on delete cascade)")
    await sync(pool, user_event(version=1))
    await pool.execute("insert into orders values ('user_2abc')")
    await sync(pool, user_event("user.deleted"))
    assert await pool.fetchval("select count(*) from orders") == 0


async def test_a_table_that_forbids_the_deletion_is_named_and_the_user_stays_whole(pool: Any) -> None:
    await pool.execute("create table orders (user_id text references users)")
    await sync(pool, user_event(version=1))
    await pool.execute("insert into orders values ('user_2abc')")
    with pytest.raises(PermanentError, match=r"table orders .*orders_user_id_fkey, then redrive"):
        await sync(pool, user_event("user.deleted"))
    assert await _user(pool) is not None
    assert (await _guard(pool))["deleted"] is False


@pytest.mark.parametrize("milliseconds", [-(2**63), 2**63 - 1])
async def test_absurd_times_are_stored_as_the_events_own(pool: Any, milliseconds: int) -> None:
    event = user_event(version=milliseconds, created_at=milliseconds)
    await sync(pool, event)
    row = await _user(pool)
    assert row is not None
    assert (row["created_at"], row["updated_at"]) == (event.time, event.time)


async def test_a_deletion_that_waits_for_a_concurrent_creation_still_removes_the_row(pool: Any) -> None:
    # The creation has inserted but not committed; the deletion waits on the guard's row lock and must see the row then.
    async with pool.acquire() as connection:
        creating = connection.transaction()
        await creating.start()
        await sync(_Pooled(connection), user_event(version=1))  # type: ignore[arg-type] # a pool of this one connection
        deleting = asyncio.create_task(sync(pool, user_event("user.deleted")))
        waiting = (
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        )
        await eventually(lambda: pool.fetchval(waiting), what="the deletion waits for the lock")
        await creating.commit()
    assert await deleting is Synced.APPLIED
    assert await _user(pool) is None


async def test_postgres_being_away_is_an_outage_not_a_failure() -> None:
    away = await create_pool("postgresql://usher:x@127.0.0.1:1/usher", max_size=1, name="tests")
    first, second = await SyncUser(away)([user_event(), user_event(user="user_other")])
    assert isinstance(first, DependencyDown)
    assert isinstance(second, DependencyDown)
    await away.close()


class _Pooled:
    """One connection with the face of a pool."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def fetch(self, *arguments: Any) -> Any:
        return await self._connection.fetch(*arguments)


async def test_updates_of_some_users_of_a_full_table_touch_no_index(pool: Any) -> None:
    await sync_all(pool, [user_event(user=f"user_{number}", version=1) for number in range(500)])
    updates = [
        user_event("user.updated", user=f"user_{number}", version=2, first_name="A") for number in range(0, 400, 40)
    ]
    async with pool.acquire() as connection, connection.transaction():
        await sync_all(_Pooled(connection), updates)  # type: ignore[arg-type] # as above
        for table in ("users", "user_guards"):
            in_page = "select pg_stat_get_xact_tuples_hot_updated($1::regclass)"
            assert await connection.fetchval(in_page, table) == len(updates)


# The order theorem -------------------------------------------------------------------------------------------------

_HISTORIES = st.lists(
    st.tuples(
        st.sampled_from(["user.created", "user.updated", "user.updated", "user.deleted"]),
        st.integers(1, 4),  # few versions, so that equal ones meet
        st.sampled_from(["a@example.org", "b@example.org", None]),
    ),
    min_size=1,
    max_size=4,
)


def _events(user: str, history: Sequence[tuple[Any, int, str | None]]) -> list[UserEvent]:
    return [
        user_event(kind, user, version=version, email=email, event_id=f"msg_{number}")
        for number, (kind, version, email) in enumerate(history)
    ]


def _expected(events: Sequence[UserEvent]) -> tuple[str | None, bool]:
    """The greatest state in the order (deleted, version, event id), computed without the database."""
    greatest = max(events, key=lambda event: (event.type == "user.deleted", event.data.version or 0, event.id))
    return greatest.data.email, greatest.type == "user.deleted"


async def _assert_state(pool: Any, user: str, events: Sequence[UserEvent]) -> None:
    email, deleted = _expected(events)
    row = await _user(pool, user)
    assert (row is None) is deleted
    if row is not None:
        assert row["email"] == email


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=_HISTORIES)
async def test_every_permutation_with_duplicates_ends_in_the_same_row(pool: Any, history: Any) -> None:
    base = _events("user_p", history)
    for order in itertools.permutations(range(len(base))):
        user = f"user_{uuid4().hex}"
        events = _events(user, history)
        for index in order:
            await sync(pool, events[index])
        await sync(pool, events[order[0]])  # a duplicate, after everything
        await _assert_state(pool, user, events)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=_HISTORIES, seed=st.integers(0, 2**32))
async def test_several_consumers_at_once_end_in_the_same_row(pool: Any, history: Any, seed: int) -> None:
    users = [f"user_{uuid4().hex}" for _ in range(5)]
    events = [event for user in users for event in _events(user, history)] * 2
    random.Random(seed).shuffle(events)
    shares = [events[start::3] for start in range(3)]

    async def consume(share: list[UserEvent]) -> None:
        for event in share:
            await sync(pool, event)

    await asyncio.gather(*(consume(share) for share in shares))
    for user in users:
        await _assert_state(pool, user, _events(user, history))
