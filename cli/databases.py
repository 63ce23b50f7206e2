"""`usher databases`: how far each user's database is, where it is, and helping one along."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.markup import escape
from rich.table import Table

from cli import terminal
from cli.database_retry import retry
from cli.database_verify import verify
from cli.settings import OperatorSettings, consumer_settings
from consumer.database_state import State
from shared.errors import UsherError

if TYPE_CHECKING:
    from consumer.databases import Database

HELP: Final = """Databases: one per user. How far they are, where they are, and helping one along.

docs/runbook.md tells what each state means and what to do about it.

[bold]Examples[/bold]

    usher databases ls --state failed
    usher databases show user_2abc
    usher databases retry user_2abc
    psql "$(usher databases url user_2abc)"

Exit codes: 0 done, 1 failed (each verb says at what), 2 misused, 130 stopped with Ctrl-C.
"""

verbs = typer.Typer(
    help=HELP,
    no_args_is_help=True,
    rich_markup_mode="rich",
)

NOTHING: Final = "-"
DEFAULT_LIMIT: Final = 100
# These can be logged in to: a held one is whole until its time comes.
_REACHABLE: Final = frozenset({State.READY, State.HELD})

UserArgument = Annotated[str, typer.Argument(metavar="USER", help="The Clerk user id.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@verbs.command("ls")
def ls(
    *,
    state: Annotated[State | None, typer.Option(help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, those that changed last first.")] = DEFAULT_LIMIT,
    json: JsonOption = False,
) -> None:
    """List databases, those that changed last first.

    [bold]Examples[/bold]

        usher databases ls
        usher databases ls --state failed
        usher databases ls --state held --json | jq -r '.[].user_id'

    Exit codes: 0 listed (also when there are none), 1 failed, 2 misused.
    """
    rows = terminal.run(_listed(state, limit))
    if json:
        terminal.print_json([_as_json(row) for row in rows])
        return
    table = Table("user", "state", "region", "in this state", "attempts", "reason or until when")
    for row in rows:
        cells = (row.user_id, row.state, row.region or NOTHING, _since(row), str(row.attempts), _remark(row))
        table.add_row(*(escape(cell) for cell in cells))
    terminal.out().print(table)
    if len(rows) == limit:
        terminal.err().print(f"Only the last {limit}: there may be more (--limit).")


@verbs.command("show")
def show(user: UserArgument, *, json: JsonOption = False) -> None:
    """Show all that is known of one user's database. Nothing of it is secret.

    [bold]Examples[/bold]

        usher databases show user_2abc
        usher databases show user_2abc --json | jq -r .state

    Exit codes: 0 shown, 1 there is none or failed, 2 misused.
    """
    row = terminal.run(_found(user))
    if json:
        terminal.print_json(_as_json(row))
        return
    table = Table(show_header=False)
    for name, value in _as_json(row).items():
        table.add_row(name, escape(str(NOTHING if value is None else value)))
    terminal.out().print(table)


@verbs.command("url")
def url(user: UserArgument) -> None:
    """Print the address of a user's database with a login: a secret, asked of the provider at this moment.

    For one that is `ready`, and for one that is `held`: its user is deleted, and it is whole until its time comes.

    With provider postgres it is the provider's own login, which is entitled to more than this one database.

    [bold]Examples[/bold]

        psql "$(usher databases url user_2abc)"

    Exit codes: 0 printed, 1 neither ready nor held, or failed, 2 misused.
    """
    print(terminal.run(_url(user)))


@verbs.command("cancel-deletion")
def cancel_deletion(user: UserArgument) -> None:
    """Keep the database of a deleted user. Works for as long as it is held back, by its state `held`.

    [bold]Examples[/bold]

        usher databases ls --state held
        usher databases cancel-deletion user_2abc

    Exit codes: 0 kept, 1 it is not held (any more) or failed, 2 misused.
    """
    terminal.run(_cancel(user))
    terminal.out().print(f"The database of {escape(user)} is kept: ready again.")


verbs.command("retry")(retry)
verbs.command("verify")(verify)


async def _listed(state: State | None, limit: int) -> list["Database"]:
    from cli import connections
    from consumer import databases

    async with connections.database(OperatorSettings.find().database_address()) as connection:
        return await databases.listed(connection, state=state, limit=limit)


async def _found(user: str) -> "Database":
    from cli import connections
    from consumer import databases

    async with connections.database(OperatorSettings.find().database_address()) as connection:
        row = await databases.find(connection, user)
    if row is None:
        raise UsherError(f"no database of {user} is known")
    return row


async def _url(user: str) -> str:
    from cli import connections
    from consumer.provider import chosen_provider

    row = await _found(user)
    if row.state not in _REACHABLE:
        raise UsherError(f"the database of {user} is {row.state}" + (f": {row.reason}" if row.reason else ""))
    settings = consumer_settings()
    if row.provider != settings.database_provider:
        raise UsherError(
            f"the database of {user} is at provider {row.provider}: set DATABASE_PROVIDER and what it needs"
        )
    async with (
        connections.pool(settings.database_url.get_secret_value()) as pool,
        chosen_provider(settings, pool) as chosen,
    ):
        return await chosen.provider.connection_url(row.known)


async def _cancel(user: str) -> None:
    from cli import connections
    from consumer import databases

    async with connections.database(OperatorSettings.find().database_address()) as connection:
        if await databases.cancel_deletion(connection, user):
            return
        row = await databases.find(connection, user)
    if row is None:
        raise UsherError(f"no database of {user} is known")
    raise UsherError(f"the database of {user} is {row.state}: only one that is held can be kept")


def _as_json(row: "Database") -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(row).items()
        if name != "erase_in_s"
    }


def _since(row: "Database") -> str:
    return str(timedelta(seconds=max(0, round((datetime.now(UTC) - row.changed_at).total_seconds()))))


def _remark(row: "Database") -> str:
    if row.erase_after is not None:
        return f"to be deleted after {row.erase_after:%Y-%m-%d %H:%M} UTC"
    return row.reason or NOTHING
