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
from shared.errors import DependencyDown
from shared.events import UserEvent

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SyncUser:
    """Bound to the database that holds the users table; `apart`: how many users at once when a batch is taken apart."""

    pool: asyncpg.Pool[asyncpg.Record]
    apart: int = 8

    async def __call__(self, events: Sequence[UserEvent]) -> list[Exception | None]:
        results = await self._together(events)
        for event, result in zip(events, results, strict=True):
            if isinstance(result, Synced):
                log.debug("user_synced", event_id=event.id, user_id=event.subject, type=event.type, result=result)
        return [None if isinstance(result, Synced) else result for result in results]

    async def _together(self, events: Sequence[UserEvent]) -> list[Synced | Exception]:
        try:
            return list(await users.sync_all(self.pool, events))
        except DependencyDown as error:
            # It would fail each of them alike; asking for each takes time that a waiting backlog does not have.
            return [error] * len(events)
        except Exception as error:  # noqa: BLE001 - a bug, too, is isolated
            if len(events) == 1:
                return [error]
            log.info("batch_taken_apart", events=len(events), error=type(error).__name__)
        return await self._apart(events)

    async def _apart(self, events: Sequence[UserEvent]) -> list[Synced | Exception]:
        """One extra round: each user by itself, several at once; who cannot be synced is alone with that."""
        of_user: dict[str, list[int]] = {}
        for index, event in enumerate(events):
            of_user.setdefault(event.subject, []).append(index)
        results: list[Synced | Exception] = [Synced.STALE] * len(events)
        gate = asyncio.Semaphore(self.apart)

        async def one_user(indexes: list[int]) -> None:
            async with gate:
                # The greatest first: with it in place the others are stale, and need not be asked.
                for index in sorted(indexes, key=lambda index: users.rank(events[index]), reverse=True):
                    results[index] = await self._alone(events[index])
                    if isinstance(results[index], Synced):
                        return

        await asyncio.gather(*(one_user(indexes) for indexes in of_user.values()))
        return results

    async def _alone(self, event: UserEvent) -> Synced | Exception:
        try:
            return await users.sync(self.pool, event)
        except Exception as error:  # noqa: BLE001 - as above
            return error
