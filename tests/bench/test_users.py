"""The tables of the scenario `users`: as after years of use, with new users where Clerk's new ids would lie."""

from __future__ import annotations

import asyncpg

from bench.fill import fill
from bench.users import ANY_TIME, NEW, created_users
from shared.events import UserEvent

USERS = 500
DEFINITIONS = "select indexdef from pg_indexes where schemaname = 'public' order by indexdef"
IN_ALL_TABLES = """
select count(*) from users join user_guards using (user_id) join databases using (user_id)
join xata_placements using (name)
"""


async def test_filled_tables_hold_each_user_and_its_guard_and_have_their_indexes_again(
    database_url: str, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    before = await pool.fetch(DEFINITIONS)
    await fill(database_url, USERS)
    assert await pool.fetchval(IN_ALL_TABLES) == USERS
    assert await pool.fetch(DEFINITIONS) == before
    assert await pool.fetchval("select reltuples from pg_class where relname = 'users'") == USERS


async def test_ids_of_users_created_now_come_after_all_others(
    database_url: str, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    await fill(database_url, USERS)
    last = await pool.fetchval('select max(user_id collate "C") from users')
    assert all(event.subject > last for event in created_users(NEW, "tag", 100))
    assert any(event.subject < last for event in created_users(ANY_TIME, "tag", 100))


def test_new_users_are_distinct_and_their_ids_as_long_as_clerks() -> None:
    events: list[UserEvent] = [*created_users(NEW, "a", 100), *created_users(NEW, "b", 100)]
    assert len({event.subject for event in events}) == len({event.id for event in events}) == 200
    assert {len(event.subject) for event in events} == {len("user_") + 27}
