"""The effect `sync_user`: a user's event becomes the user's row, or its removal.

Goes in: one event. Comes out: nothing, or an `EffectError`. Promise: applying an event twice, late or out of order
changes nothing that a greater event has said.
"""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg
import structlog

from consumer import users
from shared.events import UserEvent

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SyncUser:
    """Bound to the database that holds the users table."""

    pool: asyncpg.Pool[asyncpg.Record]

    async def __call__(self, event: UserEvent) -> None:
        synced = await users.sync(self.pool, event)
        log.debug("user_synced", event_id=event.id, user_id=event.subject, type=event.type, result=synced)
