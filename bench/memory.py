"""Scenario `memory`: what each process weighs through a storm of webhooks, and while the broker takes nothing."""

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

from bench.bench import Bench
from bench.load import Answers
from bench.programs import Program, Running, running, usher
from bench.results import Section, Table, at_most

_STORM_PER_S: Final = 2_000
_CONNECTIONS: Final = 64
_REFUSED_CONNECTIONS: Final = 256
_REFUSED_SHARE: Final = 0.25
_SAMPLE_S: Final = 0.5
_MOST_MB: Final = 120
# With this little memory allowed the broker's alarm is on, and it reads from no connection that publishes.
_ALARM, _NO_ALARM = "0.00001", "0.4"


@dataclass(slots=True)
class Weight:
    """Resident memory of one process over time, in MB."""

    name: str
    samples: list[float] = field(default_factory=list)

    def row(self, what: str) -> list[str]:
        half = self.samples[len(self.samples) // 2 :]
        return [
            what,
            self.name,
            *(f"{value:.0f}" for value in (self.samples[0], max(self.samples), self.samples[-1])),
            f"{half[-1] - half[0]:+.1f}",
        ]


async def run(bench: Bench) -> Section:
    database = await bench.servers.database()
    await bench.servers.clear_broker()
    programs = [
        usher(bench.servers, "consumer", "sync_user", database_url=database),
        usher(bench.servers, "ingress"),
    ]
    bench.say(f"memory: a storm of {bench.plan.storm_s:.0f} s")
    storm, answers = await _storm(bench, programs)
    bench.say("memory: the broker takes nothing")
    refused, refusals = await _refusing(bench)
    return _section(bench, [storm, refused], [answers, refusals])


async def _storm(bench: Bench, programs: list[Program]) -> tuple[list[Weight], Answers]:
    async with AsyncExitStack() as stack:
        stood = [await stack.enter_async_context(running(program, bench.folder)) for program in programs]
        load = bench.load.send(stood[-1].port, _CONNECTIONS, bench.plan.storm_s, rate=_STORM_PER_S)
        return await _weighed(stood, load)


async def _refusing(bench: Bench) -> tuple[list[Weight], Answers]:
    async with running(usher(bench.servers, "ingress"), bench.folder) as ingress:
        await asyncio.to_thread(bench.servers.rabbit.ctl, "set_vm_memory_high_watermark", _ALARM)
        try:
            seconds = max(5.0, bench.plan.storm_s * _REFUSED_SHARE)
            return await _weighed([ingress], bench.load.send(ingress.port, _REFUSED_CONNECTIONS, seconds))
        finally:
            await asyncio.to_thread(bench.servers.rabbit.ctl, "set_vm_memory_high_watermark", _NO_ALARM)


async def _weighed(stood: list[Running], load: Awaitable[Answers]) -> tuple[list[Weight], Answers]:
    weights = [Weight(one.program.name.replace("-", " ")) for one in stood]
    sending = asyncio.ensure_future(load)
    while not sending.done():
        for weight, one in zip(weights, stood, strict=True):
            weight.samples.append(max(one.rss_mb()))
        await asyncio.wait({sending}, timeout=_SAMPLE_S)
    return weights, await sending


def _section(bench: Bench, weights: list[list[Weight]], answers: list[Answers]) -> Section:
    storm, refused = weights
    rows = [
        *(weight.row(f"storm, {_STORM_PER_S:,}/s for {bench.plan.storm_s:.0f} s") for weight in storm),
        *(weight.row("broker takes nothing") for weight in refused),
    ]
    return Section(
        "Memory",
        "Resident memory of each process in MB: at the start, the most, at the end, and how much it grew in the second "
        "half. While the broker's memory alarm is on, 256 senders come again at once, without any backing off.",
        tables=[Table(["", "process", "start", "most", "end", "second half"], rows)],
        notes=[
            f"In the storm {answers[0].per_s:,.0f} webhooks a second were accepted, p99 {answers[0].p99_ms:.0f} ms.",
            _refused_note(answers[1]),
        ],
        targets=[
            at_most(f"memory of {weight.name}, {what}", _MOST_MB, max(weight.samples), "MB")
            for what, found in (("storm", storm), ("broker refusing", refused))
            for weight in found
        ],
        samples={weight.name: weight.samples for weight in [*storm, *refused]},
    )


def _refused_note(answers: Answers) -> str:
    others = ", ".join(f"{status}: {count:,}" for status, count in answers.others.items())
    return f"While the broker took nothing {answers.accepted:,} were accepted; answered otherwise: {others or 'none'}."
