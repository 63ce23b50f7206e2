"""Scenario `sync_user`: a full queue becomes rows; beside bare consuming and beside the loop that acks one by one."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench import drain
from bench.bench import Bench
from bench.drain import Drained, Work
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
# Where a second consumer tells something: how much it brings, and what locks on the same rows cost.
_COPIES: Final = {"all different": (1, 2), "ten hot users": (1, 2)}


@dataclass(slots=True)
class Cell:
    """One program on one mix."""

    per_s: Series = field(default_factory=Series)
    cpu_us: Series = field(default_factory=Series)

    def add(self, drained: Drained) -> None:
        self.per_s.add(drained.per_s)
        self.cpu_us.add(drained.cpu_us)


Cells = dict[tuple[str, str], Cell]


async def run(bench: Bench) -> Section:
    cells: Cells = {}
    count = int(_EVENTS_PER_S * bench.seconds)
    for number in range(bench.rounds):
        tag = f"r{number}"
        for mix in MIXES:
            for copies in _COPIES.get(mix, (1,)):
                bench.say(f"sync_user: round {number + 1}, {copies} consumers, {mix}")
                _add(cells, _ours(copies), mix, await _ours_drained(bench, copies, MIXES[mix](tag, count)))
        bench.say(f"sync_user: round {number + 1}, peers")
        first = next(iter(MIXES))
        _add(cells, BARE, first, await _bare(bench, drain.distinct(tag, count)))
        _add(cells, ONE_BY_ONE, first, await _one_by_one(bench, drain.distinct(tag, count // _SLOWER)))
    return _section(cells, count)


async def _ours_drained(bench: Bench, copies: int, events: list[UserEvent]) -> Drained:
    """Through `copies` of the real consumer, into a new database."""
    database = await bench.servers.database()
    programs = [usher(bench.servers, "consumer", "sync_user", database_url=database) for _ in range(copies)]
    found = await _into_rows(bench, programs, database, events)
    await bench.servers.drop(database)
    return found


async def _one_by_one(bench: Bench, events: list[UserEvent]) -> Drained:
    database = await bench.servers.database()
    command = (sys.executable, str(_PEERS / "one_by_one.py"))
    program = peer(ONE_BY_ONE, command, bench.servers, database_url=database, QUEUE=QUEUE)
    return await _into_rows(bench, [program], database, events)


async def _bare(bench: Bench, events: list[UserEvent]) -> Drained:
    command = (sys.executable, str(_PEERS / "bare_consume.py"))
    program = peer(BARE, command, bench.servers, QUEUE=QUEUE, COUNT=str(len(events)))
    await bench.servers.clear_broker()
    return await drain.drained(bench, [program], Work(QUEUE, events, lambda: closed(program.port)))


async def _into_rows(bench: Bench, programs: list[Program], database: str, events: list[UserEvent]) -> Drained:
    await bench.servers.clear_broker()
    connection = await drain.watching(database)
    try:
        return await drain.drained(bench, programs, Work(QUEUE, events, drain.Rows(connection, events).all_there))
    finally:
        await connection.close()


def _ours(copies: int) -> str:
    return "usher" if copies == 1 else f"usher, {copies} consumers"


def _add(cells: Cells, name: str, mix: str, drained: Drained) -> None:
    cells.setdefault((name, mix), Cell()).add(drained)


def _section(cells: Cells, count: int) -> Section:
    first = next(iter(MIXES))
    names = list(dict.fromkeys(name for name, _ in cells))
    rows = [
        [
            name,
            *(cells.get((name, mix), Cell()).per_s.text() for mix in MIXES),
            cells[name, first].cpu_us.text(),
        ]
        for name in names
    ]
    values = [[cells.get((name, mix), Cell()).per_s.median for mix in MIXES] for name in names]
    return Section(
        "sync_user: a full queue becomes rows",
        f"{count:,} events wait in the queue (a quarter of that for the loop that goes one by one); events a second "
        "until the last row is there, and what an event costs the consumers in CPU, without broker and Postgres.",
        tables=[Table(["events/s", *MIXES, f"CPU, us each, {first}"], rows)],
        plots=[Plot("sync_user", "Events a second from a full queue", list(MIXES), names, values)],
        targets=list(_targets(cells)),
        notes=list(_notes(cells, names)),
        samples={f"{name}, {mix}": cell.per_s.samples for (name, mix), cell in cells.items()},
    )


def _targets(cells: Cells) -> Iterator[Target]:
    first = next(iter(MIXES))
    ours = cells["usher", first].per_s
    yield at_least("sync_user to bare consume with multiple ack", 0.9, ours.ratio(cells[BARE, first].per_s))
    yield at_least("sync_user to one by one", 4.0, ours.ratio(cells[ONE_BY_ONE, first].per_s))


def _notes(cells: Cells, names: list[str]) -> Iterator[str]:
    first = next(iter(MIXES))
    ours = cells["usher", first].per_s
    ahead = [name for name in names if name != _ours(2) and cells[name, first].per_s.median > ours.median]
    if ahead:
        told = ", ".join(f"{name} ({cells[name, first].per_s.ratio(ours):.2f} x)" for name in ahead)
        yield f"Ahead of one Usher consumer: {told}."
    yield f"A second consumer brings {cells[_ours(2), first].per_s.ratio(ours):.2f} x of one."
