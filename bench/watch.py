"""When does a user's row become visible? Asked of Postgres, once a millisecond, for all users that are still missing.

In: user ids with the moment their webhook was sent. Out: milliseconds until a SELECT found the row; never too few.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

_LOOK: Final = "select user_id from users where user_id = any($1)"
_PAUSE_S: Final = 0.001
_PATIENCE_S: Final = 20.0


class Watch:
    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._connection = connection
        self._missing: dict[str, float] = {}
        self._visible_ms: list[float] = []
        self._some = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def of(cls, url: str) -> AsyncIterator[Watch]:
        connection = await asyncpg.connect(url)
        watch = cls(connection)
        looking = asyncio.create_task(watch.look())
        try:
            yield watch
        finally:
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looking
            await connection.close()

    def expect(self, user_id: str, sent: float) -> None:
        self._missing[user_id] = sent
        self._some.set()

    async def look(self) -> None:
        """For ever, until cancelled."""
        while True:
            await self._some.wait()
            found = await self._connection.fetch(_LOOK, list(self._missing))
            now = time.perf_counter()
            for row in found:
                self._visible_ms.append((now - self._missing.pop(row["user_id"])) * 1000)
            if not self._missing:
                self._some.clear()
            await asyncio.sleep(_PAUSE_S)

    async def finished(self) -> tuple[list[float], int]:
        """Milliseconds for all that became visible, and how many did not within twenty seconds."""
        until = time.perf_counter() + _PATIENCE_S
        while self._missing and time.perf_counter() < until:
            await asyncio.sleep(_PAUSE_S)
        return self._visible_ms, len(self._missing)
