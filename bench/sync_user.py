"""Scenario `sync_user`: a full queue becomes rows; beside bare consuming and beside the loop that acks one by one."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import asyncpg

from bench import drain
from bench.bench import Bench
from bench.peers import install
from bench.programs import Program, closed, peer, usher
from bench.results import Plot, Section, Series, Table, Target, at_least
from shared.events import UserEvent
from shared.topology import queue_of

_PEERS: Final = Path(install.__file__).parent
QUEUE: Final = queue_of("sync_user")
BARE: Final = "bare consume, multiple ack"
ONE_BY_ONE: Final = "one by one"
MIXES: Final[dict[str, Callable[[str, int], list[UserEvent]]]] = {
    "all different": drain.distinct,
    "30 % duplicates": drain.with_duplicates,
    "ten hot users": drain.hot,
}
# So many events for each second that a measurement is to take; the slow loop gets a quarter.
_EVENTS_PER_S: Final = 8_000
_SLOWER: Final = 4

Rates = dict[tuple[str, str], Series]


async def run(bench: Bench) -> Section:
    rates: Rates = {}
    count = int(_EVENTS_PER_S * bench.seconds)
    for number in range(bench.rounds):
        tag = f"r{number}"
        for mix in MIXES:
            for copies in (1, 2):
                bench.say(f"sync_user: round {number + 1}, {copies} consumers, {mix}")
                _add(rates, _ours(copies), mix, await drained(bench, copies, MIXES[mix](tag, count)))
        bench.say(f"sync_user: round {number + 1}, peers")
        first = next(iter(MIXES))
        _add(rates, BARE, first, await _bare(bench, drain.distinct(tag, count)))
        _add(rates, ONE_BY_ONE, first, await _one_by_one(bench, drain.distinct(tag, count // _SLOWER)))
    return _section(rates, count)


async def drained(bench: Bench, copies: int, events: list[UserEvent], url: str | None = None) -> float:
    """Events a second through `copies` of the real consumer; into a new database unless one is given."""
    database = url or await bench.servers.database()
    programs = [usher(bench.servers, "consumer", "sync_user", database_url=database) for _ in range(copies)]
    rate = await _into_rows(bench, programs, database, events)
    if url is None:
        await bench.servers.drop(database)
    return rate


async def _one_by_one(bench: Bench, events: list[UserEvent]) -> float:
    database = await bench.servers.database()
    command = (sys.executable, str(_PEERS / "one_by_one.py"))
    program = peer(ONE_BY_ONE, command, bench.servers, database_url=database, QUEUE=QUEUE)
    return await _into_rows(bench, [program], database, events)


async def _bare(bench: Bench, events: list[UserEvent]) -> float:
    command = (sys.executable, str(_PEERS / "bare_consume.py"))
    program = peer(BARE, command, bench.servers, QUEUE=QUEUE, COUNT=str(len(events)))
    await bench.servers.clear_broker()
    return len(events) / await drain.seconds(bench, [program], QUEUE, events, lambda: closed(program.port))


async def _into_rows(bench: Bench, programs: list[Program], database: str, events: list[UserEvent]) -> float:
    await bench.servers.clear_broker()
    connection = await asyncpg.connect(database)
    try:
        rows = drain.Rows(connection, events)
        return len(events) / await drain.seconds(bench, programs, QUEUE, events, rows.all_there)
    finally:
        await connection.close()


def _ours(copies: int) -> str:
    return "usher" if copies == 1 else f"usher, {copies} consumers"


def _add(rates: Rates, name: str, mix: str, rate: float) -> None:
    rates.setdefault((name, mix), Series()).add(rate)


def _section(rates: Rates, count: int) -> Section:
    names = list(dict.fromkeys(name for name, _ in rates))
    rows = [[name, *(rates.get((name, mix), Series()).text() for mix in MIXES)] for name in names]
    values = [[rates.get((name, mix), Series()).median for mix in MIXES] for name in names]
    return Section(
        "sync_user: a full queue becomes rows",
        f"{count:,} events wait in the queue (a quarter of that for the loop that goes one by one); events a second "
        "until the last row is there, median (range).",
        tables=[Table(["events/s", *MIXES], rows)],
        plots=[Plot("sync_user", "Events a second from a full queue", list(MIXES), names, values)],
        targets=list(_targets(rates)),
        samples={f"{name}, {mix}": series.samples for (name, mix), series in rates.items()},
    )


def _targets(rates: Rates) -> Iterator[Target]:
    first = next(iter(MIXES))
    ours = rates["usher", first]
    yield at_least("sync_user to bare consume with multiple ack", 0.9, ours.ratio(rates[BARE, first]))
    yield at_least("sync_user to one by one", 4.0, ours.ratio(rates[ONE_BY_ONE, first]))
