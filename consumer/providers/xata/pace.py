"""How fast all copies of the consumer together may ask Xata: one row in Postgres says when the next request leaves.

In: a wish to send. Out: its turn, at even distances, whoever asked. Promise: never more than the rate, however many
copies; who would have to wait long is sent away (`NotYet`) without taking a turn. A fast pace is taken in blocks: the
turns of the next moment, of which those that nobody uses in time are lost.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Final

import asyncpg

from consumer.providers.protocol import QuotaBlocked
from shared import postgres
from shared.errors import NotYet

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]

PACE: Final = "pace"
CREATING: Final = "creating"
# What one copy may take of the row at a time. After `hold` the others may send on for so long.
BLOCK_S: Final = 0.05

# clock_timestamp, not now: who waited for the row's lock must not go by the time before. All copies want this one row:
# its lock is not held until a disk has the turn; what a crash of the server loses of it is a moment's pace.
_TAKE: Final = """
insert into xata_pace as row (key, free_at)
select $1, clock_timestamp() + $2::float8 * interval '1 second'
where set_config('synchronous_commit', 'off', true) = 'off'
on conflict (key) do update set
    free_at = greatest(row.free_at, clock_timestamp()) + $2::float8 * interval '1 second'
where row.free_at <= clock_timestamp() + $3::float8 * interval '1 second'
returning extract(epoch from free_at - clock_timestamp())::float8 - $2::float8
"""
_HOLD: Final = """
insert into xata_pace as row (key, free_at) values ($1, clock_timestamp() + $2::float8 * interval '1 second')
on conflict (key) do update set free_at = greatest(row.free_at, excluded.free_at)
"""
_LEFT: Final = "select extract(epoch from free_at - clock_timestamp())::float8 from xata_pace where key = $1"

_CLAIM: Final = "select claimed, first_ends_s from xata_claim($1, $2)"
_REFUND: Final = "update xata_creations set creations = creations - 1 where creation_id = $1"


class Pace:
    """`patience_s` is how long a worker is held at most until its turn."""

    def __init__(self, pool: Pool, *, requests_per_s: float, patience_s: float) -> None:
        self._pool = pool
        self._distance_s = 1 / requests_per_s
        self._patience_s = patience_s
        self._turns_at_once = max(1, int(requests_per_s * BLOCK_S))
        self._taking = asyncio.Lock()
        self._next_at = self._last_at = -math.inf

    async def turn(self) -> None:
        """Wait until a request may leave.

        Raises:
            NotYet: that would take longer than is right for a worker.
        """
        async with self._taking:
            at = max(self._next_at, time.monotonic())
            if at > self._last_at:
                at = await self._take_block()
            self._next_at = at + self._distance_s
        wait_s = at - time.monotonic()
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    async def _take_block(self) -> float:
        """When its first turn is."""
        async with postgres.translated():
            lasts_s = self._turns_at_once * self._distance_s
            wait_s: float | None = await self._pool.fetchval(_TAKE, PACE, lasts_s, self._patience_s)
        if wait_s is None:
            raise NotYet("the pace of requests to Xata is used up", await self._left_s(PACE))
        first_at = time.monotonic() + max(0.0, wait_s)
        self._last_at = first_at + (self._turns_at_once - 1) * self._distance_s
        return first_at

    async def hold(self, seconds: float) -> None:
        """Nobody sends anything for so long: Xata asked for it."""
        self._last_at = -math.inf
        async with postgres.translated():
            await self._pool.execute(_HOLD, PACE, seconds)

    async def pause_creating(self, seconds: float) -> None:
        async with postgres.translated():
            await self._pool.execute(_HOLD, CREATING, seconds)

    async def creating_allowed(self) -> None:
        """Raises NotYet while Xata creates nothing."""
        left_s = await self._left_s(CREATING)
        if left_s > 0:
            raise NotYet("Xata has paused the creation of branches", left_s)

    async def claim(self, kind: str, cap_per_hour: int | None) -> int | None:
        """Count a creation against the rolling hour; what to give to `refund` when it did not come about.

        Raises:
            QuotaBlocked: the hour's creations are used up.
        """
        if cap_per_hour is None:
            return None
        async with postgres.translated():
            row = await self._pool.fetchrow(_CLAIM, kind, cap_per_hour)
        assert row is not None  # noqa: S101 - the function has always one row
        if row["claimed"] is None:
            wait_s = max(1.0, row["first_ends_s"] or 0.0)
            raise QuotaBlocked(f"{cap_per_hour} {kind} creations an hour are allowed and used up", wait_s)
        return int(row["claimed"])

    async def refund(self, claim: int | None) -> None:
        """A creation that Xata refused does not count."""
        if claim is not None:
            async with postgres.translated():
                await self._pool.execute(_REFUND, claim)

    async def _left_s(self, key: str) -> float:
        async with postgres.translated():
            left_s = await self._pool.fetchval(_LEFT, key)
        return max(0.0, left_s or 0.0)
