"""Scenario `provision_database`: databases a second, beside bare CREATE DATABASE, and with a provider ready at once."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import asyncpg

from bench import drain
from bench.bench import Bench
from bench.drain import Drained
from bench.peers import install
from bench.programs import peer, running, usher
from bench.results import Section, Series, Table, Target, at_least
from consumer.providers.postgres import MAX_SESSIONS
from shared.events import UserEvent
from shared.topology import queue_of

_PEERS: Final = Path(install.__file__).parent
QUEUE: Final = queue_of("provision_database")
POSTGRES: Final = "usher, provider postgres"
BARE: Final = f"bare create database, {MAX_SESSIONS} at once"
AT_ONCE: Final = "usher, provider xata, ready at once"
_PER_S: Final = 50
_AT_ONCE_PER_S: Final = 160
# In a database of its own: cheap, as it is asked often while Usher works.
_READY: Final = "select count(*) from databases where state = 'ready'"
_KEY, _ORGANIZATION = "xau_bench", "org_bench"
_REGION: Final = "eu-central-1"


async def run(bench: Bench) -> Section:
    rates: dict[str, Series] = {POSTGRES: Series(), BARE: Series(), AT_ONCE: Series()}
    costs: dict[str, Series] = {POSTGRES: Series(), BARE: Series(), AT_ONCE: Series()}
    for number in range(bench.rounds):
        bench.say(f"provision_database: round {number + 1}")
        events = drain.distinct(f"p{number}", int(_PER_S * bench.seconds))
        names = [f"bare_{number}_{at}" for at in range(len(events))]
        # Whoever comes second has the disk still busy with the first: they take turns.
        if number % 2:
            rates[BARE].add(await _bare(bench, names))
        _add(rates, costs, POSTGRES, await _provisioned(bench, events, {}))
        if not number % 2:
            rates[BARE].add(await _bare(bench, names))
        more = drain.distinct(f"x{number}", int(_AT_ONCE_PER_S * bench.seconds))
        _add(rates, costs, AT_ONCE, await _at_once(bench, more))
    return _section(rates, costs)


def _add(rates: dict[str, Series], costs: dict[str, Series], name: str, drained: Drained) -> None:
    rates[name].add(drained.per_s)
    costs[name].add(drained.cpu_us / 1000)


async def _provisioned(bench: Bench, events: list[UserEvent], settings: dict[str, str]) -> Drained:
    """Through one consumer, from a full queue until the last database is ready."""
    database = await bench.servers.database()
    await bench.servers.clear_broker()
    connection = await asyncpg.connect(database)

    async def all_ready() -> bool:
        return bool(await connection.fetchval(_READY) == len(events))

    try:
        program = usher(bench.servers, "consumer", "provision_database", database_url=database, **settings)
        return await drain.drained(bench, [program], QUEUE, events, all_ready)
    finally:
        await connection.close()


async def _at_once(bench: Bench, events: list[UserEvent]) -> Drained:
    database = await bench.servers.blank_database()
    command = (sys.executable, str(_PEERS / "xata_at_once.py"))
    program = peer("xata-at-once", command, bench.servers, database_url=database, KEY=_KEY, ORGANIZATION=_ORGANIZATION)
    async with running(program, bench.folder) as xata:
        settings = {
            "DATABASE_PROVIDER": "xata",
            "XATA_API_URL": f"http://127.0.0.1:{xata.port}",
            "XATA_API_KEY": _KEY,
            "XATA_ORGANIZATION": _ORGANIZATION,
            "XATA_PROJECT_PREFIX": "bench-",
            "XATA_DEFAULT_REGION": _REGION,
            "XATA_TEMPLATES": f"{_REGION}=template",
            "XATA_REQUESTS_PER_S": "100000",
        }
        return await _provisioned(bench, events, settings)


async def _bare(bench: Bench, names: list[str]) -> float:
    async def work(mine: Iterable[str]) -> None:
        connection = await asyncpg.connect(bench.servers.postgres.url("postgres"))
        for name in mine:
            await connection.execute(f"create database {name} template template0")
        await connection.close()

    started = time.perf_counter()
    await asyncio.gather(*(work(names[at::MAX_SESSIONS]) for at in range(MAX_SESSIONS)))
    return len(names) / (time.perf_counter() - started)


def _section(rates: dict[str, Series], costs: dict[str, Series]) -> Section:
    rows = [[name, series.text(1), costs[name].text(1)] for name, series in rates.items()]
    return Section(
        "provision_database: databases from a full queue",
        "One consumer with its default concurrency. The stand-in for Xata is as lean as can be, and has every branch "
        "healthy at once, born with the schema of a template, so that what is measured is Usher.",
        tables=[Table(["", "databases/s", "CPU of the consumer, ms each"], rows)],
        targets=list(_targets(rates)),
        samples={name: series.samples for name, series in rates.items()},
    )


def _targets(rates: dict[str, Series]) -> Iterator[Target]:
    yield at_least("provisioning to bare create database", 0.9, rates[POSTGRES].ratio(rates[BARE]))
    yield at_least("provisioning with a provider ready at once", 150, rates[AT_ONCE].median, "/s")
