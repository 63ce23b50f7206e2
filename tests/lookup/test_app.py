"""The lookup process as a whole: outages, starts and stops."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from local.ports import free_port
from local.postgres import PostgresCluster
from lookup import app
from lookup.settings import LookupSettings
from shared.errors import SettingsError
from tests.lookup.asker import TOKEN, Asker, Table
from tests.lookup.conftest import running_lookup
from tests.support.eventually import eventually
from tests.support.programs import Program
from tests.support.tcp_proxy import TcpProxy

# An answer about a Postgres that is away takes two seconds at most; the rest is patience with a busy machine.
SOON_S = 8


def through(proxy: TcpProxy, database_url: str) -> str:
    parts = urlsplit(database_url)
    return parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{proxy.port}").geturl()


async def unavailable(asker: Asker, **query: int) -> None:
    started = time.monotonic()
    answered = await asker.about("user_1", **query)
    assert (answered.status, answered.json["code"]) == (503, "unavailable")
    assert time.monotonic() - started < SOON_S


async def is_there(asker: Asker) -> bool:
    return (await asker.about("user_1")).status == 200


async def not_ready(asker: Asker) -> bool:
    return not await asker.ready()


@pytest.mark.parametrize("fault", ["refuse", "black_hole"])
async def test_while_postgres_is_away_the_answer_is_503_in_time_and_heals_by_itself(
    database_url: str, postgres: PostgresCluster, table: Table, fault: str
) -> None:
    await table.put("user_1", "ready")
    async with TcpProxy("127.0.0.1", postgres.port) as proxy, running_lookup(through(proxy, database_url)) as asker:
        assert await is_there(asker)
        getattr(proxy, fault)()

        await asyncio.gather(*(unavailable(asker) for _ in range(30)))
        await unavailable(asker, wait=25)
        await eventually(lambda: not_ready(asker), what="not ready")

        proxy.flow()
        await eventually(lambda: is_there(asker), what="there again")
        await eventually(asker.ready, what="ready again")


@pytest.mark.parametrize("fault", ["refuse", "black_hole"])
async def test_who_waits_when_postgres_goes_away_is_told_so(
    database_url: str, postgres: PostgresCluster, fault: str
) -> None:
    async with TcpProxy("127.0.0.1", postgres.port) as proxy, running_lookup(through(proxy, database_url)) as asker:
        asking = asyncio.create_task(asker.about("user_1", wait=25))
        await eventually(lambda: _waits(asker))
        getattr(proxy, fault)()
        started = time.monotonic()
        assert (await asking).status == 503
        assert time.monotonic() - started < SOON_S


async def test_it_starts_while_postgres_is_away() -> None:
    async with running_lookup("postgresql://127.0.0.1:1/usher", wait_ready=False) as asker:
        await unavailable(asker)
        assert not await asker.ready()
        assert (await asker.internal("/livez")).status == 200


async def test_it_is_not_ready_without_the_table(postgres: PostgresCluster) -> None:
    async with running_lookup(postgres.url("postgres"), wait_ready=False) as asker:
        await unavailable(asker)
        assert "UndefinedTable" in (await asker.internal("/readyz")).text


async def test_who_waits_when_it_stops_is_told_how_far_it_is(database_url: str, table: Table) -> None:
    await table.put("user_1", "creating")
    stop = asyncio.Event()
    async with running_lookup(database_url, stop=stop) as asker:
        asking = asyncio.create_task(asker.about("user_1", wait=25))
        await eventually(lambda: _waits(asker))
        started = time.monotonic()
        stop.set()
        answered = await asking
    assert (answered.status, answered.json["state"]) == (202, "creating")
    assert time.monotonic() - started < SOON_S


@pytest.mark.parametrize("name", ["LOOKUP_PORT", "LOOKUP_INTERNAL_PORT"])
async def test_a_taken_port_ends_the_start_with_a_sentence(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        ports = {"lookup_port": 0, "lookup_internal_port": 0, name.lower(): other.getsockname()[1]}
        settings = LookupSettings.read(database_url="postgresql://127.0.0.1:1/usher", lookup_token=TOKEN, **ports)
        with pytest.raises(SettingsError, match=f"^{name}: cannot listen there"):
            await app.run(settings, stop=asyncio.Event())


async def test_the_program_answers_and_stops_cleanly_on_sigterm(
    tmp_path: Path, database_url: str, table: Table
) -> None:
    await table.put("user_1", "ready")
    port, internal_port = free_port(), free_port()
    arguments = ("lookup", "--port", str(port), "--internal-port", str(internal_port))
    environment = {"DATABASE_URL": database_url, "LOOKUP_TOKEN": TOKEN, "LOG_FORMAT": "json"}
    program = Program(arguments, environment, tmp_path / "log", internal_port)
    program.start()
    try:
        await program.ready()
        async with aiohttp.ClientSession() as session:
            assert await is_there(Asker(session, port, internal_port))
        assert await program.stop() == 0
    finally:
        if program.alive:
            program.kill()
    said = program.log.read_text()
    assert "lookup_stopped" in said
    assert TOKEN not in said


async def _waits(asker: Asker) -> bool:
    return await asker.waiting() == 1
