"""Scenario `users`: the same work with millions of users in the tables, with thousands, and with none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from random import Random
from typing import Final

import asyncpg
import psutil

from bench import critical_time, drain, sync_user
from bench.bench import Bench
from bench.results import Section, Series, Table, at_least
from shared.events import UserEvent

_FILL_TIMEOUT_S: Final = 900.0
_RATE: Final = 500
_EVENTS_PER_S: Final = 8_000

# Ids begin with the time of creation, as Clerk's do: users were created in equal steps over two years. Their e-mail
# addresses and names lie anywhere in the index. Indexes are built afterwards, from their own definitions.
_FIRST_S: Final = 1_700_000_000
_YEARS_S: Final = 60_000_000
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
_PEOPLE: Final = """
create temporary table people as
select 'user_' || to_hex($2::bigint + number * $3::bigint / $1::int) || left(md5($4 || 'id' || number), 19) as user_id,
    md5($4 || 'e-mail' || number) as email, md5($4 || 'name' || number) as username,
    md5($4 || 'event' || number) as event
from generate_series(1, $1::int) as number
"""
_USERS: Final = """
insert into users (user_id, email, username, first_name, last_name, photo_url, created_at, updated_at)
select user_id, left(email, 12) || '@example.com', left(username, 12), 'Ada', 'Lovelace',
    'https://img.clerk.com/' || username, now(), now()
from people
"""
_GUARDS: Final = """
insert into user_guards (user_id, deleted, version, event_id, event_time)
select user_id, false, 1, 'msg_' || left(event, 27), now() from people
"""
# One more for so many: enough for a few rows on every page of every index.
_ONE_IN: Final = 25
_WAL: Final = "select wal_bytes::float8 from pg_stat_wal"
_FEW: Final = 10_000
NEW: Final = "created now"
ANY_TIME: Final = "created at any time"
_LATER: Final = "between checkpoints"
_AT_ONCE: Final = "right after one"
# Users in the tables; new users; when they come.
_Case = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Cell:
    """How fast, and what an event costs Postgres: figures that noise hardly touches."""

    per_s: Series = field(default_factory=Series)
    cpu_us: Series = field(default_factory=Series)
    wal_kb: Series = field(default_factory=Series)


async def run(bench: Bench) -> Section:
    none, few, many = "none", f"{_FEW:,}", f"{bench.plan.users:,}"
    urls = {name: await bench.servers.database() for name in (none, few, many)}
    bench.say(f"users: filling the tables with {many} users")
    if few != many:
        await fill(urls[few], _FEW)
    filled_s = await fill(urls[many], bench.plan.users)
    cases: list[_Case] = [(name, NEW, _LATER) for name in urls if name != many]
    cases += [(many, NEW, _LATER), (many, NEW, _AT_ONCE), (many, ANY_TIME, _AT_ONCE)]
    cells = {case: Cell() for case in cases}
    times = {name: {_RATE: critical_time.Cell()} for name in urls}
    for number in range(bench.rounds):
        await _touch(urls[many], f"touched {number} ", bench.plan.users // _ONE_IN)
        for case, cell in cells.items():
            bench.say(f"users: round {number + 1}, {', '.join(case)}")
            await _drain(bench, case, f"u{number}", urls[case[0]], cell)
        for name, url in urls.items():
            await critical_time.measure(bench, url, times[name])
    await bench.servers.drop(urls[many])
    return _section(filled_s, cells, times)


async def _drain(bench: Bench, case: _Case, tag: str, url: str, cell: Cell) -> None:
    _, created, when = case
    events = created_users(created, f"{tag} {when} ", int(_EVENTS_PER_S * bench.seconds))
    if when == _AT_ONCE:
        await bench.servers.as_admin("checkpoint")
    cpu_before, wal_before = await _spent(bench)
    drained = await sync_user.drained(bench, 1, events, url)
    cpu, wal = await _spent(bench)
    cell.per_s.add(drained.per_s)
    cell.cpu_us.add((cpu - cpu_before) / len(events) * 1e6)
    cell.wal_kb.add((wal - wal_before) / len(events) / 1000)


async def _spent(bench: Bench) -> tuple[float, float]:
    """CPU seconds of Postgres, ended backends included, and bytes of its write-ahead log."""
    postmaster = psutil.Process(bench.servers.postgres.pid)
    own = postmaster.cpu_times()
    living = [child.cpu_times() for child in postmaster.children()]
    cpu = sum(own[:4]) + sum(times.user + times.system for times in living)
    wal = await bench.servers.as_admin(_WAL)
    assert isinstance(wal, float)
    return cpu, wal


def created_users(when: str, tag: str, count: int) -> list[UserEvent]:
    """New users whose ids, e-mail addresses and names lie where those of the filled tables do."""
    random = Random(tag)  # noqa: S311 - reproducible, no secret
    second: Callable[[], int] = {
        NEW: lambda: int(time.time()),
        ANY_TIME: lambda: _FIRST_S + random.randrange(_YEARS_S),
    }[when]
    return [_of_second(event, second()) for event in drain.distinct(f"{tag} {when} ", count)]


def _of_second(event: UserEvent, second: int) -> UserEvent:
    digits = sha256(event.id.encode()).hexdigest()
    data = replace(event.data, email=f"{digits[:12]}@example.com", username=digits[12:24])
    return replace(event, id=f"msg_{digits[24:51]}", subject=f"user_{second:x}{digits[45:]}", data=data)


async def fill(url: str, users: int) -> float:
    started = time.perf_counter()
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(_FILL_TIMEOUT_S):
            await connection.execute(_ROOM)
            indexes = await connection.fetch(_INDEXES)
            for index in indexes:
                await connection.execute(index["drop"])
            await connection.execute(_DROP_KEYS)
            await _insert(connection, "", users)
            await connection.execute(_ADD_KEYS)
            for index in indexes:
                await connection.execute(index["indexdef"])
            await connection.execute("vacuum analyze users, user_guards")
            await connection.execute("checkpoint")
    finally:
        await connection.close()
    return time.perf_counter() - started


async def _touch(url: str, tag: str, users: int) -> None:
    """Change every page after a checkpoint, as the seconds after it do: from then on changes alone are logged."""
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(_FILL_TIMEOUT_S):
            await connection.execute("checkpoint")
            await _insert(connection, tag, users)
    finally:
        await connection.close()


async def _insert(connection: asyncpg.Connection[asyncpg.Record], tag: str, users: int) -> None:
    await connection.execute(_PEOPLE, users, _FIRST_S, _YEARS_S, tag)
    await connection.execute(_USERS)
    await connection.execute(_GUARDS)


def _section(filled_s: float, cells: dict[_Case, Cell], times: dict[str, dict[int, critical_time.Cell]]) -> Section:
    none, *_, many = times
    base = cells[none, NEW, _LATER].per_s
    rows = [
        [*case, cell.per_s.text(), f"{cell.per_s.ratio(base):.2f}", cell.cpu_us.text(), cell.wal_kb.text(1)]
        for case, cell in cells.items()
    ]
    looked = [[name, cell[_RATE].p50_ms.text(1), cell[_RATE].p99_ms.text(1)] for name, cell in times.items()]
    return Section(
        "With many users in the tables",
        f"`sync_user` on a full queue of new users, and the critical time at {_RATE}/s; Postgres has a quarter of the "
        "memory. Ids begin with the time of creation, as Clerk's do, so new users' ids come last in the index; their "
        "addresses and names lie anywhere. A page's first change after a checkpoint is logged as the whole page: "
        "between checkpoints nearly every page has had it, right after one none. Users created at any time, right "
        "after a checkpoint, are the worst case: their ids, too, lie anywhere. "
        f"Filling the tables took {filled_s:.0f} s.",
        tables=[
            Table(
                ["users before", "new users", "when", "events/s", "to none", "Postgres: CPU, us each", "WAL, kB each"],
                rows,
            ),
            Table(["users before", "critical time: p50 ms", "p99 ms"], looked),
        ],
        targets=[at_least(f"with {many} users to none", 0.8, cells[many, NEW, _LATER].per_s.ratio(base))],
        samples={", ".join(case): cell.per_s.samples for case, cell in cells.items()},
    )
