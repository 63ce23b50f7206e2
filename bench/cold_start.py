"""Scenario `cold_start`: from the start of a process until it says that it is ready, and what it weighs then."""

from dataclasses import dataclass, field
from typing import Final

from bench.bench import Bench
from bench.programs import running, usher
from bench.results import Section, Series, Table, at_most

_PROGRAMS: Final[dict[str, tuple[str, ...]]] = {
    "ingress": ("ingress",),
    "consumer sync_user": ("consumer", "sync_user"),
    "consumer provision_database": ("consumer", "provision_database"),
}
_MOST_S: Final = 1.5
_MORE_ROUNDS: Final = 2


@dataclass(slots=True)
class Cell:
    ready_s: Series = field(default_factory=Series)
    cpu_s: Series = field(default_factory=Series)
    rss_mb: Series = field(default_factory=Series)


async def run(bench: Bench) -> Section:
    cells = {name: Cell() for name in _PROGRAMS}
    database = await bench.servers.database()
    await bench.servers.clear_broker()
    for _ in range(bench.rounds + _MORE_ROUNDS):
        for name, arguments in _PROGRAMS.items():
            bench.say(f"cold_start: {name}")
            async with running(usher(bench.servers, *arguments, database_url=database), bench.folder) as one:
                cells[name].ready_s.add(one.ready_after_s)
                cells[name].cpu_s.add(one.cpu_s())
                cells[name].rss_mb.add(sum(one.rss_mb()))
    return _section(cells)


def _section(cells: dict[str, Cell]) -> Section:
    rows = [[name, cell.ready_s.text(2), cell.cpu_s.text(2), cell.rss_mb.text()] for name, cell in cells.items()]
    return Section(
        "Cold start",
        "From the start of the process until /readyz says 200: imports, settings, the broker's connections and checks.",
        tables=[Table(["process", "ready after s", "CPU s", "RSS MB"], rows)],
        targets=[at_most(f"{name} ready", _MOST_S, cell.ready_s.median, "s") for name, cell in cells.items()],
        samples={name: cell.ready_s.samples for name, cell in cells.items()},
    )
