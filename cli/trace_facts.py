"""All that is known of one user, from wherever it lies: the log, the tables, the retry ladder, the dead letters.

In: a user id. Out: `Facts`, with what could not be asked among them. Promise: nothing is changed, and nothing comes out
of its order. Looking into a retry queue hands its messages out and gives them back: their waiting time goes on
meanwhile, they keep their places, and their deliveries are not counted on once they are back in the work queue.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from cli import connections, dead_letters, log_stream
from cli.audit import OPERATOR_ACTED
from cli.dead_letters import DEAD_QUEUES, DeadLetter
from consumer import databases
from consumer.users import rank
from shared.errors import DecodeError, UsherError
from shared.events import Event, UserEvent, decode
from shared.topology import EFFECTS, LOG_QUEUE, RETRY_DELAYS_S, queue_of, retry_queue_of

if TYPE_CHECKING:
    import asyncpg
    from aio_pika.abc import AbstractConnection

    from cli.log_stream import Entry, Offset
    from consumer.databases import Database

GUARD: Final = "select deleted, version, event_id, event_time, settled_at from user_guards where user_id = $1"
ROW: Final = "select synced_at from users where user_id = $1"

# Told how much has been looked at of how much, and where.
OnLook = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Logged:
    offset: int
    event: Event


@dataclass(frozen=True, slots=True)
class Deed:
    """What an operator did, as the log has it."""

    at: str
    by: str
    verb: str
    event_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event on the retry ladder."""

    effect: str
    delay_s: int
    letter: DeadLetter


@dataclass(frozen=True, slots=True)
class Guard:
    deleted: bool
    version: int
    event_id: str
    event_time: datetime
    settled_at: datetime


@dataclass(frozen=True, slots=True)
class Reach:
    """How far is looked: into the log from `since` on, at so many events of each retry queue."""

    since: Offset
    look_at: int


@dataclass(slots=True)
class Facts:
    """`unseen` counts what was not looked at, by queue."""

    user_id: str
    whole_log: bool = True
    logged: list[Logged] = field(default_factory=list)
    deeds: list[Deed] = field(default_factory=list)
    retrying: list[Waiting] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    ready: dict[str, int] = field(default_factory=dict)
    unseen: dict[str, int] = field(default_factory=dict)
    guard: Guard | None = None
    synced_at: datetime | None = None
    database: Database | None = None
    broker_trouble: str | None = None
    table_trouble: str | None = None
    # The user that the given id, being an event's, is about.
    meant: str | None = None

    @property
    def ranks(self) -> dict[str, tuple[bool, int, str]]:
        """The ids of events in the order in which the greatest stays."""
        ranks = {each.event.id: rank(each.event) for each in self.logged if isinstance(each.event, UserEvent)}
        if self.guard is not None:
            ranks[self.guard.event_id] = (self.guard.deleted, self.guard.version, self.guard.event_id)
        return ranks

    @property
    def nothing(self) -> bool:
        return not (self.logged or self.retrying or self.dead or self.guard or self.synced_at or self.database)

    @property
    def troubles(self) -> list[str]:
        return [trouble for trouble in (self.broker_trouble, self.table_trouble) if trouble]


async def gather(
    user_id: str, addresses: Sequence[str], database_url: Callable[[], str], *, reach: Reach, on_look: OnLook
) -> Facts:
    """Ask everywhere. What does not answer is a trouble among the facts.

    Raises:
        UsherError: nothing answers.
    """
    facts = Facts(user_id, whole_log=reach.since == "first")
    try:
        async with connections.broker(addresses) as connection:
            await _read_log(connection, facts, reach.since, on_look)
            await _look_into_queues(connection, facts, reach.look_at, on_look)
    except UsherError as error:
        facts.broker_trouble = str(error)
    try:
        async with connections.database(database_url()) as connection_to_tables:
            await _ask_tables(connection_to_tables, facts)
    except UsherError as error:
        if facts.broker_trouble is not None:
            raise UsherError(f"{facts.broker_trouble}; {error}") from error
        facts.table_trouble = str(error)
    return facts


async def _read_log(connection: AbstractConnection, facts: Facts, since: Offset, on_look: OnLook) -> None:
    before = await log_stream.end(connection)
    start = await log_stream.offset_of(connection, since) if before else None
    if start is None:
        return
    sought = facts.user_id.encode()
    async for entry in log_stream.stored(connection, start, before):
        on_look(LOG_QUEUE, entry.offset + 1 - start, before - start)
        if entry.message.type == OPERATOR_ACTED:
            facts.deeds += _deeds(entry)
        # Most of the log is about others: looking for the bytes is a hundred times quicker than reading them all.
        elif sought in entry.message.body:
            _note(entry, facts)


def _note(entry: Entry, facts: Facts) -> None:
    try:
        event = decode(entry.message.body)
    except DecodeError:
        return
    if event.subject == facts.user_id:
        facts.logged.append(Logged(entry.offset, event))
    elif event.id == facts.user_id:
        facts.meant = event.subject


def _deeds(entry: Entry) -> list[Deed]:
    """The record, where it tells of an end: only that knows the events."""
    try:
        record = json.loads(entry.message.body)
        data: dict[str, Any] = record["data"]
        if data["phase"] != "ended":
            return []
        return [Deed(record["time"], data["by"], data["verb"], frozenset(data["event_ids"]))]
    except (ValueError, KeyError, TypeError):
        return []


async def _look_into_queues(connection: AbstractConnection, facts: Facts, look_at: int, on_look: OnLook) -> None:
    for effect in EFFECTS:
        facts.ready[effect] = await _depth(connection, queue_of(effect))
        for delay_s in RETRY_DELAYS_S:
            found = await _letters(connection, facts, retry_queue_of(queue_of(effect), delay_s), look_at, on_look)
            facts.retrying += [Waiting(effect, delay_s, letter) for letter in found]
    for queue in DEAD_QUEUES:
        facts.dead += await _letters(connection, facts, queue, None, on_look)


async def _letters(
    connection: AbstractConnection, facts: Facts, queue: str, look_at: int | None, on_look: OnLook
) -> list[DeadLetter]:
    """The user's letters in `queue`; of what waits only the first `look_at` are handed out."""
    found: list[DeadLetter] = []
    async with dead_letters.opened(connection, queue, window=look_at) as letters:
        depth = letters.unseen
        wanted = depth if look_at is None else min(depth, look_at)
        for number in range(wanted):
            letter = await letters.next()
            if letter is None:
                break
            on_look(queue, number + 1, wanted)
            found += [letter] if letter.user_id == facts.user_id else []
            if letter.event_id == facts.user_id:
                facts.meant = letter.user_id
        if letters.unseen:
            facts.unseen[queue] = letters.unseen
    return found


async def _depth(connection: AbstractConnection, queue: str) -> int:
    async with dead_letters.opened(connection, queue) as letters:
        return letters.unseen


async def _ask_tables(connection: asyncpg.Connection[asyncpg.Record], facts: Facts) -> None:
    guard = await connection.fetchrow(GUARD, facts.user_id)
    facts.guard = Guard(**guard) if guard else None
    facts.synced_at = await connection.fetchval(ROW, facts.user_id)
    facts.database = await databases.find(connection, facts.user_id)
