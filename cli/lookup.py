"""`usher lookup`: tell the application where its users' databases are."""

import asyncio
from typing import Annotated

import typer

from cli.settings import EnvFile


def lookup(
    host: Annotated[str | None, typer.Option(help="address to ask at (LOOKUP_HOST)")] = None,
    port: Annotated[int | None, typer.Option(help="port to ask at; 0: any free (LOOKUP_PORT)")] = None,
    internal_host: Annotated[str | None, typer.Option(help="address of /livez, /readyz and /metrics")] = None,
    internal_port: Annotated[int | None, typer.Option(help="port of /livez, /readyz and /metrics; 0: any free")] = None,
    env_file: EnvFile = None,
) -> None:
    """Answer GET /users/ID/database for the application: whether a user's database is there, and where.

    Settings come from the environment and --env-file (see .env.example); options win. It reads one table and needs no
    broker; Postgres may be down at the start. Never open it to the internet: one token opens it for all users
    (docs/openapi.yaml).

    [bold]Examples[/bold]

      usher lookup --env-file .env

      LOOKUP_TOKEN=$(openssl rand -hex 24) DATABASE_URL=postgresql://… usher lookup --port 0

      curl -H "Authorization: Bearer $LOOKUP_TOKEN" "$LOOKUP_URL/users/user_2abc/database?wait=20"

    Exit codes: 0 stopped as asked, 1 failed, 2 a setting is missing or wrong.
    """
    import uvloop

    from lookup import app
    from lookup.settings import LookupSettings
    from shared import log

    settings = LookupSettings.read(
        lookup_host=host,
        lookup_port=port,
        lookup_internal_host=internal_host,
        lookup_internal_port=internal_port,
        _env_file=env_file,
    )
    log.configure(level=settings.log_level, style=settings.log_format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(app.run(settings))
