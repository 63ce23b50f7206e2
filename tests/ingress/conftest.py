"""A running ingress, its real broker behind it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
import aiohttp.web
import pytest

from ingress.process import Close, serve_on_tcp, serve_until_stopped
from ingress.settings import IngressSettings
from local.ports import free_port
from tests.ingress.sender import Sender
from tests.ingress.signing import HOOKDECK_SECRET, SVIX_SECRET
from tests.support.eventually import eventually

StartIngress = Callable[..., AbstractAsyncContextManager[Sender]]


@asynccontextmanager
async def running_ingress(amqp_url: str, *, wait_ready: bool = True, **settings: Any) -> AsyncIterator[Sender]:
    """An ingress in this process. Whatever ends it early fails the test that uses it."""
    read = IngressSettings.read(
        amqp_url=amqp_url,
        clerk_webhook_signing_secret=SVIX_SECRET,
        hookdeck_webhook_secret=HOOKDECK_SECRET,
        ingress_port=free_port(),
        ingress_internal_port=0,
        **settings,
    )
    internal: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def serve_internal(app: aiohttp.web.Application) -> tuple[Close, int]:
        close, port = await serve_on_tcp(read, app)
        internal.set_result(port)
        return close, port

    stop = asyncio.Event()
    serving = asyncio.create_task(serve_until_stopped(read, serve_internal, stop=stop))
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            sender = Sender(session, read.ingress_port, await internal)
            await eventually(sender.ready if wait_ready else sender.listening)
            yield sender
    finally:
        stop.set()
        await serving


@pytest.fixture
def start_ingress(amqp_url: str) -> StartIngress:
    return partial(running_ingress, amqp_url)


@pytest.fixture
async def ingress(start_ingress: StartIngress) -> AsyncIterator[Sender]:
    async with start_ingress() as sender:
        yield sender


@pytest.fixture
async def cut_off_ingress() -> AsyncIterator[Sender]:
    """An ingress without a broker, for what is refused before one is needed."""
    async with running_ingress("amqp://127.0.0.1:1/", wait_ready=False) as sender:
        yield sender
