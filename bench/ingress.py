"""Scenario `ingress`: webhooks accepted a second, and how long an answer takes, beside peers and ceilings.

All programs stand ready at once and are measured in turn, round by round, into the same broker: through Usher's whole
topology, into one quorum queue alone, and into a stand-in that confirms at once.
"""

import sys
from collections.abc import Iterator, Sequence
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
from local.ports import LOOPBACK

_PEERS: Final = Path(install.__file__).parent
USHER: Final = "usher"
TWO_WORKERS: Final = "usher, 2 workers"
NAIVE: Final = "aiohttp + aio-pika"
FASTIFY: Final = "fastify + amqplib (Node)"
FASTSTREAM: Final = "FastAPI + FastStream"
TUTORIAL: Final = "inside the request (asyncpg)"
CEILING: Final = "verify + parse only"
GENERATOR: Final = "answers only (generator's limit)"

# Where the messages go.
WHOLE: Final = "whole topology"
ONE_QUEUE: Final = "one queue"
AT_ONCE: Final = "confirmed at once"

CONNECTIONS: Final = (1, 16, 64, 256)
# Where the targets are set: all rounds. Elsewhere one round shows the shape.
_IN_ALL_ROUNDS: Final = (64, 256)
_RIVALS: Final = (USHER, FASTIFY, NAIVE)
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


Cells = dict[tuple[str, str, int], Cell]  # where to, who, at how many connections


async def run(bench: Bench) -> Section:
    cells: Cells = {}
    half: dict[str, Cell] = {}
    async with AsyncExitStack() as stack:
        stood = await _all_started(bench, stack, await _programs(bench))
        apart = await _all_started(bench, stack, await _with_broker_elsewhere(bench, stack))
        rivals = [one for one in stood if one.program.name in _RIVALS]
        for number in range(bench.rounds):
            bench.say(f"ingress: round {number + 1} of {bench.rounds}")
            await _measure_all(bench, cells, WHOLE, stood, CONNECTIONS if number == 0 else _IN_ALL_ROUNDS)
            async with bench.servers.into_one_queue():
                await _measure_all(bench, cells, ONE_QUEUE, rivals, _IN_ALL_ROUNDS)
            await _measure_all(bench, cells, AT_ONCE, apart, _IN_ALL_ROUNDS)
        rate = cells[WHOLE, USHER, _HALF_LOAD_CONNECTIONS].per_s.median / 2
        for _ in range(bench.rounds):
            for one in rivals:
                bench.say(f"ingress: {rate:,.0f}/s, {one.program.name}")
                cell = half.setdefault(one.program.name, Cell())
                await _measure(bench, one, cell, _HALF_LOAD_CONNECTIONS, rate=rate)
    return _section(cells, half, rate)


async def _all_started(bench: Bench, stack: AsyncExitStack, programs: list[Program]) -> list[Running]:
    started = [await _started(bench, stack, program) for program in programs]
    stood = [one for one in started if one is not None]
    for one in stood:
        await bench.load.send(one.port, 16, bench.seconds / 3)
    return stood


async def _measure_all(
    bench: Bench, cells: Cells, where: str, stood: list[Running], connections: Sequence[int]
) -> None:
    for at in connections:
        for one in stood:
            bench.say(f"ingress: {where}, {at} connections, {one.program.name}")
            await _measure(bench, one, cells.setdefault((where, one.program.name, at), Cell()), at)


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


async def _with_broker_elsewhere(bench: Bench, stack: AsyncExitStack) -> list[Program]:
    """Usher before a broker that costs this machine next to nothing."""
    broker = peer("confirms-at-once", (sys.executable, str(_PEERS / "confirms_at_once.py")), bench.servers)
    await stack.enter_async_context(running(broker, bench.folder))
    address = f"amqp://guest:guest@{LOOPBACK}:{broker.port}/"
    return [
        _named(USHER, usher(bench.servers, "ingress", AMQP_URL=address)),
        _named(TWO_WORKERS, usher(bench.servers, "ingress", "--workers", "2", AMQP_URL=address)),
    ]


def _named(name: str, program: Program) -> Program:
    return Program(name, program.command, program.environment, program.port, program.internal_port)


async def _measure(bench: Bench, one: Running, cell: Cell, connections: int, rate: float | None = None) -> None:
    before = one.cpu_s()
    answers = await bench.load.send(one.port, connections, bench.seconds, rate=rate)
    used = one.cpu_s() - before
    cell.add(answers, used / max(1, answers.accepted_in_all))
    await bench.servers.clear_broker()


def _section(cells: Cells, half: dict[str, Cell], rate: float) -> Section:
    names = list(dict.fromkeys(name for where, name, _ in cells if where == WHOLE))
    section = Section(
        "Ingress: webhooks accepted",
        "Each webhook is signed on its own and about another user; 202 comes after the broker's confirm. All publish "
        "to the same exchange, which copies into two quorum queues and a stream. Median (range).",
        samples={f"{name} @ {at}, {where}": cell.per_s.samples for (where, name, at), cell in cells.items()},
    )
    section.tables += [_throughput(cells, names), _latency(cells, names), _one_queue(cells, names)]
    section.tables += [_workers(cells), _half_load(half, rate)]
    shown = [name for name in names if name != GENERATOR]
    values = [[cells[WHOLE, name, at].per_s.median for at in CONNECTIONS] for name in shown]
    title = "Webhooks accepted a second, by connections"
    section.plots.append(Plot("ingress", title, [str(at) for at in CONNECTIONS], shown, values))
    section.targets += list(_targets(cells, half))
    section.notes += list(_notes(cells, names))
    return section


def _throughput(cells: Cells, names: list[str]) -> Table:
    rows = [
        [name, *(cells[WHOLE, name, at].per_s.text() for at in CONNECTIONS), _times(cells, WHOLE, name, 64)]
        for name in names
    ]
    return Table(["accepted/s at connections", *(str(at) for at in CONNECTIONS), "at 64, to aio-pika"], rows)


def _times(cells: Cells, where: str, name: str, at: int) -> str:
    return f"{_ratio(cells, where, name, NAIVE, at):.2f}"


def _ratio(cells: Cells, where: str, name: str, other: str, at: int) -> float:
    return cells[where, name, at].per_s.ratio(cells[where, other, at].per_s)


def _latency(cells: Cells, names: list[str]) -> Table:
    rows = [
        [
            name,
            *(
                f"{cell.p50_ms.median:.1f} / {cell.p99_ms.median:.1f}"
                for cell in (cells[WHOLE, name, at] for at in CONNECTIONS)
            ),
            f"{cells[WHOLE, name, 64].cpu.median * 1e6:,.0f}",
        ]
        for name in names
    ]
    return Table(["p50 / p99 ms at connections", *(str(at) for at in CONNECTIONS), "CPU, us each, at 64"], rows)


def _one_queue(cells: Cells, names: list[str]) -> Table:
    rows = []
    for name in names:
        if (ONE_QUEUE, name, 64) in cells:
            at_64, at_256 = (cells[ONE_QUEUE, name, at] for at in _IN_ALL_ROUNDS)
            latency = f"{at_64.p50_ms.median:.1f} / {at_64.p99_ms.median:.1f}"
            times = [_times(cells, ONE_QUEUE, name, at) for at in _IN_ALL_ROUNDS]
            rows.append([name, at_64.per_s.text(), times[0], latency, at_256.per_s.text(), times[1]])
    headers = ["accepted/s", "64", "to aio-pika", "p50 / p99 ms", "256", "to aio-pika"]
    caption = "The same programs, with the exchange bound to one quorum queue alone: a third of the broker's work."
    return Table(headers, rows, caption)


def _workers(cells: Cells) -> Table:
    rows = [
        [where, str(at), *(cells[where, name, at].per_s.text() for name in (USHER, TWO_WORKERS)), f"{times:.2f}"]
        for where in (WHOLE, AT_ONCE)
        for at in _IN_ALL_ROUNDS
        if (times := _ratio(cells, where, TWO_WORKERS, USHER, at))
    ]
    caption = (
        "A second worker needs a core. With the broker on the same cores there is none left; the stand-in that "
        "confirms at once leaves one, as a broker on a machine of its own does."
    )
    return Table(["broker", "connections", "1 worker", "2 workers", "times"], rows, caption)


def _half_load(half: dict[str, Cell], rate: float) -> Table:
    rows = [
        [name, cell.per_s.text(), cell.p50_ms.text(1), cell.p99_ms.text(1), str(cell.refused)]
        for name, cell in half.items()
    ]
    caption = f"Half of Usher's load, {rate:,.0f} a second, coming when they come, over 64 connections:"
    return Table(["at half load", "accepted/s", "p50 ms", "p99 ms", "not accepted"], rows, caption)


def _targets(cells: Cells, half: dict[str, Cell]) -> Iterator[Target]:
    for where in (WHOLE, ONE_QUEUE):
        for at in _IN_ALL_ROUNDS:
            said = f"{where}, {at} connections"
            if (where, FASTIFY, at) in cells:
                yield at_least(f"ingress to {FASTIFY}: {said}", 1.0, _ratio(cells, where, USHER, FASTIFY, at))
            yield at_least(f"ingress to {NAIVE}: {said}", 1.9, _ratio(cells, where, USHER, NAIVE, at))
    for where in (WHOLE, AT_ONCE):
        for at in _IN_ALL_ROUNDS:
            yield at_least(
                f"2 workers to 1: {where}, {at} connections", 1.5, _ratio(cells, where, TWO_WORKERS, USHER, at)
            )
    yield at_most("ingress p99 at half load", 15, half[USHER].p99_ms.median, "ms")


def _notes(cells: Cells, names: list[str]) -> Iterator[str]:
    rivals = [name for name in names if name not in {USHER, TWO_WORKERS, CEILING, GENERATOR}]
    for at in CONNECTIONS:
        times = {name: _ratio(cells, WHOLE, name, USHER, at) for name in rivals}
        told = ", ".join(f"{name} ({ratio:.2f} x)" for name, ratio in times.items() if ratio > 1)
        yield f"Ahead of Usher, connections {at}: {told}." if told else f"No peer is ahead of Usher, connections {at}."
    share = _ratio(cells, WHOLE, USHER, CEILING, 64)
    yield f"At 64 connections Usher reaches {share:.2f} of what aiohttp does with nothing published."
    generator = cells[WHOLE, USHER, 64].generator_cpu.median
    yield f"At 64 connections of Usher the load generator was busy for {generator:.0%} of one core."
    refused = {name: total for name in names if (total := _refused(cells, name))}
    if refused:
        yield "Answered otherwise than 2xx: " + ", ".join(f"{name} {total:,}" for name, total in refused.items()) + "."


def _refused(cells: Cells, name: str) -> int:
    return sum(cell.refused for (_, other, _), cell in cells.items() if other == name)
