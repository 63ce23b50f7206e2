"""Scenario `provision_database`: databases a second, beside bare CREATE DATABASE, and with a provider ready at once."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import asyncpg

from bench import drain
from bench.bench import Bench
from bench.drain import Drained, Work
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
# Creating a database takes long, and a server that has just been started is slow at it: longer, and not from the start.
_LONGER: Final = 2
_FIRST: Final = 2 * MAX_SESSIONS
_LOOK_S: Final = 0.02
_READY: Final = "select count(*) from databases where state = 'ready' and user_id in (select unnest($1::text[]))"
_KEY, _ORGANIZATION = "xau_bench", "org_bench"
_REGION: Final = "eu-central-1"


async def run(bench: Bench) -> Section:
    rates: dict[str, Series] = {POSTGRES: Series(), BARE: Series(), AT_ONCE: Series()}
    costs: dict[str, Series] = {POSTGRES: Series(), BARE: Series(), AT_ONCE: Series()}
    for number in range(bench.rounds):
        bench.say(f"provision_database: round {number + 1}")
        # Whoever comes second has the disk still busy with the first: each comes first as often.
        rates[BARE].add(await _bare(bench, f"bare_{number}_a"))
        for turn in "ab":
            events = drain.distinct(f"p{number}{turn}", _FIRST + _count(bench))
            _add(rates, costs, POSTGRES, await _provisioned(bench, events, await bench.servers.database(), {}))
        rates[BARE].add(await _bare(bench, f"bare_{number}_b"))
        events = drain.distinct(f"x{number}", at_once_count(bench))
        async with xata(bench) as settings:
            _add(rates, costs, AT_ONCE, await at_once(bench, events, await bench.servers.database(), settings))
    return _section(rates, costs)


def _add(rates: dict[str, Series], costs: dict[str, Series], name: str, drained: Drained) -> None:
    rates[name].add(drained.per_s)
    costs[name].add(drained.cpu_us / 1000)


def at_once_count(bench: Bench) -> int:
    """So many events `at_once` wants."""
    return _FIRST + int(_AT_ONCE_PER_S * bench.seconds)


async def at_once(bench: Bench, events: list[UserEvent], database: str, settings: Mapping[str, str]) -> Drained:
    """Through one consumer with the stand-in of `xata`, from a full queue until the last database is ready."""
    return await _provisioned(bench, events, database, settings)


@asynccontextmanager
async def xata(bench: Bench) -> AsyncIterator[dict[str, str]]:
    """A stand-in with nothing in it; the settings of a consumer for it."""
    state = await bench.servers.blank_database()
    command = (sys.executable, str(_PEERS / "xata_at_once.py"))
    program = peer("xata-at-once", command, bench.servers, database_url=state, KEY=_KEY, ORGANIZATION=_ORGANIZATION)
    async with running(program, bench.folder) as stand_in:
        yield {
            "DATABASE_PROVIDER": "xata",
            "XATA_API_URL": f"http://127.0.0.1:{stand_in.port}",
            "XATA_API_KEY": _KEY,
            "XATA_ORGANIZATION": _ORGANIZATION,
            "XATA_PROJECT_PREFIX": "bench-",
            "XATA_DEFAULT_REGION": _REGION,
            "XATA_TEMPLATES": f"{_REGION}=template",
            "XATA_REQUESTS_PER_S": "100000",
        }


async def _provisioned(bench: Bench, events: list[UserEvent], database: str, settings: Mapping[str, str]) -> Drained:
    """The first few are not measured."""
    await bench.servers.clear_broker()
    connection = await drain.watching(database)

    def work(some: list[UserEvent]) -> Work:
        return Work(QUEUE, some, drain.Rows(connection, some, _READY).all_there)

    async def checkpoint() -> None:
        await bench.servers.as_admin("checkpoint")

    program = usher(bench.servers, "consumer", "provision_database", database_url=database, **settings)
    try:
        async with drain.standing(bench, [program]) as consumers:
            await drain.emptied(bench, consumers, work(events[:_FIRST]), look_s=_LOOK_S)
            rest = work(events[_FIRST:])
            return await drain.emptied(bench, consumers, rest, when_full=checkpoint, look_s=_LOOK_S)
    finally:
        await connection.close()


async def _bare(bench: Bench, tag: str) -> float:
    connections = [await asyncpg.connect(bench.servers.postgres.url("postgres")) for _ in range(MAX_SESSIONS)]
    names = [f"{tag}_{number}" for number in range(_FIRST + _count(bench))]
    await _create(connections, names[:_FIRST])
    await bench.servers.as_admin("checkpoint")
    started = time.perf_counter()
    await _create(connections, names[_FIRST:])
    took = time.perf_counter() - started
    for connection in connections:
        await connection.close()
    return _count(bench) / took


async def _create(connections: Sequence[asyncpg.Connection[asyncpg.Record]], names: Sequence[str]) -> None:
    """Whoever is done takes the next name, as a consumer takes the next event."""
    left = iter(names)

    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        for name in left:
            await connection.execute(f"create database {name} template template0")

    await asyncio.gather(*map(work, connections))


def _count(bench: Bench) -> int:
    return int(_PER_S * bench.seconds * _LONGER)


def _section(rates: dict[str, Series], costs: dict[str, Series]) -> Section:
    rows = [[name, series.text(1), costs[name].text(1)] for name, series in rates.items()]
    return Section(
        "provision_database: databases from a full queue",
        "One consumer with its default concurrency, which has made a few databases before the clock starts; so has who "
        "creates them barely, from the server's own empty template. Each begins right after a checkpoint. The stand-in "
        "for Xata is as lean as can be, and has every branch healthy at once, born with the schema of a template, so "
        "that what is measured is Usher.",
        tables=[Table(["", "databases/s", "CPU of the consumer, ms each"], rows)],
        targets=list(_targets(rates)),
        samples={name: series.samples for name, series in rates.items()},
    )


def _targets(rates: dict[str, Series]) -> Iterator[Target]:
    yield at_least("provisioning to bare create database (template0)", 0.9, rates[POSTGRES].ratio(rates[BARE]))
    yield at_least("provisioning with a provider ready at once", 150, rates[AT_ONCE].median, "/s")
