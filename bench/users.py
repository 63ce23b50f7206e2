"""Scenario `users`: the same work with millions of users in the tables, with thousands, and with none."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from random import Random
from typing import Final

import asyncpg
import psutil

from bench import critical_time, drain, provision, sync_user
from bench.bench import Bench
from bench.fill import FIRST_S, YEARS_S, fill, touch
from bench.programs import usher
from bench.results import Section, Series, Table, at_least
from shared.events import UserEvent

_RATE: Final = 500
_EVENTS_PER_S: Final = 8_000

# One more for so many: enough for a few rows on every page of every index.
_ONE_IN: Final = 25
_WAL: Final = "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8"
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


@dataclass(frozen=True, slots=True)
class Shape:
    """What else is measured with so many users in the tables."""

    times: dict[int, critical_time.Cell] = field(default_factory=lambda: {_RATE: critical_time.Cell()})
    created: Series = field(default_factory=Series)
    ready_s: Series = field(default_factory=Series)
    rss_mb: Series = field(default_factory=Series)


async def run(bench: Bench) -> Section:
    none, few, many = "none", f"{_FEW:,}", f"{bench.plan.users:,}"
    url = await bench.servers.database()
    bench.say(f"users: filling the tables with {many} users")
    filled_s = await fill(url, bench.plan.users)
    cells: dict[_Case, Cell] = {(name, NEW, _LATER): Cell() for name in (none, few, many)}
    cells |= {(many, NEW, _AT_ONCE): Cell(), (many, ANY_TIME, _AT_ONCE): Cell()}
    shapes = {name: Shape() for name in (none, few, many)}
    for number in range(bench.rounds):
        urls = {none: await bench.servers.database(), few: await bench.servers.database(), many: url}
        await fill(urls[few], _FEW)
        await touch(url, f"touched {number} ", bench.plan.users // _ONE_IN)
        for case, cell in cells.items():
            bench.say(f"users: round {number + 1}, {', '.join(case)}")
            await _drain(bench, case, f"u{number}", urls[case[0]], cell)
        for name, shape in shapes.items():
            bench.say(f"users: round {number + 1}, {name}, critical time and databases")
            await critical_time.measure(bench, urls[name], shape.times)
            await _create(bench, f"d{number} ", urls[name], shape)
    await bench.servers.drop(url)
    return _section(filled_s, cells, shapes)


async def _create(bench: Bench, tag: str, url: str, shape: Shape) -> None:
    # A pool of no projects: those of an earlier round are not there any more.
    connection = await asyncpg.connect(url)
    await connection.execute("delete from xata_projects")
    await connection.close()
    async with provision.xata(bench) as settings:
        events = created_users(NEW, tag, provision.at_once_count(bench))
        drained = await provision.at_once(bench, events, url, settings)
    shape.created.add(drained.per_s)
    shape.ready_s.add(drained.ready_after_s)
    shape.rss_mb.add(drained.rss_mb)


async def _drain(bench: Bench, case: _Case, tag: str, url: str, cell: Cell) -> None:
    """By a consumer that has been at it for a while: its connections have seen most pages of the indexes."""
    _, created, when = case
    count = int(_EVENTS_PER_S * bench.seconds)
    events = created_users(created, f"{tag} {when} ", count)
    program = usher(bench.servers, "consumer", "sync_user", database_url=url)
    await bench.servers.clear_broker()
    connection = await drain.watching(url)
    spent: list[float] = []

    async def begin() -> None:
        if when == _AT_ONCE:
            await bench.servers.as_admin("checkpoint")
        spent.extend(await _spent(bench))

    try:
        async with drain.standing(bench, [program]) as consumers:
            before = created_users(created, f"{tag} {when} before ", count)
            await drain.emptied(bench, consumers, _work(connection, before))
            drained = await drain.emptied(bench, consumers, _work(connection, events), when_full=begin)
            cpu, wal = (now - then for now, then in zip(await _spent(bench), spent, strict=True))
    finally:
        await connection.close()
    cell.per_s.add(drained.per_s)
    cell.cpu_us.add(cpu / count * 1e6)
    cell.wal_kb.add(wal / count / 1000)


def _work(connection: asyncpg.Connection[asyncpg.Record], events: list[UserEvent]) -> drain.Work:
    return drain.Work(sync_user.QUEUE, events, drain.Rows(connection, events).all_there)


async def _spent(bench: Bench) -> tuple[float, float]:
    """CPU seconds of Postgres, ended backends included, and bytes of its write-ahead log."""
    postmaster = psutil.Process(bench.servers.postgres.pid)
    living = 0.0
    for backend in postmaster.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            living += sum(backend.cpu_times()[:2])
    cpu = living + sum(postmaster.cpu_times()[:4])
    wal = await bench.servers.as_admin(_WAL)
    assert isinstance(wal, float)
    return cpu, wal


def created_users(when: str, tag: str, count: int) -> list[UserEvent]:
    """New users whose ids, e-mail addresses and names lie where those of the filled tables do."""
    random = Random(tag)  # noqa: S311 - reproducible, no secret
    second: Callable[[], int] = {
        NEW: lambda: int(time.time()),
        ANY_TIME: lambda: FIRST_S + random.randrange(YEARS_S),
    }[when]
    return [_of_second(event, second()) for event in drain.distinct(f"{tag} {when} ", count)]


def _of_second(event: UserEvent, second: int) -> UserEvent:
    digits = sha256(event.id.encode()).hexdigest()
    data = replace(event.data, email=f"{digits[:12]}@example.com", username=digits[12:24])
    return replace(event, id=f"msg_{digits[24:51]}", subject=f"user_{second:x}{digits[45:]}", data=data)


def _section(filled_s: float, cells: dict[_Case, Cell], shapes: dict[str, Shape]) -> Section:
    none, *_, many = shapes
    base = cells[none, NEW, _LATER].per_s
    rows = [
        [*case, cell.per_s.text(), f"{cell.per_s.ratio(base):.2f}", cell.cpu_us.text(), cell.wal_kb.text(1)]
        for case, cell in cells.items()
    ]
    return Section(
        "With many users in the tables",
        f"`sync_user` on a full queue of new users, and the critical time at {_RATE}/s; Postgres has a quarter of the "
        "memory, and the consumer has done as many events before the clock starts, with whose users the tables begin. "
        "Ids begin with the time of creation, as Clerk's do, so new users' ids come last in the index; their addresses "
        "and names lie anywhere. A page's first change after a checkpoint is logged as the whole page: between "
        "checkpoints nearly every page has had it, right after one none. Users created at any time, right after a "
        "checkpoint, are the worst case: their ids, too, lie anywhere. "
        f"Filling the tables took {filled_s:.0f} s.",
        tables=[
            Table(
                ["users before", "new users", "when", "events/s", "to none", "Postgres: CPU, us each", "WAL, kB each"],
                rows,
            ),
            _shapes(shapes),
        ],
        targets=[
            at_least(f"with {many} users to none: sync_user", 0.8, cells[many, NEW, _LATER].per_s.ratio(base)),
            at_least(f"with {many} users to none: databases", 0.8, shapes[many].created.ratio(shapes[none].created)),
        ],
        samples={", ".join(case): cell.per_s.samples for case, cell in cells.items()},
    )


def _shapes(shapes: dict[str, Shape]) -> Table:
    none = next(iter(shapes.values()))
    rows = [
        [
            name,
            shape.times[_RATE].p50_ms.text(1),
            shape.times[_RATE].p99_ms.text(1),
            shape.created.text(),
            f"{shape.created.ratio(none.created):.2f}",
            shape.ready_s.text(2),
            shape.rss_mb.text(),
        ]
        for name, shape in shapes.items()
    ]
    caption = (
        "The tables of databases and of places at Xata hold a row for each of these users, too. New ones go to Xata's "
        "stand-in, which has them healthy at once, into a pool of one project: with many, finding room reads a row of "
        "each. Ready, and how heavy: the consumer provision_database. The ingress knows no table."
    )
    headers = ["users before", "critical time: p50 ms", "p99 ms", "databases/s", "to none", "ready after s", "RSS MB"]
    return Table(headers, rows, caption)
