"""One user's story in time order, told from the facts; and what the facts do not tell.

In: `Facts`. Out: lines and sentences. Promise: what is concluded is marked as such, and what is unknown is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cli.trace_facts import Facts, Logged, Waiting
from consumer.database_state import State
from shared.durations import format_duration
from shared.events import UserEvent, format_time
from shared.topology import INGRESS_DEAD_QUEUE

if TYPE_CHECKING:
    from cli.dead_letters import DeadLetter
    from consumer.databases import Database

SYNC, PROVISION = "sync_user", "provision_database"
BEGINNING: Final = datetime(1, 1, 1, tzinfo=UTC)

LOG_FORGETS: Final = "what was received more than seven days ago: the log keeps no longer"
LOG_UNREAD: Final = "what was received before the place from which the log was read (--since)"
NO_TIMES: Final = (
    "when events were received, and when those before the last one were applied: an event stands at the time at which "
    "it happened at Clerk"
)
NO_PAST: Final = "failed attempts of events that have succeeded since: their history went with them"


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that happened. `what` is a code; not `sure`: concluded from the order of the log."""

    at: str | None
    what: str
    text: str
    event_id: str | None = None
    effect: str | None = None
    sure: bool = True


def story(facts: Facts) -> list[Line]:
    """All that is known to have happened, in time order; of equal times, in the order of the log."""
    lines = [*_received(facts), *_failures(facts), *_deeds(facts), *_database(facts)]
    return sorted(lines, key=lambda line: _moment(line.at) or BEGINNING)


def unknown(facts: Facts) -> list[str]:
    """What the story cannot tell, a sentence each."""
    unseen = [f"{count} events in {queue}: not looked at" for queue, count in facts.unseen.items()]
    waiting = [
        f"whose the {count} events in usher.{effect} are: looking would count as a delivery"
        for effect, count in facts.ready.items()
        if count
    ]
    forgotten = LOG_FORGETS if facts.whole_log else LOG_UNREAD
    return [*facts.troubles, *unseen, *waiting, forgotten, NO_TIMES, NO_PAST]


def _received(facts: Facts) -> Iterator[Line]:
    seen: set[str] = set()
    for logged in facts.logged:
        event = logged.event
        at = format_time(event.time)
        if event.type == "database.ready":
            yield Line(at, "announced", f"database.ready announced (log offset {logged.offset})", event.id, PROVISION)
        elif event.id in seen:
            text = f"{event.type} received again (log offset {logged.offset}): a duplicate, it changes nothing"
            yield Line(at, "duplicate", text, event.id)
        else:
            yield Line(at, "received", f"{event.type} received (log offset {logged.offset})", event.id)
            if isinstance(event, UserEvent):
                yield _fate(facts, logged, event)
        seen.add(event.id)


def _fate(facts: Facts, logged: Logged, event: UserEvent) -> Line:
    """What became of the event in the table, by the table's own rule: the greater state wins."""
    what, text, sure = _verdict(facts, logged, event)
    applied_at = facts.guard.settled_at if facts.guard and what == "applied" else event.time
    return Line(format_time(applied_at), what, text, event.id, SYNC, sure)


def _verdict(facts: Facts, logged: Logged, event: UserEvent) -> tuple[str, str, bool]:
    guard = facts.guard
    if facts.table_trouble is not None:
        return "unknown", "applied or not: not known without Postgres", False
    if guard is None or facts.ranks[event.id] > facts.ranks[guard.event_id]:
        return "not_applied", _where(facts, event), True
    if guard.event_id == event.id:
        row = "the user's row is gone" if guard.deleted else "the user's row is as it says"
        return "applied", f"{event.type} applied: {row}", True
    if guard.event_id not in {each.event.id for each in facts.logged}:
        return "stale", f"ignored as stale: {guard.event_id}, from before what the log tells, is newer", True
    newer = _newer_before(facts, logged)
    if newer is not None:
        return "stale", f"ignored as stale: {newer}, which came before it, is newer", False
    return "superseded", f"applied and since superseded, or overtaken: {guard.event_id} is newer", False


def _newer_before(facts: Facts, logged: Logged) -> str | None:
    """The newest of the events that came before this one, if it is newer."""
    before = [each.event.id for each in facts.logged if each.offset < logged.offset and each.event.id in facts.ranks]
    newest = max(before, key=facts.ranks.__getitem__, default=None)
    return newest if newest and facts.ranks[newest] > facts.ranks[logged.event.id] else None


def _where(facts: Facts, event: UserEvent) -> str:
    if facts.broker_trouble is not None:
        return "not applied; where it is, is not known without RabbitMQ"
    if any(each.effect == SYNC and each.letter.event_id == event.id for each in facts.retrying):
        return "not applied: it waits on the retry ladder"
    if any(each.effect == SYNC and each.event_id == event.id for each in facts.dead):
        return "not applied: it is a dead letter"
    return "not applied: it waits in usher.sync_user, is being worked on, or was discarded"


def _failures(facts: Facts) -> Iterator[Line]:
    for waiting in facts.retrying:
        yield from _attempts(waiting.letter, waiting.effect)
        yield _due(waiting)
    for letter in facts.dead:
        yield from _attempts(letter, letter.effect)
        yield Line(letter.failed_at, "dead", _grave(letter), letter.event_id, letter.effect)


def _attempts(letter: DeadLetter, effect: str | None) -> Iterator[Line]:
    for failure in letter.history:
        if failure.reason == "redriven":
            text = "sent back by an operator"
        else:
            times = f", {failure.times} times until then" if failure.times > 1 else ""
            text = f"attempt {failure.attempt} failed ({failure.reason}{times}): {failure.error}"
        what = "redriven" if failure.reason == "redriven" else "failed"
        yield Line(failure.at or letter.first_failed_at, what, text, letter.event_id, effect)


def _grave(letter: DeadLetter) -> str:
    then = "show" if letter.queue == INGRESS_DEAD_QUEUE else "redrive --id"
    return f"given up ({letter.reason}), lies in {letter.queue}: usher dead {then} {letter.id}"


def _due(waiting: Waiting) -> Line:
    letter, delay = waiting.letter, timedelta(seconds=waiting.delay_s)
    at = _moment(letter.history[-1].at if letter.history else None)
    if at is None:
        text = f"to be tried again within {format_duration(delay)} (attempt {letter.attempt}, {letter.reason})"
        return Line(letter.first_failed_at, "retry", text, letter.event_id, waiting.effect)
    text = f"is to be tried again (attempt {letter.attempt}, after {letter.reason})"
    return Line(format_time(at + delay), "retry", text, letter.event_id, waiting.effect)


def _moment(text: str | None) -> datetime | None:
    try:
        at = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return at if at is not None and at.tzinfo else None


def _deeds(facts: Facts) -> Iterator[Line]:
    ids = {each.event.id for each in facts.logged} | {letter.event_id or "" for letter in facts.dead}
    for deed in facts.deeds:
        for event_id in sorted(ids & deed.event_ids):
            yield Line(deed.at, "operator", f"{deed.by}: usher {deed.verb}", event_id)


def _database(facts: Facts) -> Iterator[Line]:
    row = facts.database
    if row is None:
        return
    moments = [
        (row.requested_at if row.attempts or row.state != State.DELETED else None, "requested", "database requested"),
        (row.ready_at, "ready", f"database ready ({row.provider}, region {row.region or 'not known'})"),
        (row.cancelled_at, "cancelled", "an operator cancelled the deletion: the database stays"),
        (row.deleted_at, "deleted", "database deleted" if row.attempts else "no database is made: deleted first"),
    ]
    for at, what, text in moments:
        if at is not None:
            yield Line(format_time(at), f"database_{what}", text, None, PROVISION)
    if row.state not in {State.REQUESTED, State.READY, State.DELETED}:
        yield Line(format_time(row.changed_at), f"database_{row.state}", _state_text(row), None, PROVISION)
    if row.erase_after is not None:
        yield Line(format_time(row.erase_after), "database_due", "the database is to be erased", None, PROVISION)


def _state_text(row: Database) -> str:
    match row.state:
        case State.HELD:
            return "its user is gone: the database is held until it is erased"
        case State.CREATING:
            return f"database being created (attempt {row.attempts})"
        case _:
            return f"database {row.state} (attempt {row.attempts})" + (f": {row.reason}" if row.reason else "")
