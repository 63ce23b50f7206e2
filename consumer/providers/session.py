"""One connection to Postgres for one piece of work, opened and closed around it; errors are ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from shared import postgres


@asynccontextmanager
async def session(url: str, **server_settings: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection of its own; `server_settings` hold as long as it does.

    Raises:
        EffectError: as shared.postgres.translated, from the connecting and from the work.
    """
    async with postgres.translated():
        connection = await asyncpg.connect(
            url,
            timeout=postgres.CONNECT_TIMEOUT_S,
            command_timeout=postgres.COMMAND_TIMEOUT_S,
            server_settings=server_settings,
        )
        try:
            yield connection
        finally:
            await _close(connection)


async def _close(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    try:
        # Waits for a statement that was cancelled, which the server may still be at.
        await connection.close(timeout=postgres.CONNECT_TIMEOUT_S)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        # The work is done or has raised; neither that nor a cancellation may be replaced by a farewell that failed.
        connection.terminate()
