"""Events in batches end as events one by one, and one that cannot be applied hinders no other."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumer.sync_user import SyncUser
from consumer.users import Synced, check, greatest, sync, sync_all
from shared import postgres
from shared.errors import DependencyDown, PermanentError, TransientError
from shared.events import UserEvent
from shared.postgres import create_pool
from tests.support.events import user_event

TABLES = ("users", "user_guards")


@pytest.fixture
async def impatient(database_url: str) -> AsyncIterator[Any]:
    """A pool that waits for locks only a moment."""
    pool = await create_pool(database_url, max_size=10, name="impatient", lock_timeout_s=0.3)
    yield pool
    await pool.close()


async def _rows(pool: Any, users: Sequence[str]) -> list[list[dict[str, Any]]]:
    """What is stored about `users`, without their names and the moments of storing."""
    found = []
    for table in TABLES:
        rows = await pool.fetch(f"select * from {table} where user_id = any($1) order by user_id", users)  # noqa: S608
        kept = [{key: row[key] for key in row.keys() if key not in {"synced_at", "settled_at"}} for row in rows]  # noqa: SIM118 - a record's keys
        found.append([row | {"user_id": list(users).index(row["user_id"])} for row in kept])
    return found


async def _emails(pool: Any) -> dict[str, str]:
    return {row["user_id"]: row["email"] for row in await pool.fetch("select user_id, email from users")}


async def test_a_batch_stores_the_greatest_of_each_users_events(pool: Any) -> None:
    events = [
        user_event("user.updated", "user_a", version=3, email="new@example.org"),
        user_event("user.created", "user_a", version=1),
        user_event("user.created", "user_b", version=1),
        user_event("user.deleted", "user_c"),
        user_event("user.updated", "user_c", version=9),
    ]
    assert await SyncUser(pool)(events) == [None] * 5
    assert await _emails(pool) == {"user_a": "new@example.org", "user_b": "ada@example.org"}


async def test_of_duplicates_in_one_batch_one_is_applied_and_the_others_are_stale(pool: Any) -> None:
    event, other = user_event(event_id="msg_1"), user_event(user="user_other", event_id="msg_2")
    assert await sync_all(pool, [event, event, other]) == [Synced.APPLIED, Synced.STALE, Synced.APPLIED]
    assert await sync_all(pool, [event, other]) == [Synced.STALE, Synced.STALE]


async def test_one_deletion_that_a_table_forbids_fails_alone(pool: Any) -> None:
    await pool.execute("create table orders (user_id text references users)")
    everybody = [f"user_{number}" for number in range(20)]
    assert await SyncUser(pool)([user_event(user=user, version=1) for user in everybody]) == [None] * 20
    await pool.execute("insert into orders values ('user_7')")
    batch = [
        user_event("user.deleted", user) if number % 7 == 0 else user_event("user.updated", user, version=2, email="n")
        for number, user in enumerate(everybody)
    ]
    results = await SyncUser(pool)(batch)
    assert [number for number, result in enumerate(results) if result is not None] == [7]
    assert isinstance(results[7], PermanentError)
    emails = await _emails(pool)
    assert sorted(emails) == sorted(set(everybody) - {"user_0", "user_14"})
    assert {email for user, email in emails.items() if user != "user_7"} == {"n"}


async def test_when_the_greatest_of_a_users_events_cannot_be_stored_the_next_one_is(pool: Any) -> None:
    await pool.execute("create table orders (user_id text references users)")
    await SyncUser(pool)([user_event(user="user_a", version=1)])
    await pool.execute("insert into orders values ('user_a')")
    batch = [
        user_event("user.updated", "user_a", version=2, email="second"),
        user_event("user.deleted", "user_a"),
        user_event("user.updated", "user_a", version=3, email="third"),
    ]
    results = await SyncUser(pool)(batch)
    assert [type(result) for result in results] == [type(None), PermanentError, type(None)]
    assert await _emails(pool) == {"user_a": "third"}


async def test_a_bug_that_one_event_meets_is_its_own(pool: Any) -> None:
    broken = user_event(user="user_broken", created_at="x")  # no decoded event has such a value
    results = await SyncUser(pool)([user_event(user="user_a"), broken, user_event(user="user_b")])
    assert (results[0], results[2]) == (None, None)
    assert isinstance(results[1], TypeError)
    assert sorted(await _emails(pool)) == ["user_a", "user_b"]


async def test_a_row_that_is_corrupt_is_its_users_own_trouble_and_no_outage(pool: Any) -> None:
    await pool.execute("""
        create function corrupt() returns trigger language plpgsql as $$
        begin raise exception 'could not read block' using errcode = 'data_corrupted'; end $$;
        create trigger corrupt before insert on users for each row when (new.user_id = 'user_bad')
        execute function corrupt();
    """)
    results = await SyncUser(pool)([user_event(user=f"user_{name}") for name in ("a", "bad", "z")])
    assert [type(result) for result in results] == [type(None), TransientError, type(None)]
    assert sorted(await _emails(pool)) == ["user_a", "user_z"]


async def test_a_user_whose_guard_somebody_holds_locked_delays_the_others_by_one_round(
    pool: Any, impatient: Any
) -> None:
    await SyncUser(pool)([user_event(user="user_locked", version=1)])
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("select 1 from user_guards where user_id = 'user_locked' for update")
        batch = [user_event("user.updated", user, version=2) for user in ("user_a", "user_locked", "user_z")]
        results = await SyncUser(impatient)(batch)
        assert [type(result) for result in results] == [type(None), TransientError, type(None)]
        assert sorted(await _emails(pool)) == ["user_a", "user_locked", "user_z"]
    assert await SyncUser(impatient)(batch) == [None] * 3


async def test_a_table_that_somebody_locks_as_a_whole_is_an_outage_and_no_attempt(pool: Any, impatient: Any) -> None:
    batch = [user_event(user=f"user_{name}") for name in "abc"]
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("lock table users in access exclusive mode")
        for events in (batch, batch[:1]):
            assert {type(result) for result in await SyncUser(impatient)(events)} == {DependencyDown}
        with pytest.raises(DependencyDown, match="lock"):
            await check(impatient)
    await check(impatient)
    assert await SyncUser(impatient)(batch) == [None] * 3


async def test_one_statement_that_never_ends_is_its_users_own_trouble_and_no_outage(
    pool: Any, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pool.execute("""
        create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(300); return new; end $$;
        create trigger slow before insert on users for each row when (new.user_id = 'user_bad')
        execute function slow();
    """)
    monkeypatch.setattr(postgres, "COMMAND_TIMEOUT_S", 2.0)
    hasty = await create_pool(database_url, max_size=10, name="hasty")
    results = await SyncUser(hasty)([user_event(user=f"user_{name}") for name in ("a", "bad", "z")])
    await hasty.close()
    assert [type(result) for result in results] == [type(None), TransientError, type(None)]
    assert sorted(await _emails(pool)) == ["user_a", "user_z"]


async def test_an_outage_that_only_writing_meets_is_not_asked_about_for_each_user(pool: Any) -> None:
    await pool.execute("""
        create sequence asked;
        create function full_disk() returns trigger language plpgsql as $$
        begin perform nextval('asked'); raise exception 'no space' using errcode = 'disk_full'; end $$;
        create trigger full_disk before insert on user_guards for each statement execute function full_disk();
    """)
    results = await SyncUser(pool, apart=4)([user_event(user=f"user_{number}") for number in range(40)])
    assert {type(result) for result in results} == {DependencyDown}
    assert await pool.fetchval("select last_value from asked") < 12


async def _conflicts(pool: Any, times: int) -> None:
    """The next `times` statements on the guards fail as a serialization conflict fails."""
    await pool.execute(f"""
        create sequence conflicts;
        create function conflict() returns trigger language plpgsql as $$
        begin
            if nextval('conflicts') <= {times} then
                raise exception 'could not serialize access' using errcode = 'serialization_failure';
            end if;
            return null;
        end $$;
        create trigger conflict before insert on user_guards for each statement execute function conflict();
    """)


async def test_a_conflict_that_passes_is_tried_again_at_once_as_a_whole(pool: Any) -> None:
    await _conflicts(pool, 1)
    assert await sync_all(pool, [user_event(user="user_a"), user_event("user.deleted", "user_b")]) == [
        Synced.APPLIED,
        Synced.APPLIED,
    ]
    assert await pool.fetchval("select last_value from conflicts") == 2


async def test_a_conflict_that_stays_is_a_transient_error_of_each_event(pool: Any) -> None:
    await _conflicts(pool, 1000)
    results = await SyncUser(pool)([user_event(user="user_a"), user_event(user="user_b")])
    assert [type(result) for result in results] == [TransientError] * 2


async def test_consumers_with_the_same_users_in_any_order_never_lock_each_other_out(pool: Any) -> None:
    users = [f"user_{number}" for number in range(60)]
    shuffled = random.Random(1)

    async def consume(consumer: int) -> list[Exception | None]:
        results: list[Exception | None] = []
        for version in range(1, 9):
            order = shuffled.sample(users, len(users))
            # Not through SyncUser, which would try again: one deadlock fails this test.
            kinds = [("user.deleted" if version == 8 and index % 9 == 0 else "user.updated") for index in range(60)]
            events = [
                user_event(kind, user, version=version, event_id=f"msg_{consumer}_{version}_{user}")  # type: ignore[arg-type] # literals
                for kind, user in zip(kinds, order, strict=True)
            ]
            await sync_all(pool, events)
        return results

    before = await pool.fetchval("select deadlocks from pg_stat_database where datname = current_database()")
    await asyncio.gather(*(consume(consumer) for consumer in range(4)))
    await pool.execute("select pg_stat_force_next_flush()")
    after = await pool.fetchval("select deadlocks from pg_stat_database where datname = current_database()")
    assert after == before


# The order theorem, for batches --------------------------------------------------------------------------------------

_HISTORY = st.lists(
    st.tuples(
        st.integers(0, 2),  # few users, so that their events meet in a batch
        st.sampled_from(["user.created", "user.updated", "user.updated", "user.deleted"]),
        st.integers(1, 3),
        st.sampled_from(["a@example.org", "b@example.org", None]),
        st.sampled_from(["msg_a", "msg_B", "msg_b", "msg_é", "msg_1"]),  # collations order these in other ways
    ),
    min_size=1,
    max_size=8,
)


def _events(users: Sequence[str], history: Sequence[tuple[int, Any, int, str | None, str]]) -> list[UserEvent]:
    # An id names one event: its number makes it so, after what collations differ about.
    return [
        user_event(kind, users[index], version=version, email=email, event_id=f"{event_id}_{number}")
        for number, (index, kind, version, email, event_id) in enumerate(history)
    ]


def _users() -> list[str]:
    return sorted(f"user_{uuid4().hex}" for _ in range(3))


def _batches(events: list[UserEvent], cuts: random.Random) -> list[list[UserEvent]]:
    batches: list[list[UserEvent]] = [[]]
    for event in events:
        if batches[-1] and cuts.random() < 0.3:
            batches.append([])
        batches[-1].append(event)
    return batches


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=_HISTORY, seed=st.integers(0, 2**32))
async def test_any_batches_of_any_order_with_duplicates_end_as_one_by_one(pool: Any, history: Any, seed: int) -> None:
    chance = random.Random(seed)
    alone, together, spread = _users(), _users(), _users()
    for event in _events(alone, history):
        await sync(pool, event)
    for users, consumers in ((together, 1), (spread, 3)):
        events = _events(users, history) * 2
        chance.shuffle(events)
        shares = [_batches(events[start::consumers], chance) for start in range(consumers) if events[start::consumers]]

        async def consume(batches: list[list[UserEvent]]) -> None:
            for batch in batches:
                assert await SyncUser(pool)(batch) == [None] * len(batch)

        await asyncio.gather(*(consume(share) for share in shares))
    expected = await _rows(pool, alone)
    assert await _rows(pool, together) == expected
    assert await _rows(pool, spread) == expected


@given(history=_HISTORY, order=st.randoms())
def test_merging_in_memory_keeps_the_same_event_in_any_order(history: Any, order: random.Random) -> None:
    events = _events(["user_a", "user_b", "user_c"], history)
    shuffled = events * 2
    order.shuffle(shuffled)
    assert greatest(shuffled) == greatest(events)
