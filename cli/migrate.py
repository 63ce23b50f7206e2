"""`usher migrate`: brings Usher's own database to this version's schema, or says how far behind it is."""

from typing import Annotated, Final

import typer

from cli import terminal
from cli.settings import EnvFile, OperatorSettings

_HAS_TABLE: Final = "select to_regclass('schema_migrations') is not null"
_APPLIED: Final = "select version, checksum from schema_migrations order by version"


def migrate(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Only compare; change nothing. Exit code 1 when behind.")
    ] = False,
    env_file: EnvFile = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Apply the migrations that DATABASE_URL lacks.

    Several processes may migrate at once; a kill leaves whole steps only.

    [bold]Examples[/bold]

        usher migrate
        usher migrate --env-file .env
        usher migrate --check || echo "run usher migrate before the new version starts"

    Exit codes: 0 up to date, 1 failed or behind, 2 misused.
    """
    before, after, newest = terminal.run(_migrate(OperatorSettings.find(env_file).database_address(), apply=not check))
    behind = after < newest
    if json:
        terminal.print_json({"version": after, "before": before, "newest": newest, "behind": behind})
    else:
        terminal.out().print(_sentence(before, after, newest))
    if behind:
        raise typer.Exit(1)


def _sentence(before: int, after: int, newest: int) -> str:
    if after < newest:
        return f"The database is at version {after:04}, {newest - after} behind {newest:04}: run `usher migrate`."
    if after > newest:
        return f"The database is at version {after:04}, newer than this Usher, which knows {newest:04}."
    if before < after:
        return f"Migrated from version {before:04} to {after:04}."
    return f"The database is at version {after:04}: nothing to do."


async def _migrate(url: str, *, apply: bool) -> tuple[int, int, int]:
    """The version before, the version after, and the newest that there is."""
    from cli import connections
    from shared import migrations

    wanted = migrations.control_migrations()
    async with connections.database(url) as connection:
        applied = await connection.fetch(_APPLIED) if await connection.fetchval(_HAS_TABLE) else []
        before = max([0, *(row["version"] for row in applied)])
        after = await migrations.apply(connection, wanted) if apply else before
        return before, after, len(wanted)
