"""The effect `sync_user`: users' events become the users' rows, or their removal.

Goes in: events, as many as are there. Comes out: for each nothing, or an error. Promise: applying an event twice, late
or out of order changes nothing that a greater event has said; an event that cannot be applied hinders no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg
import structlog

from consumer import users
from consumer.users import Synced
from shared.errors import DependencyDown, TransientError
from shared.events import UserEvent

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SyncUser:
    """Bound to the database that holds the users table; `apart`: how many users at once when a batch is taken apart."""

    pool: asyncpg.Pool[asyncpg.Record]
    apart: int = 8

    async def __call__(self, events: Sequence[UserEvent]) -> list[Exception | None]:
        results = await self._together(events)
        tell = log.debug  # looked up once: mostly it does nothing
        for event, result in zip(events, results, strict=True):
            if isinstance(result, Synced):
                tell("user_synced", event_id=event.id, user_id=event.subject, type=event.type, result=result)
        return [None if isinstance(result, Synced) else result for result in results]

    async def _together(self, events: Sequence[UserEvent]) -> list[Synced | Exception]:
        try:
            return list(await users.sync_all(self.pool, events))
        except Exception as error:  # noqa: BLE001 - a bug, too, is isolated
            # It would fail each of them alike; asking for each takes time that a waiting backlog does not have.
            if isinstance(error, TransientError) and (down := await self._down()):
                return [down] * len(events)
            if len(events) == 1:
                return [error]
            log.info("batch_taken_apart", events=len(events), error=type(error).__name__)
        return await self._own_fault(await self._apart(events))

    async def _down(self) -> DependencyDown | None:
        try:
            await users.check(self.pool)
        except DependencyDown as error:
            return error
        return None

    async def _apart(self, events: Sequence[UserEvent]) -> list[Synced | Exception]:
        """One extra round: each user by itself, several at once; who cannot be synced is alone with that."""
        of_user: dict[str, list[int]] = {}
        for index, event in enumerate(events):
            of_user.setdefault(event.subject, []).append(index)
        results: list[Synced | Exception] = [Synced.STALE] * len(events)
        gate, met = asyncio.Semaphore(self.apart), list[Synced | Exception]()

        async def one_user(indexes: list[int]) -> None:
            async with gate:
                # The greatest first: with it in place the others are stale, and need not be asked.
                for index in sorted(indexes, key=lambda index: users.rank(events[index]), reverse=True):
                    results[index] = _hopeless(met, self.apart) or await self._alone(events[index])
                    met.append(results[index])
                    if isinstance(results[index], Synced):
                        return

        await asyncio.gather(*(one_user(indexes) for indexes in of_user.values()))
        return results

    async def _alone(self, event: UserEvent) -> Synced | Exception:
        try:
            return await users.sync(self.pool, event)
        except Exception as error:  # noqa: BLE001 - as above
            return error

    async def _own_fault(self, results: list[Synced | Exception]) -> list[Synced | Exception]:
        """Who ran out of time beside others that did not, and with Postgres there, has an attempt counted."""
        if not any(map(_timed_out, results)) or not any(isinstance(result, Synced) for result in results):
            return results
        if await self._down():
            return results
        return [TransientError(str(result)) if _timed_out(result) else result for result in results]


def _hopeless(met: Sequence[Synced | Exception], enough: int) -> DependencyDown | None:
    """The outage that so many users met and nobody was spared: the rest need not wait for it one by one."""
    last = met[-1] if len(met) >= enough else None
    alike = isinstance(last, DependencyDown) and all(isinstance(result, DependencyDown) for result in met)
    return last if isinstance(last, DependencyDown) and alike else None


def _timed_out(result: Synced | Exception) -> bool:
    return isinstance(result, DependencyDown) and isinstance(result.__cause__, TimeoutError)
