"""Whether an event still matters: it, compared with the newest state of its user that the table knows.

In: dead letters. Out: superseded, or not, or not known. The comparison is the table's own rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cli.settings import OperatorSettings
from consumer.users import rank
from shared.errors import DecodeError, UsherError
from shared.events import UserEvent, decode
from shared.topology import queue_of

if TYPE_CHECKING:
    from cli.dead_letters import DeadLetter

# Only of this effect is there one newest state per user; a database is made or removed step by step.
EFFECT: Final = "sync_user"

GUARDS: Final = "select user_id, deleted, version, event_id from user_guards where user_id = any($1::text[])"


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of the letters that were asked about; `trouble` says why nothing is."""

    trouble: str | None = None
    overtaken: frozenset[str] = field(default_factory=frozenset)

    def superseded(self, letter: DeadLetter) -> bool | None:
        """None: not known, or not a question of newer and older."""
        if self.trouble is not None or not _compared(letter):
            return None
        return letter.event_id in self.overtaken

    def sentence(self, letter: DeadLetter) -> str | None:
        if not _compared(letter):
            return None
        if self.trouble is not None:
            return f"not known whether it is superseded: {self.trouble}"
        if letter.event_id in self.overtaken:
            return "superseded: a newer state of its user is in the table, sent back it changes nothing there"
        return "not superseded: the table has nothing newer about its user"


async def of_letters(letters: Sequence[DeadLetter]) -> Standing:
    """How the letters stand against the table. Postgres may be away: then that is what is known."""
    from cli import connections

    events = [event for letter in letters if _compared(letter) and (event := event_of(letter.message.body))]
    if not events:
        return Standing()
    try:
        async with connections.database(OperatorSettings.find().database_address()) as connection:
            rows = await connection.fetch(GUARDS, list({event.subject for event in events}))
    except UsherError as error:
        return Standing(trouble=str(error))
    guards = {row["user_id"]: (row["deleted"], row["version"], row["event_id"]) for row in rows}
    return Standing(
        overtaken=frozenset(event.id for event in events if guards.get(event.subject, rank(event)) > rank(event))
    )


def event_of(body: bytes) -> UserEvent | None:
    try:
        event = decode(body)
    except DecodeError:
        return None
    return event if isinstance(event, UserEvent) else None


def _compared(letter: DeadLetter) -> bool:
    """What is no event of a user's has nothing to be compared with."""
    return letter.failed_in == queue_of(EFFECT) and event_of(letter.message.body) is not None
