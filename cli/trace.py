"""`usher trace`: what happened to one user."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.markup import escape

from cli import terminal
from cli.moments import place_in_log
from cli.settings import OperatorSettings
from shared.errors import UsherError
from shared.events import format_time

if TYPE_CHECKING:
    from cli.trace_facts import Facts, Reach
    from cli.trace_story import Line

LOOK_AT: Final = 1000
_COLOURS: Final = {
    **dict.fromkeys(("dead", "failed", "database_failed", "database_quota_blocked"), "red"),
    **dict.fromkeys(("stale", "duplicate", "superseded"), "dim"),
    **dict.fromkeys(("not_applied", "retry", "unknown", "database_held", "database_due"), "yellow"),
    **dict.fromkeys(("applied", "database_ready"), "green"),
}


def trace(
    user: Annotated[str, typer.Argument(metavar="USER", help="The Clerk user id; an event id means its user.")],
    *,
    since: Annotated[
        str, typer.Option(help="Read the log only from there on: how long ago (2h), a time, first, or offset:123.")
    ] = "first",
    look_at: Annotated[
        int, typer.Option(min=1, help="Look at no more waiting events than so many in each retry queue.")
    ] = LOOK_AT,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell one user's story in time order: received, applied or ignored, retried, given up; the database's states.

    From the log of the last seven days, the tables, the retry ladder and the dead-letter queues. Ids and reasons only,
    never what an event says. Nothing is changed. Events that wait on the retry ladder are handed out for a moment and
    given back to their places: their time goes on, but those that are due just then come a moment late.
    "~" marks what is concluded from the order of the log, without a record of it.

    [bold]Examples[/bold]

        usher trace user_2abc
        usher trace msg_2KWPBgLlAfxdpx2AI54pPJ85f4W
        usher trace user_2abc --since 3h
        usher trace user_2abc --json | jq -r '.story[].text'

    Exit codes: 0 told, 1 nothing is known, or something did not answer, 2 misused, 130 stopped with Ctrl-C.
    """
    from cli.trace_facts import Reach
    from cli.trace_story import story, unknown

    facts = terminal.run(_facts(user, Reach(place_in_log(since, "--since"), look_at), quiet=json))
    if facts.nothing and not facts.troubles:
        raise UsherError(
            f"nothing is known of {user}: is it a Clerk user id (user_…)? What was received before the log was read "
            f"from ({since}; it keeps seven days) and left no row is not seen"
        )
    lines, unknowns = story(facts), unknown(facts)
    if json:
        terminal.print_json(_as_json(facts, lines, unknowns))
    else:
        _print(facts, lines, unknowns)
    if facts.troubles:
        raise typer.Exit(1)


async def _facts(user: str, reach: "Reach", *, quiet: bool) -> "Facts":
    from cli.trace_facts import gather

    settings = OperatorSettings.find()
    addresses = settings.broker_addresses()
    with terminal.progress(shown=not quiet) as bar:
        tasks: dict[str, Any] = {}

        def on_look(where: str, done: int, total: int) -> None:
            if where not in tasks:
                tasks[where] = bar.add_task(where, total=total)
            bar.update(tasks[where], completed=done, total=total)

        facts = await gather(user, addresses, settings.database_address, reach=reach, on_look=on_look)
        if facts.nothing and facts.meant:
            return await gather(facts.meant, addresses, settings.database_address, reach=reach, on_look=on_look)
    return facts


def _print(facts: "Facts", lines: "list[Line]", unknowns: list[str]) -> None:
    out = terminal.out()
    out.print(f"[bold]{escape(facts.user_id)}[/bold]: {escape(_now(facts))}", soft_wrap=True)
    present = format_time(datetime.now(UTC))
    for line in lines:
        colour = _COLOURS.get(line.what, "default")
        when = f"{line.at or '-':<24}" + (" due" if (line.at or "") > present else "")
        who = f"{line.effect or '':<18}"
        text = escape(("" if line.sure else "~ ") + line.text)
        out.print(f"{when}  {who}  [{colour}]{text}[/{colour}]  {escape(line.event_id or '')}".rstrip(), soft_wrap=True)
    out.print("Not known:")
    for sentence in unknowns:
        out.print(escape(f"- {sentence}"), soft_wrap=True)


def _now(facts: "Facts") -> str:
    """How things stand, in one line."""
    if facts.table_trouble is not None:
        return "how things stand is not known without Postgres"
    if facts.synced_at is not None:
        row = "has a row"
    elif facts.guard is not None and facts.guard.deleted:
        row = "deleted, no row"
    else:
        row = "no row"
    return f"{row}; database: {facts.database.state if facts.database else 'none'}"


def _as_json(facts: "Facts", lines: "list[Line]", unknowns: list[str]) -> dict[str, Any]:
    guard, database = facts.guard, facts.database
    known = facts.table_trouble is None
    return {
        "user": facts.user_id,
        "now": {
            "row": facts.synced_at is not None if known else None,
            "deleted": bool(guard and guard.deleted) if known else None,
            "applied_event_id": guard.event_id if guard else None,
            "database": str(database.state) if database else None,
            "retrying": len(facts.retrying),
            "dead": len(facts.dead),
        },
        "story": [asdict(line) for line in lines],
        "unknown": unknowns,
    }
