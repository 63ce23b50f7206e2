"""A running lookup, its real Postgres behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
import asyncpg
import pytest

from lookup import app
from lookup.settings import LookupSettings
from tests.lookup.asker import OTHER_TOKEN, TOKEN, Asker, Table
from tests.support.eventually import eventually

StartLookup = Callable[..., AbstractAsyncContextManager[Asker]]


@asynccontextmanager
async def running_lookup(
    database_url: str, *, stop: asyncio.Event | None = None, wait_ready: bool = True, **settings: Any
) -> AsyncIterator[Asker]:
    """A lookup in this process. Whatever ends it early fails the test that uses it."""
    values = {"lookup_port": 0, "lookup_internal_port": 0, "lookup_token": f"{TOKEN}, {OTHER_TOKEN}"}
    read = LookupSettings.read(**{"database_url": database_url, **values, **settings})
    ports: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
    stop = stop or asyncio.Event()
    serving = asyncio.create_task(
        app.run(read, stop=stop, listening=lambda port, internal: ports.set_result((port, internal)))
    )
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            asker = Asker(session, *await ports)
            if wait_ready:
                await eventually(asker.ready)
            yield asker
    finally:
        stop.set()
        await serving


@pytest.fixture
async def asker(database_url: str) -> AsyncIterator[Asker]:
    async with running_lookup(database_url) as asker:
        yield asker


@pytest.fixture
def table(pool: asyncpg.Pool[asyncpg.Record]) -> Table:
    return Table(pool)
