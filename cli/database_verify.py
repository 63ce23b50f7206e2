"""`usher databases verify`: the provider's own list against the table. Looks only; changes nothing on either side."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.markup import escape
from rich.table import Table

from cli import terminal
from cli.settings import consumer_settings

if TYPE_CHECKING:
    from consumer.drift import Drift

NOTHING: Final = "-"
EXIT_DRIFT: Final = 1

# What an operator does about each kind; docs/runbook.md says more.
ADVICE: Final = {
    "missing": "the user's database is gone: restore it, or have it made anew",
    "wrong_provider_id": "replaced by another one of that name: is it the right one?",
    "wrong_project": "moved: the table looks for it elsewhere",
    "wrong_region": "not where the table says (or PROVIDER_POSTGRES_REGION was changed)",
    "wrong_user": "marked as another user's: do not touch before it is clear whose it is",
    "orphan": "no row knows it: drop it, if no other Usher uses this provider",
    "put_aside": "broken when it was made, and replaced: drop it when it has been looked at",
    "not_deleted": "should be gone: redrive its user's events, or drop it",
    "duplicate": "one too many: the table knows the other one",
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was compared, and how it differs. `others`: rows of another provider, which were not looked at."""

    provider: str
    rows: int
    at_provider: int
    others: int
    drift: list[Drift]


def verify(*, json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Compare the provider's list with the table: orphans, missing ones, and those that are not where the table says.

    What is being created or deleted meanwhile is no difference. Nothing is changed: mending is for a person.

    [bold]Examples[/bold]

        usher databases verify
        usher databases verify --json | jq -r '.drift[] | select(.kind == "orphan") | .name'

    Exit codes: 0 they agree, 1 they differ or failed, 2 misused.
    """
    comparison = terminal.run(_compared())
    if json:
        terminal.print_json({"ok": not comparison.drift, **asdict(comparison)})
    else:
        _print(comparison)
    if comparison.drift:
        raise typer.Exit(EXIT_DRIFT)


async def _compared() -> Comparison:
    from cli import connections
    from consumer import databases
    from consumer.drift import compare
    from consumer.provider import chosen_provider
    from shared import postgres

    settings = consumer_settings()
    url = settings.database_url.get_secret_value()
    async with connections.database(url) as connection, connections.pool(url) as pool:
        before = await databases.everything(connection)
        async with postgres.translated(), chosen_provider(settings, pool) as chosen:
            found = await chosen.provider.inventory()
            name = chosen.provider.name
        after = await databases.everything(connection)
    ours = sum(row.provider == name for row in after)
    return Comparison(name, ours, len(found), len(after) - ours, compare(before, found, after, provider=name))


def _print(comparison: Comparison) -> None:
    said = f"{comparison.rows} rows, {comparison.at_provider} databases at {comparison.provider}"
    if comparison.others:
        said += f"; {comparison.others} rows of other providers were not looked at"
    if not comparison.drift:
        terminal.out().print(f"{said}: they agree.")
        return
    table = Table("name", "user", "what", "id", "project", "region", "table says", "provider says", "which means")
    for each in comparison.drift:
        cells = (each.user_id, each.kind, each.provider_id, each.project, each.region, each.table, each.has)
        table.add_row(escape(each.name), *(escape(str(cell or NOTHING)) for cell in cells), ADVICE[each.kind])
    terminal.out().print(table)
    terminal.err().print(f"{said}: {len(comparison.drift)} differences.")
