"""The table `databases`, read only: its one SELECT.

In: user ids. Out: their rows. Promise: an answer or `DependencyDown` within ANSWER_TIMEOUT_S, whatever Postgres and the
network do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from lookup.row import Row
from shared import postgres
from shared.errors import DependencyDown, EffectError

ANSWER_TIMEOUT_S: Final = 2.0
MAX_CONNECTIONS: Final = 10
CLOSE_TIMEOUT_S: Final = 3.0

_SELECT: Final = """
select
    user_id, state, provider, project, name, region, host, schema_version, requested_at, ready_at, erase_after,
    greatest(0, extract(epoch from now() - requested_at))::float8 as age_s,
    coalesce(erase_after <= now(), false) as due
from databases where user_id = any($1::text[])
"""


class Databases:
    """The table over a pool. `trouble` says what was wrong when it was last asked; None: nothing."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool
        self.trouble: str | None = "not asked yet"

    async def find(self, user_ids: Collection[str]) -> dict[str, Row]:
        """The rows that are there, by user id.

        Raises:
            DependencyDown: Postgres does not answer, or not in time.
        """
        asking = asyncio.create_task(self._select(user_ids))
        asking.add_done_callback(_retrieved)
        try:
            # The driver's own deadlines add up (connecting, asking, giving a silent connection back), and it does not
            # end at once when it is cancelled: it is left to itself and ends later.
            await asyncio.wait({asking}, timeout=ANSWER_TIMEOUT_S)
            if not asking.done():
                raise DependencyDown(f"no answer within {ANSWER_TIMEOUT_S:g} s")
            rows = asking.result()
        except EffectError as error:
            self.trouble = str(error)
            raise DependencyDown(str(error)) from error
        finally:
            asking.cancel()
        self.trouble = None
        return rows

    async def _select(self, user_ids: Collection[str]) -> dict[str, Row]:
        async with postgres.translated(), self._pool.acquire(timeout=ANSWER_TIMEOUT_S) as connection:
            rows = await connection.fetch(_SELECT, list(user_ids), timeout=ANSWER_TIMEOUT_S)
        return {row["user_id"]: Row(**row) for row in rows}


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Databases]:
    """The table at `url`, connected to when it is first asked."""
    pool = await postgres.create_pool(url, max_size=MAX_CONNECTIONS, name="usher lookup")
    try:
        yield Databases(pool)
    finally:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await pool.close()
        except TimeoutError:
            pool.terminate()  # what hangs is cut


def _retrieved(asking: asyncio.Task[dict[str, Row]]) -> None:
    """Look at the outcome of one that nobody waits for any more, so that asyncio does not complain."""
    if not asking.cancelled():
        asking.exception()
