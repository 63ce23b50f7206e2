"""`usher tail`: events as they are stored, live from the log stream."""

import asyncio
import json as jsonlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli import terminal
from cli.moments import place_in_log
from cli.settings import OperatorSettings

if TYPE_CHECKING:
    from cli.log_stream import Entry, Offset

AGAIN_AFTER_S: Final = 1.0
NO_VALUE: Final = "-"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events are printed; None: any. `limit`: end after so many."""

    types: frozenset[str]
    user_id: str | None
    limit: int | None

    def takes(self, entry: "Entry", user_id: str | None) -> bool:
        return (not self.types or entry.message.type in self.types) and self.user_id in {None, user_id}


def tail(
    *,
    since: Annotated[
        str, typer.Option(help="now, first (all of the last 7 days), how long ago (10m, 2h, 3d), or a time.")
    ] = "now",
    event_type: Annotated[
        list[str] | None, typer.Option("--type", help="Only this type; may be given several times.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="Only events about this user id.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many events.")] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print whole events, one per line. They hold personal data.")
    ] = False,
) -> None:
    """Follow the events: time, type, user id, event id; with --json all that they say.

    Reading takes nothing away. A lost connection is made again, and nothing is left out. Ctrl-C ends it.

    [bold]Examples[/bold]

        usher tail
        usher tail --since 10m --type user.deleted
        usher tail --since first --user user_2abc --json | jq '.data.version'

    Exit codes: 0 the limit is reached, 1 failed, 2 misused, 130 ended with Ctrl-C.
    """
    wanted = Wanted(frozenset(event_type or ()), user, limit)
    terminal.run(_follow(place_in_log(since, "--since"), wanted, _print_whole if json else _print_line))


async def _follow(offset: "Offset", wanted: Wanted, show: "Callable[[Entry], None]") -> None:
    from cli import connections, log_stream

    addresses = OperatorSettings.find().broker_addresses()
    printed, connected = 0, False
    while printed != wanted.limit:
        try:
            async with connections.broker(addresses) as connection, log_stream.opened(connection, offset) as log:
                connected = True
                while printed != wanted.limit:
                    entry = await log.next()
                    offset = entry.offset + 1
                    if wanted.takes(entry, _subject(entry)):
                        show(entry)
                        printed += 1
        except (connections.UnreachableError, log_stream.LogLostError) as error:
            if not connected:
                raise
            # What comes in meanwhile is in the log. Where nothing was read yet, the moment is the place.
            offset = datetime.now(UTC) if offset == "next" else offset
            terminal.err().print(f"{error}: trying again", markup=False)
            await asyncio.sleep(AGAIN_AFTER_S)


def _print_line(entry: "Entry") -> None:
    message = entry.message
    moment = message.timestamp.astimezone(UTC).isoformat(timespec="seconds") if message.timestamp else NO_VALUE
    ids = (_subject(entry) or NO_VALUE, message.message_id or NO_VALUE)
    print(moment.replace("+00:00", "Z"), f"{message.type or NO_VALUE:<14}", *ids, sep="  ", flush=True)


def _print_whole(entry: "Entry") -> None:
    event = _event(entry)
    if event is None:
        event = {"id": entry.message.message_id, "undecodable": True}
    terminal.print_json(event)


def _subject(entry: "Entry") -> str | None:
    subject = (_event(entry) or {}).get("subject")
    return terminal.encodable(subject) if isinstance(subject, str) else None


def _event(entry: "Entry") -> dict[str, object] | None:
    try:
        event = jsonlib.loads(entry.message.body)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None
