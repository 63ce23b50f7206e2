"""The verbs' way to RabbitMQ and Postgres: one connection each, closed at the end, errors as one sentence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import aio_pika
import aiormq.exceptions
import asyncpg
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, DeliveryError
from aio_pika.exceptions import PublishError as ReturnedError
from yarl import URL

from shared import postgres
from shared.errors import DependencyDown, EffectError, PublishError, UsherError

CONNECT_TIMEOUT_S: Final = 5.0
APPLICATION_NAME: Final = "usher cli"


class UnreachableError(UsherError):
    """What a verb needs does not answer; the text says where and what to do."""


@asynccontextmanager
async def broker(addresses: Sequence[str]) -> AsyncIterator[AbstractConnection]:
    """A connection to the first of the addresses that answers.

    Raises:
        UnreachableError: none does, or the connection was lost while it was used.
    """
    connection = await _connect(addresses)
    try:
        yield connection
    except (*CONNECTION_EXCEPTIONS, aiormq.exceptions.AMQPError) as error:
        raise UnreachableError(f"RabbitMQ: {_said(error)}") from error
    finally:
        with suppress(*CONNECTION_EXCEPTIONS):
            await connection.close()


@asynccontextmanager
async def database(url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection to Usher's own database.

    Raises:
        UnreachableError: Postgres does not answer, or not to us.
        EffectError: it refused a statement.
    """
    try:
        async with postgres.translated():
            connection = await asyncpg.connect(
                url,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=postgres.COMMAND_TIMEOUT_S,
                server_settings={"application_name": APPLICATION_NAME},
            )
    except EffectError as error:
        raise UnreachableError(
            f"Postgres does not answer at {place(url)} ({error}): is it running (`usher up`)?"
        ) from error
    try:
        async with postgres.translated():
            yield connection
    except DependencyDown as error:
        raise UnreachableError(f"Postgres at {place(url)}: {error}") from error
    finally:
        with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await connection.close(timeout=CONNECT_TIMEOUT_S)


@asynccontextmanager
async def pool(url: str) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    """Connections to Usher's own database, for what shares them; made when they are needed."""
    pool = await postgres.create_pool(url, max_size=2, name=APPLICATION_NAME)
    try:
        yield pool
    finally:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await pool.close()
        except TimeoutError:
            pool.terminate()


async def publish_to_queue(
    connection: AbstractConnection, queue: str, message: aio_pika.Message, *, timeout_s: float
) -> None:
    """Put `message` into `queue` and wait for the confirm.

    Raises:
        PublishError: there is no such queue, it takes nothing, or nothing is heard in time.
    """
    channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
    try:
        async with asyncio.timeout(timeout_s):
            await channel.default_exchange.publish(message, queue, mandatory=True)
    except ReturnedError as error:
        raise PublishError(f"there is no queue {queue}: run `usher topology`") from error
    except DeliveryError as error:
        raise PublishError(f"{queue} is full or unavailable") from error
    except TimeoutError as error:
        raise PublishError(f"not confirmed within {timeout_s:g} s: it may be in {queue} all the same") from error


def place(url: str) -> str:
    """Host and port of an address, which is all of it that may be printed."""
    parsed = URL(url)
    return f"{parsed.host or 'localhost'}:{parsed.port or 5432}"


async def _connect(addresses: Sequence[str]) -> AbstractConnection:
    troubles: list[str] = []
    for address in addresses:
        try:
            url = URL(address).update_query({"heartbeat": "10", "name": APPLICATION_NAME})
            return await aio_pika.connect(url, timeout=CONNECT_TIMEOUT_S)
        except (*CONNECTION_EXCEPTIONS, aiormq.exceptions.AMQPError) as error:
            troubles.append(f"{URL(address).host}:{URL(address).port or 5672} ({_said(error)})")
    raise UnreachableError(f"RabbitMQ does not answer at {', '.join(troubles)}: is it running (`usher up`)?")


def _said(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
