"""`usher status`: whether everything is up, and whether anything is left lying."""

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from cli import terminal
from cli.settings import OperatorSettings

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cli.overview import Overview, Tables
    from cli.queues import Work

WATCH_EVERY_S: Final = 2.0
NOTHING: Final = "-"
# Apart from 1, so that a script can tell an outage from something that waits for a decision.
EXIT_GIVEN_UP: Final = 3


def status(
    *,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every two seconds, until Ctrl-C.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 when all is up but dead letters lie.")] = False,
) -> None:
    """Show addresses, queues, consumers, users and databases.

    Works while parts are down: it names them. The oldest waiting event is told by the log, so it is about right.
    Dead letters, unrouted events and webhooks kept aside are shown, but the system is up with them: only --strict has
    an exit code for them, for cron jobs and monitors that shall notice.

    [bold]Examples[/bold]

        usher status
        usher status --watch
        usher status --strict > /dev/null || echo "have a look"
        usher status --json | jq '.broker.work[] | {effect, waiting, dead}'

    Exit codes: 0 everything that is known of is up, 1 something is down or missing, 2 misused, 3 with --strict:
    everything is up, but something was given up and waits (`usher dead ls`), 130 stopped with Ctrl-C.
    """
    settings = OperatorSettings.find()
    if settings.amqp_url is None and settings.database_url is None:
        # Nothing is known of: this says what to set.
        settings.broker_addresses()
    overview = terminal.run(_watch(settings, json=json) if watch else _show(settings, json=json))
    if overview.troubles:
        raise typer.Exit(1)
    if strict and overview.broker.given_up:
        raise typer.Exit(EXIT_GIVEN_UP)


async def _show(settings: OperatorSettings, *, json: bool) -> "Overview":
    """Print one overview."""
    from cli.overview import look

    overview = await look(settings)
    if json:
        terminal.print_json(as_json(overview))
    else:
        terminal.out().print(view(overview))
    return overview


async def _watch(settings: OperatorSettings, *, json: bool) -> NoReturn:
    from rich.live import Live

    from cli.overview import look

    if json:
        while True:
            await _show(settings, json=True)
            await asyncio.sleep(WATCH_EVERY_S)
    with Live(view(await look(settings)), console=terminal.out(), screen=terminal.out().is_terminal) as live:
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            live.update(view(await look(settings)))


def as_json(overview: "Overview") -> dict[str, object]:
    told = {"ok": not overview.troubles, "troubles": overview.troubles, "given_up": overview.broker.given_up}
    return {**told, **asdict(overview)}


def view(overview: "Overview") -> "RenderableType":
    """The overview as tables, the troubles last: there they are seen."""
    parts: list[RenderableType] = [_addresses(overview), *_deaths(overview), _queues(overview), _kept_aside(overview)]
    if overview.tables.trouble is None:
        parts.append(_tables(overview.tables))
    parts += _given_up(overview)
    parts += [f"[red]✗[/red] {escape(trouble)}" for trouble in overview.troubles]
    return Group(*parts) if overview.troubles else Group(*parts, "[green]✓[/green] everything that is known of is up")


def _addresses(overview: "Overview") -> Table:
    table = Table("part", "address", "health")
    for address in overview.addresses:
        asked = address.name not in {"webhooks", "management UI"}
        health = "[red]✗ see below[/red]" if address.trouble else "[green]ready[/green]" if asked else ""
        table.add_row(address.name, escape(address.url), health)
    return table


def _deaths(overview: "Overview") -> list[str]:
    """What `usher up` had to start again."""
    return [
        f"[yellow]died {each.times} time{'s' * (each.times > 1)}[/yellow]: {name}, {_age(each.at)} ({each.how})"
        for name, each in overview.deaths.items()
    ]


def _queues(overview: "Overview") -> Table:
    table = Table("effect", "waiting", "oldest (about)", "consumers", "on the retry ladder", "dead", "oldest dead")
    for work in overview.broker.work:
        table.add_row(
            work.effect,
            _figure(work.waiting),
            _oldest(work),
            _figure(work.consumers, bad=work.consumers == 0),
            _ladder(work),
            _figure(work.dead, bad=bool(work.dead)),
            _age(work.oldest_dead),
        )
    return table


def _kept_aside(overview: "Overview") -> str:
    return "   ".join(f"{name}: {_figure(count, bad=bool(count))}" for name, count in overview.broker.others.items())


def _given_up(overview: "Overview") -> list[str]:
    given_up = overview.broker.given_up
    lying = ", ".join(f"{count:,} in {name}" for name, count in given_up.items())
    return [f"[yellow]![/yellow] given up, waiting for a decision: {lying}; look with `usher dead ls`"] if lying else []


def _tables(tables: "Tables") -> Table:
    table = Table("users", "guards", "tombstones", "databases", "oldest unfinished")
    states = ", ".join(f"{count} {state}" for state, count in tables.databases.items())
    oldest = tables.oldest_unfinished
    unfinished = f"{oldest['user_id']} {oldest['state']}, {_age(oldest['requested_at'])}" if oldest else NOTHING
    counts = (_figure(tables.users), _figure(tables.guards), _figure(tables.tombstones))
    table.add_row(*counts, states or "none", escape(unfinished))
    return table


def _ladder(work: "Work") -> str:
    waits = [f"{count} in {delay}" for delay, count in work.retrying.items() if count]
    return ", ".join(waits) or "0"


def _oldest(work: "Work") -> str:
    if not work.waiting:
        return NOTHING
    return _age(work.oldest_waiting) if work.oldest_waiting else "unknown"


def _age(moment: str | None) -> str:
    if moment is None:
        return NOTHING
    seconds = (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    return f"{timedelta(seconds=max(0, round(seconds)))} ago"


def _figure(count: int | None, *, bad: bool = False) -> str:
    text = "?" if count is None else f"{count:,}"
    return f"[red]{text}[/red]" if bad or count is None else text
