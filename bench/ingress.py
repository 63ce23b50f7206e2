"""Scenario `ingress`: webhooks accepted a second, and how long an answer takes, beside peers and ceilings.

All programs stand ready at once and are measured in turn, round by round, on the same broker and the same topology.
"""

import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.bench import Bench
from bench.load import Answers
from bench.peers import install
from bench.programs import Program, Running, peer, running, usher
from bench.results import Plot, Section, Series, Table, Target, at_least, at_most
from local.errors import ServerError

_PEERS: Final = Path(install.__file__).parent
USHER: Final = "usher"
TWO_WORKERS: Final = "usher, 2 workers"
NAIVE: Final = "aiohttp + aio-pika"
FASTIFY: Final = "fastify + amqplib (Node)"
FASTSTREAM: Final = "FastAPI + FastStream"
TUTORIAL: Final = "inside the request (asyncpg)"
CEILING: Final = "verify + parse only"
GENERATOR: Final = "answers only (generator's limit)"

CONNECTIONS: Final = (1, 16, 64, 256)
# Where the targets are set: all rounds. Elsewhere one round shows the shape.
_IN_ALL_ROUNDS: Final = (64, 256)
_AT_HALF_LOAD: Final = (USHER, FASTIFY, NAIVE)
_HALF_LOAD_CONNECTIONS: Final = 64


@dataclass(slots=True)
class Cell:
    """One program at one number of connections."""

    per_s: Series = field(default_factory=Series)
    p50_ms: Series = field(default_factory=Series)
    p99_ms: Series = field(default_factory=Series)
    cpu: Series = field(default_factory=Series)
    generator_cpu: Series = field(default_factory=Series)
    refused: int = 0

    def add(self, answers: Answers, cpu: float) -> None:
        self.per_s.add(answers.per_s)
        self.p50_ms.add(answers.p50_ms)
        self.p99_ms.add(answers.p99_ms)
        self.cpu.add(cpu)
        self.generator_cpu.add(answers.generator_cpu)
        self.refused += sum(answers.others.values())


Cells = dict[tuple[str, int], Cell]


async def run(bench: Bench) -> Section:
    cells: Cells = {}
    half: dict[str, Cell] = {}
    async with AsyncExitStack() as stack:
        started = [await _started(bench, stack, program) for program in await _programs(bench)]
        stood = [one for one in started if one is not None]
        for one in stood:
            await bench.load.send(one.port, 16, bench.seconds / 3)
        for number in range(bench.rounds):
            for connections in CONNECTIONS if number == 0 else _IN_ALL_ROUNDS:
                for one in stood:
                    bench.say(f"ingress: round {number + 1}, {connections} connections, {one.program.name}")
                    cell = cells.setdefault((one.program.name, connections), Cell())
                    await _measure(bench, one, cell, connections)
        rate = cells[USHER, _HALF_LOAD_CONNECTIONS].per_s.median / 2
        for _ in range(bench.rounds):
            for one in (one for one in stood if one.program.name in _AT_HALF_LOAD):
                bench.say(f"ingress: {rate:,.0f}/s, {one.program.name}")
                cell = half.setdefault(one.program.name, Cell())
                await _measure(bench, one, cell, _HALF_LOAD_CONNECTIONS, rate=rate)
    return _section(cells, half, rate)


async def _started(bench: Bench, stack: AsyncExitStack, program: Program) -> Running | None:
    """A peer whose packages are somebody else's may fail: it is left out."""
    try:
        return await stack.enter_async_context(running(program, bench.folder))
    except ServerError as error:
        if program.name not in {FASTIFY, FASTSTREAM}:
            raise
        bench.console.print(f"{program.name} is left out: {error}")
        return None


async def _programs(bench: Bench) -> list[Program]:
    python, found = sys.executable, list[Program]()
    found.append(_named(USHER, usher(bench.servers, "ingress")))
    found.append(_named(TWO_WORKERS, usher(bench.servers, "ingress", "--workers", "2")))
    found.append(peer(NAIVE, (python, str(_PEERS / "naive_aio_pika.py")), bench.servers))
    if server := install.node_server(bench.console):
        found.append(peer(FASTIFY, ("node", str(server)), bench.servers))
    if packages := install.python_packages(bench.console):
        command = (python, str(_PEERS / "fastapi_faststream.py"))
        found.append(peer(FASTSTREAM, command, bench.servers, PYTHONPATH=str(packages)))
    database = await bench.servers.database()
    found.append(peer(TUTORIAL, (python, str(_PEERS / "inside_request.py")), bench.servers, database_url=database))
    found.append(peer(CEILING, (python, str(_PEERS / "nothing_published.py")), bench.servers))
    found.append(peer(GENERATOR, (python, str(_PEERS / "answers_only.py")), bench.servers))
    return found


def _named(name: str, program: Program) -> Program:
    return Program(name, program.command, program.environment, program.port, program.internal_port)


async def _measure(bench: Bench, one: Running, cell: Cell, connections: int, rate: float | None = None) -> None:
    before = one.cpu_s()
    answers = await bench.load.send(one.port, connections, bench.seconds, rate=rate)
    used = one.cpu_s() - before
    cell.add(answers, used / max(1, answers.accepted))
    await bench.servers.clear_broker()


def _section(cells: Cells, half: dict[str, Cell], rate: float) -> Section:
    names = list(dict.fromkeys(name for name, _ in cells))
    section = Section(
        "Ingress: webhooks accepted",
        "Each webhook is signed on its own and about another user; 202 comes after the broker's confirm. All publish "
        "to the same exchange, which copies into two quorum queues and a stream. Median (range).",
        samples={f"{name} @ {at}": cell.per_s.samples for (name, at), cell in cells.items()},
    )
    section.tables += [_throughput(cells, names), _latency(cells, names), _half_load(half, rate)]
    shown = [name for name in names if name != GENERATOR]
    values = [[cells[name, at].per_s.median for at in CONNECTIONS] for name in shown]
    title = "Webhooks accepted a second, by connections"
    section.plots.append(Plot("ingress", title, [str(at) for at in CONNECTIONS], shown, values))
    section.targets += list(_targets(cells, half))
    section.notes += list(_notes(cells, names))
    return section


def _throughput(cells: Cells, names: list[str]) -> Table:
    rows = [[name, *(cells[name, at].per_s.text() for at in CONNECTIONS), _times(cells, name)] for name in names]
    return Table(["accepted/s at connections", *(str(at) for at in CONNECTIONS), "at 64, to aio-pika"], rows)


def _times(cells: Cells, name: str) -> str:
    return f"{cells[name, 64].per_s.ratio(cells[NAIVE, 64].per_s):.2f}"


def _latency(cells: Cells, names: list[str]) -> Table:
    rows = [
        [
            name,
            *(f"{cells[name, at].p50_ms.median:.1f} / {cells[name, at].p99_ms.median:.1f}" for at in CONNECTIONS),
            f"{cells[name, 64].cpu.median * 1e6:,.0f}",
        ]
        for name in names
    ]
    return Table(["p50 / p99 ms at connections", *(str(at) for at in CONNECTIONS), "CPU, us each, at 64"], rows)


def _half_load(half: dict[str, Cell], rate: float) -> Table:
    rows = [
        [name, cell.per_s.text(), cell.p50_ms.text(1), cell.p99_ms.text(1), str(cell.refused)]
        for name, cell in half.items()
    ]
    caption = f"Half of Usher's load, {rate:,.0f} a second, coming when they come, over 64 connections:"
    return Table(["at half load", "accepted/s", "p50 ms", "p99 ms", "not accepted"], rows, caption)


def _targets(cells: Cells, half: dict[str, Cell]) -> Iterator[Target]:
    for at in _IN_ALL_ROUNDS:
        ours = cells[USHER, at].per_s
        if (FASTIFY, at) in cells:
            yield at_least(f"ingress to {FASTIFY}, {at} connections", 1.0, ours.ratio(cells[FASTIFY, at].per_s))
        yield at_least(f"ingress to {NAIVE}, {at} connections", 1.9, ours.ratio(cells[NAIVE, at].per_s))
        yield at_least(f"2 workers to 1, {at} connections", 1.5, cells[TWO_WORKERS, at].per_s.ratio(ours))
    yield at_most("ingress p99 at half load", 15, half[USHER].p99_ms.median, "ms")


def _notes(cells: Cells, names: list[str]) -> Iterator[str]:
    ours = cells[USHER, 64].per_s
    rivals = [name for name in names if name not in {USHER, TWO_WORKERS, CEILING, GENERATOR}]
    for at in CONNECTIONS:
        ahead = [name for name in rivals if cells[name, at].per_s.median > cells[USHER, at].per_s.median]
        if ahead:
            told = ", ".join(f"{name} ({cells[name, at].per_s.ratio(cells[USHER, at].per_s):.2f} x)" for name in ahead)
            yield f"Ahead of Usher, connections {at}: {told}."
        else:
            yield f"No peer is ahead of Usher, connections {at}."
    share = ours.ratio(cells[CEILING, 64].per_s)
    yield f"At 64 connections Usher reaches {share:.2f} of what aiohttp does with nothing published."
    generator = cells[USHER, 64].generator_cpu.median
    yield f"At 64 connections of Usher the load generator was busy for {generator:.0%} of one core."
    refused = {name: total for name in names if (total := sum(cells[name, at].refused for at in CONNECTIONS))}
    if refused:
        yield "Answered otherwise than 2xx: " + ", ".join(f"{name} {total:,}" for name, total in refused.items()) + "."
