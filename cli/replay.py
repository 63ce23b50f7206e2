"""`usher replay`: have an effect do again what the log of the last days holds."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.markup import escape

from cli import terminal
from cli.dead_view import counted as number_of
from cli.moments import place_in_log
from cli.settings import OperatorSettings
from shared.topology import EFFECTS

if TYPE_CHECKING:
    from cli.log_stream import Offset
    from cli.replaying import Plan, Replay, Wanted

ASK_FROM: Final = 1000


def replay(
    *,
    since: Annotated[
        str,
        typer.Option(help="From when on: how long ago (2h), a time (2026-11-20T14:30Z), first, or offset:123."),
    ],
    to: Annotated[str, typer.Option(help=f"The effect whose queue gets them: {', '.join(EFFECTS)}.")],
    until: Annotated[str | None, typer.Option(help="Until when, written like --since; else now.")] = None,
    event_type: Annotated[
        list[str] | None,
        typer.Option("--type", help="Only this type; may be given several times. Else all that the effect takes."),
    ] = None,
    user: Annotated[str | None, typer.Option(help="Only events about this user id.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many, the oldest first.")] = None,
    rate: Annotated[float | None, typer.Option(min=0.001, help="At most so many a second.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many it would be.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help=f"Do not ask, be it {ASK_FROM} or more.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Put events of the log (7 days) into one effect's queue again, as first attempts. No other effect sees them.

    What is applied already changes nothing, and an older event never overwrites a newer one: replaying too much is
    only work. When is when the broker stored an event, to within a chunk of the log. A lost connection is made again,
    and no event is passed over; some may be replayed twice. Who did it is written down, in the log and on standard
    error.

    [bold]Examples[/bold]

        usher replay --since 2h --to sync_user --dry-run
        usher replay --since 2h --type user.created --to provision_database
        usher replay --since 2026-11-20T14:00Z --until 2026-11-20T15:00Z --to sync_user --rate 50
        usher replay --since first --user user_2abc --to sync_user

    Exit codes: 0 all replayed (also when there are none), 1 failed or answered no, 2 misused, 130 stopped with Ctrl-C.
    """
    from cli.replaying import Replay

    wanted = _wanted(to, event_type, user)
    start = place_in_log(since, "--since")
    stop = None if until in {None, "now"} else place_in_log(until or "", "--until")
    with terminal.progress(shown=not json) as bar:
        task = bar.add_task("reading the log", total=None)
        part = terminal.run(
            _counted(wanted, start, stop, lambda read, total: bar.update(task, completed=read, total=total))
        )
    planned = part.total if limit is None else min(limit, part.total)
    if dry_run or not planned:
        _report(planned, part, None, json=json)
        return
    if planned >= ASK_FROM and not yes and not typer.confirm(f"Replay {planned} events to {to}?", err=True):
        raise typer.Exit(1)
    with terminal.progress(shown=not json) as bar:
        task = bar.add_task(to, total=planned)
        work = Replay(wanted, part, limit=limit, rate=rate, on_each=lambda: bar.advance(task), on_trouble=_say_trouble)
        asked = {"to": to, "since": since, "until": until, "types": sorted(wanted.types), "user_id": user}
        try:
            terminal.run(_replay(work, {**asked, "limit": limit, "rate": rate, "planned": planned}), level="info")
        finally:
            # After a Ctrl-C or a lost broker too: what was replayed has been replayed.
            bar.stop()
            _report(planned, part, work, json=json)


def _wanted(to: str, types: list[str] | None, user: str | None) -> "Wanted":
    from cli.replaying import Wanted

    effect = to.removeprefix("usher.")
    if effect not in EFFECTS:
        raise typer.BadParameter(f"{to!r} is none of {', '.join(EFFECTS)}", param_hint="--to")
    unknown = set(types or ()) - set(EFFECTS[effect])
    if unknown:
        taken = ", ".join(EFFECTS[effect])
        raise typer.BadParameter(f"{effect} takes {taken}, not {', '.join(sorted(unknown))}", param_hint="--type")
    return Wanted(effect, frozenset(types or EFFECTS[effect]), user)


async def _counted(
    wanted: "Wanted", start: "Offset", stop: "Offset | None", on_read: "Callable[[int, int], None]"
) -> "Plan":
    from cli.replaying import counted

    return await counted(OperatorSettings.find().broker_addresses(), wanted, start, stop, on_read)


async def _replay(work: "Replay", asked: dict[str, object]) -> None:
    from cli.audit import Act, recorded

    addresses = OperatorSettings.find().broker_addresses()
    async with recorded(addresses, Act("replay", asked)) as act:
        try:
            await work.run(addresses)
        finally:
            act.outcome = {"replayed": work.done, "next_offset": work.next_offset}
            act.event_ids = work.event_ids


def _say_trouble(error: Exception) -> None:
    terminal.err().print(f"{error}: trying again", markup=False)


def _report(planned: int, part: "Plan", work: "Replay | None", *, json: bool) -> None:
    done = work.done if work else 0
    place = work.next_offset if work else part.start
    if json:
        types = dict(part.found)
        terminal.print_json({"found": types, "planned": planned, "replayed": done, "next_offset": place})
        return
    if work is None:
        found = ", ".join(f"{count} {kind}" for kind, count in part.found.items())
        terminal.out().print(
            escape(f"{number_of(planned, 'event')} to replay" + (f" ({found})" if found else "") + ".")
        )
        return
    terminal.out().print(f"{done} of {number_of(planned, 'event')} replayed.")
    if done < planned:
        terminal.err().print(f"The rest: the same with --since offset:{place}")
