"""`usher xata-stand-in`: a Xata to try Usher against, without an account."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli import terminal
from shared.durations import parse_duration
from shared.errors import SettingsError

if TYPE_CHECKING:
    from local.xata import Behaviour, XataStandIn

DEFAULT_PORT: Final = 8900


def xata_stand_in(
    *,
    postgres_url: Annotated[
        str,
        typer.Option(envvar="XATA_STAND_IN_POSTGRES_URL", help="Where the databases live: a superuser's address."),
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the API; 0: any free one.")] = DEFAULT_PORT,
    api_key: Annotated[
        str | None, typer.Option(envvar="XATA_STAND_IN_API_KEY", help="The key that is taken; else a new one.")
    ] = None,
    organization: Annotated[
        str | None, typer.Option(envvar="XATA_STAND_IN_ORGANIZATION", help="Its id; else a new one.")
    ] = None,
    project: Annotated[list[str] | None, typer.Option(help="A project to begin with; may be repeated.")] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(help="A region in which every such project has a template with Usher's schema; repeatable."),
    ] = None,
    healthy_after: Annotated[str, typer.Option(help="How long a new branch takes, for example 2s.")] = "2s",
    keep_databases: Annotated[bool, typer.Option("--keep-databases", help="Leave them there at the end.")] = False,
    state: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="A file that keeps all of it, and so the databases, from run to run."),
    ] = None,
) -> None:
    """Serve Xata's API on 127.0.0.1, with a real PostgreSQL database behind every branch, until Ctrl-C.

    With --state, projects, branches, logins and keys are there again the next time, however it ended; without, they are
    forgotten. The file holds passwords and is yours alone to read. Delays, limits and faults can be switched while it
    runs, until it ends: `curl http://127.0.0.1:8900/_stand_in/` tells how.

    [bold]Examples[/bold]

        usher xata-stand-in --postgres-url postgresql://postgres@localhost/postgres --project users
        usher xata-stand-in --postgres-url … --project users --template us-east-1 --healthy-after 5s
        usher xata-stand-in --postgres-url … --project users --state xata.json
        curl -d '{"kind": "answer", "status": 503, "probability": 0.3}' http://127.0.0.1:8900/_stand_in/faults

    Exit codes: 0 stopped as asked, 1 failed, 2 misused.
    """
    from local.xata import XataStandIn

    try:
        behaviour = _behaviour(parse_duration(healthy_after).total_seconds())
    except ValueError as error:
        raise SettingsError(f"--healthy-after: {error}") from error
    stand_in = XataStandIn(
        postgres_url=postgres_url,
        port=port,
        api_key=api_key,
        organization=organization,
        behaviour=behaviour,
        keep_databases=keep_databases,
        state=state,
    )
    terminal.run(_serve(stand_in, project or [], template or []))


def _behaviour(healthy_after_s: float) -> Behaviour:
    """The branch is seen after a tenth of that time, its credentials after half of it."""
    from local.xata import Behaviour

    return Behaviour(
        visible_after_s=healthy_after_s / 10,
        credentials_after_s=healthy_after_s / 2,
        healthy_after_s=healthy_after_s,
        wake_s=healthy_after_s,
    )


async def _serve(stand_in: XataStandIn, projects: list[str], regions: list[str]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await stand_in.start()
        made = [(name, stand_in.project_named(name) or stand_in.add_project(name)) for name in projects]
        templates = [await _template(stand_in, project, region) for _, project in made for region in regions]
        _show(stand_in, made, templates)
        await stop.wait()
    finally:
        await stand_in.stop()


async def _template(stand_in: XataStandIn, project: str, region: str) -> tuple[str, str, str]:
    """A branch of that region with Usher's schema for users; parents count in their own project only."""
    import asyncpg

    from shared import migrations

    if stand_in.cloud.region(region) is None:
        known = ", ".join(found.id for found in stand_in.cloud.regions())
        raise SettingsError(f"--template {region}: there is no such region, only {known}")
    name = f"template-{region}"
    known_branches = {branch.name: branch.id for branch in stand_in.live_branches(project)}
    branch = known_branches.get(name) or await stand_in.add_branch(project, name, region=region)
    connection = await asyncpg.connect(stand_in.connection_url(branch))
    try:
        await migrations.apply(connection, migrations.user_migrations())
    finally:
        await connection.close()
    return project, region, branch


def _show(stand_in: XataStandIn, projects: list[tuple[str, str]], templates: list[tuple[str, str, str]]) -> None:
    """Lines that a shell can read, comments included."""
    lines = [
        "# A stand-in for Xata. For the consumer's environment:",
        "DATABASE_PROVIDER=xata",
        f"XATA_API_URL={stand_in.url}",
        f"XATA_ORGANIZATION={stand_in.organization}",
        f"XATA_API_KEY={stand_in.api_key}",
        *(f"# project {name}: {project}" for name, project in projects),
        *(f"# template in {region} of {project}: {branch}" for project, region, branch in templates),
        f"# Switches and evidence: {stand_in.url}/_stand_in/ · Ctrl-C ends it",
    ]
    for line in lines:
        print(line, flush=True)
