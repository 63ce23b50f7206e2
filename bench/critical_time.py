"""Scenario `critical_time`: from the sent webhook to the visible row, while webhooks come at a given pace."""

from dataclasses import dataclass, field
from typing import Final

from bench.bench import Bench
from bench.programs import running, usher
from bench.results import Plot, Section, Series, Table, Target, at_most

RATES: Final = (10, 100, 500, 2000)
_CONNECTIONS: Final = 64
# So many users a second are looked for: more looks would slow down what is measured.
_LOOKED_FOR_PER_S: Final = 100
_LONGER: Final = 2


@dataclass(slots=True)
class Cell:
    p50_ms: Series = field(default_factory=Series)
    p99_ms: Series = field(default_factory=Series)
    answer_ms: Series = field(default_factory=Series)
    users: int = 0
    missing: int = 0


async def run(bench: Bench) -> Section:
    cells = {rate: Cell() for rate in RATES}
    database = await bench.servers.database()
    for number in range(bench.rounds):
        bench.say(f"critical_time: round {number + 1}")
        await measure(bench, database, cells)
    return _section(cells)


async def measure(bench: Bench, database: str, cells: dict[int, Cell]) -> None:
    """One round through one ingress and one consumer, at every rate of `cells`."""
    await bench.servers.clear_broker()
    async with (
        running(usher(bench.servers, "consumer", "sync_user", database_url=database), bench.folder),
        running(usher(bench.servers, "ingress"), bench.folder) as ingress,
    ):
        await bench.load.send(ingress.port, 4, 0.5, rate=200)
        for rate, cell in cells.items():
            every = max(1, rate // _LOOKED_FOR_PER_S)
            length = bench.seconds * _LONGER
            answers = await bench.load.send(
                ingress.port, _CONNECTIONS, length, rate=rate, watch_url=database, watch_every=every
            )
            _add(cell, answers.visible_ms, answers.p50_ms, answers.never_visible)


def _add(cell: Cell, visible_ms: list[float], answer_ms: float, missing: int) -> None:
    ordered = sorted(visible_ms)
    cell.missing += missing
    cell.users += len(ordered)
    if ordered:
        cell.answer_ms.add(answer_ms)
        cell.p50_ms.add(ordered[len(ordered) // 2])
        cell.p99_ms.add(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))])


def _section(cells: dict[int, Cell]) -> Section:
    rows = [
        [f"{rate:,}", cell.p50_ms.text(1), cell.p99_ms.text(1), cell.answer_ms.text(1), str(cell.users)]
        for rate, cell in cells.items()
    ]
    values = [[cell.p50_ms.median for cell in cells.values()], [cell.p99_ms.median for cell in cells.values()]]
    missing = sum(cell.missing for cell in cells.values())
    return Section(
        "Critical time: from the sent webhook to the visible row",
        "One ingress and one consumer; webhooks come at a steady pace, whatever is still under way. A connection of "
        "its own looks for the rows every millisecond, for up to a hundred users a second.",
        tables=[Table(["webhooks/s", "visible: p50 ms", "p99 ms", "answered: p50 ms", "users looked for"], rows)],
        plots=[
            Plot("critical_time", "Milliseconds to the row", [f"{rate:,}/s" for rate in cells], ["p50", "p99"], values)
        ],
        notes=[f"Not visible within twenty seconds: {missing:,} users."] if missing else [],
        targets=_targets(cells),
        samples={f"p50 at {rate}/s": cell.p50_ms.samples for rate, cell in cells.items()},
    )


def _targets(cells: dict[int, Cell]) -> list[Target]:
    return [
        at_most("critical time at 10/s, p50", 8, cells[10].p50_ms.median, "ms"),
        at_most("critical time at 500/s, p50", 15, cells[500].p50_ms.median, "ms"),
        at_most("critical time at 500/s, p99", 80, cells[500].p99_ms.median, "ms"),
    ]
