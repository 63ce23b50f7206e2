"""Scenario `users`: the same work with millions of users in the tables, and with none."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import asyncpg

from bench import critical_time, drain, sync_user
from bench.bench import Bench
from bench.results import Section, Series, Table, at_least

_FILL_TIMEOUT_S: Final = 900.0
_RATE: Final = 500
_EVENTS_PER_S: Final = 8_000

# Ids spread over the index, as real ones are. Indexes are built afterwards, from their own definitions.
_INDEXES: Final = """
select indexdef, format('drop index %I', indexname) as drop from pg_indexes
where schemaname = 'public' and tablename = 'users' and indexname <> 'users_pkey'
"""
_ROOM: Final = "set maintenance_work_mem = '512MB'"
_DROP_KEYS: Final = """
alter table users drop constraint users_pkey;
alter table user_guards drop constraint user_guards_pkey
"""
_ADD_KEYS: Final = """
alter table users add constraint users_pkey primary key (user_id);
alter table user_guards add constraint user_guards_pkey primary key (user_id)
"""
_USERS: Final = """
insert into users (user_id, email, username, first_name, last_name, photo_url, created_at, updated_at)
select 'user_' || left(md5(number::text), 27), number || '@example.com', 'name-' || number, 'Ada', 'Lovelace',
    'https://img.clerk.com/' || number, now(), now()
from generate_series(1, $1::int) as number
"""
_GUARDS: Final = """
insert into user_guards (user_id, deleted, version, event_id, event_time)
select 'user_' || left(md5(number::text), 27), false, 1, 'msg_' || number, now()
from generate_series(1, $1::int) as number
"""


async def run(bench: Bench) -> Section:
    empty, full = await bench.servers.database(), await bench.servers.database()
    bench.say(f"users: filling the tables with {bench.plan.users:,} users")
    filled_s = await _fill(full, bench.plan.users)
    rates: dict[str, Series] = {empty: Series(), full: Series()}
    times = {url: {_RATE: critical_time.Cell()} for url in rates}
    for number in range(bench.rounds):
        for url, series in rates.items():
            bench.say(f"users: round {number + 1}, {'no' if url == empty else f'{bench.plan.users:,}'} users")
            events = drain.distinct(f"u{number}", int(_EVENTS_PER_S * bench.seconds))
            series.add((await sync_user.drained(bench, 1, events, url)).per_s)
            await critical_time.measure(bench, url, times[url])
    await bench.servers.drop(full)
    return _section(bench, filled_s, (empty, full), rates, times)


async def _fill(url: str, users: int) -> float:
    started = time.perf_counter()
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(_FILL_TIMEOUT_S):
            await connection.execute(_ROOM)
            indexes = await connection.fetch(_INDEXES)
            for index in indexes:
                await connection.execute(index["drop"])
            await connection.execute(_DROP_KEYS)
            await connection.execute(_USERS, users)
            await connection.execute(_GUARDS, users)
            await connection.execute(_ADD_KEYS)
            for index in indexes:
                await connection.execute(index["indexdef"])
            await connection.execute("vacuum analyze users, user_guards")
            await connection.execute("checkpoint")
    finally:
        await connection.close()
    return time.perf_counter() - started


def _section(
    bench: Bench,
    filled_s: float,
    urls: tuple[str, str],
    rates: dict[str, Series],
    times: dict[str, dict[int, critical_time.Cell]],
) -> Section:
    names = ("none", f"{bench.plan.users:,}")
    rows = [
        [name, rates[url].text(), times[url][_RATE].p50_ms.text(1), times[url][_RATE].p99_ms.text(1)]
        for name, url in zip(names, urls, strict=True)
    ]
    return Section(
        "With many users in the tables",
        f"`sync_user` on a full queue, and the critical time at {_RATE}/s. Ids are spread over the index, as real ones "
        f"are. Filling the tables took {filled_s:.0f} s.",
        tables=[Table(["users before", "events/s", "critical time: p50 ms", "p99 ms"], rows)],
        targets=[at_least(f"with {names[1]} users to none", 0.8, rates[urls[1]].ratio(rates[urls[0]]))],
        samples={name: rates[url].samples for name, url in zip(names, urls, strict=True)},
    )
