"""The effect `provision_database`: one database for a user, or its removal after a holdback.

In: one event. Out: the user's row in `databases` moved on as far as it goes. Promise: any order, duplication, kill or
concurrency of a user's events ends with one database in its right state, or none, and nothing left at the provider.

First the event's wish is recorded in one statement; then the row is brought to what it says, step by step, whatever the
event was. Every step can be repeated, so an event that comes again after a kill goes on where the last one was cut off.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, assert_never

import asyncpg
import structlog

from consumer import databases
from consumer.database_state import State
from consumer.databases import Database
from consumer.providers.names import database_name
from consumer.providers.protocol import DatabaseProvider, Place, QuotaBlocked, Usable, UserDatabase
from consumer.providers.regions import RegionMap, Regions, choose_region
from shared import postgres
from shared.errors import DependencyDown, NotYet, PermanentError, ThrottledError, UsherError
from shared.events import DatabaseData, DatabaseEvent, UserEvent

if TYPE_CHECKING:
    from consumer.databases import Connection

log = structlog.get_logger()

BUSY_RETRY_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class ProvisionDatabase:
    """The effect with its collaborators. `pool` needs a connection for each event that is taken at once.

    The connection is kept while the provider works, because it holds the user's lock; nothing waits for a second one.
    """

    pool: asyncpg.Pool[asyncpg.Record]
    provider: DatabaseProvider
    regions: Regions
    holdback: timedelta
    announce: Callable[[DatabaseEvent], Awaitable[None]]

    async def __call__(self, event: UserEvent) -> None:
        """Do what the event asks for.

        Raises:
            NotYet: another worker is at it, the provider is, or the holdback is not over.
            EffectError: as the provider and Postgres say.
            PublishError: `database.ready` was not confirmed.
        """
        async with postgres.translated(), self.pool.acquire() as connection:
            begun = await self._begin_at_once(connection, event)
            row = await (self._make(connection, begun) if begun else self._looked_up(connection, event))
            while row is not None:
                row = await self._advance(connection, row, event)

    async def check(self) -> None:
        """Whether events can be worked on, for the breaker.

        Raises:
            DependencyDown: Postgres or the provider cannot.
        """
        await postgres.ping(self.pool)
        await self.provider.check()

    async def _begin_at_once(self, connection: Connection, event: UserEvent) -> Database | None:
        """A new user's row, begun in one statement; None for all that has to be looked at."""
        known = self.regions.known()
        if event.type != "user.created" or known is None:
            return None
        wanted = UserDatabase(event.subject, database_name(event.subject), _region_of(event, known))
        return await databases.begin_at_once(connection, wanted, provider=self.provider.name, event_id=event.id)

    async def _looked_up(self, connection: Connection, event: UserEvent) -> Database | None:
        await self._record_wish(connection, event)
        if not await databases.try_lock(connection, event.subject):
            raise NotYet("another worker is at this user's database", BUSY_RETRY_S)
        return await databases.find(connection, event.subject)

    async def _record_wish(self, connection: Connection, event: UserEvent) -> None:
        known = self.regions.known()
        region = _region_of(event, known) if known else None
        database = UserDatabase(event.subject, database_name(event.subject), region)
        match event.type:
            case "user.created":
                await databases.want(connection, database, provider=self.provider.name, event_id=event.id)
            case "user.deleted":
                await databases.unwant(
                    connection,
                    database,
                    provider=self.provider.name,
                    event_id=event.id,
                    happened_at=event.time,
                    holdback=self.holdback,
                )
            case "user.updated":
                pass  # neither wishes for a database nor away with it
            case _:
                assert_never(event.type)

    async def _advance(self, connection: Connection, row: Database, event: UserEvent) -> Database | None:
        """One step of the row towards what it says: the row as it is then, or None when that was the last one."""
        match row.state:
            case State.REQUESTED | State.CREATING | State.QUOTA_BLOCKED | State.FAILED:
                return await self._create(connection, row, event)
            case State.READY:
                await self._announce_once(connection, row, event)
                return None
            case State.HELD:
                return await self._erase_when_due(connection, row, event)
            case State.DELETING:
                return await self._delete(connection, row)
            case State.DELETED:
                await self._sweep(row, event)
                return None
            case _:
                assert_never(row.state)

    async def _create(self, connection: Connection, row: Database, event: UserEvent) -> Database | None:
        region = _region_of(event, await self.regions.verified())
        begun = await databases.begin(connection, row.user_id, region)
        if begun is None:  # a deletion came in between
            return await databases.find(connection, row.user_id)
        return await self._make(connection, begun)

    async def _make(self, connection: Connection, begun: Database) -> Database | None:
        try:
            self._refuse_others(begun)
            place = await self.provider.create(begun.known)
            usable = await self._usable(connection, begun, place)
        except QuotaBlocked as blocked:
            await databases.stop_creating(connection, begun.user_id, State.QUOTA_BLOCKED, str(blocked))
            raise
        except (NotYet, DependencyDown, ThrottledError):
            raise  # waiting, and not this database's fault: it stays `creating`
        except Exception as error:
            await databases.stop_creating(connection, begun.user_id, State.FAILED, _reason(error))
            raise
        ready = await databases.make_ready(connection, begun.user_id, place, usable)
        if ready is None:  # as above
            return await databases.find(connection, begun.user_id)
        log.info("database_ready", user_id=ready.user_id, region=ready.region, attempts=ready.attempts)
        return ready

    async def _usable(self, connection: Connection, begun: Database, place: Place) -> Usable:
        if place.schema_version is not None:
            return Usable(place.schema_version)
        region = place.region or begun.region
        placed = UserDatabase(begun.user_id, begun.name, region, place.project, place.provider_id)
        try:
            return await self.provider.prepare(placed)
        except Exception:
            # It may take long until the next look: where it is can be seen meanwhile.
            await databases.locate(connection, begun.user_id, place)
            raise

    async def _announce_once(self, connection: Connection, row: Database, event: UserEvent) -> None:
        if row.announced_at is not None:
            return
        # Publish before noting it: a crash here announces twice under one id, never not at all.
        await self.announce(_ready_event(row, event.traceparent))
        await databases.announced(connection, row.user_id)

    async def _erase_when_due(self, connection: Connection, row: Database, event: UserEvent) -> Database | None:
        deleting = await databases.erase_when_due(connection, row.user_id)
        if deleting is None and event.type == "user.deleted":
            # The deletion itself is the alarm clock; other events need not wait for it.
            raise NotYet("the database is held back before it is deleted", max(1.0, row.erase_in_s or 0.0))
        return deleting

    async def _delete(self, connection: Connection, row: Database) -> Database | None:
        try:
            self._refuse_others(row)
            await self.provider.delete(row.known)
        except PermanentError as error:
            await databases.note(connection, row.user_id, _reason(error))
            raise
        deleted = await databases.make_deleted(connection, row.user_id)
        if deleted is None:
            return await databases.find(connection, row.user_id)
        log.info("database_deleted", user_id=row.user_id)
        return deleted

    async def _sweep(self, row: Database, event: UserEvent) -> None:
        """A creation that lost its lock may have ended after the deletion: its own event comes again and clears up."""
        if event.type == "user.created" and row.attempts and row.provider == self.provider.name:
            await self.provider.delete(row.known)

    def _refuse_others(self, row: Database) -> None:
        if row.provider != self.provider.name:
            raise PermanentError(
                f"this database belongs to provider {row.provider}: redrive it to a consumer with that"
            )


def _region_of(event: UserEvent, regions: RegionMap) -> str:
    return choose_region(regions, asked=event.data.region, country=event.data.country)


def _ready_event(row: Database, traceparent: str | None) -> DatabaseEvent:
    """Made from the row alone, so that announcing again is the same event with the same id."""
    ready_at = row.ready_at or row.changed_at
    return DatabaseEvent(
        id=f"{row.name}.ready.{int(ready_at.timestamp() * 1000)}",
        source=f"usher/{row.provider}",
        type="database.ready",
        subject=row.user_id,
        time=ready_at,
        data=DatabaseData(
            provider=row.provider,
            name=row.name,
            region=row.region,
            host=row.host,
            schema_version=row.schema_version,
        ),
        traceparent=traceparent,
    )


def _reason(error: Exception) -> str:
    """For the operator who reads the row. A bug's text may quote anything, so only its kind is kept."""
    return str(error) if isinstance(error, UsherError) else f"bug: {type(error).__name__}"
