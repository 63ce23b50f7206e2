"""`make bench`: run scenarios, print their tables, and after a full run write docs/performance.md."""

import asyncio
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from bench import cold_start, critical_time, ingress, machine, memory, provision, report, sync_user
from bench import users as many_users
from bench.bench import Bench, Plan
from bench.generator import generator
from bench.results import Section
from bench.servers import servers
from local.errors import MissingServerError
from shared.errors import UsherError

# Databases before whatever drops some: for minutes ext4 is slow to create files where many were removed.
SCENARIOS: Final = {
    "ingress": ingress.run,
    "provision_database": provision.run,
    "sync_user": sync_user.run,
    "critical_time": critical_time.run,
    "users": many_users.run,
    "memory": memory.run,
    "cold_start": cold_start.run,
}
_LOG_WIDTH: Final = 160


def bench(
    scenarios: Annotated[list[str] | None, typer.Argument(help=f"Which; else all: {', '.join(SCENARIOS)}.")] = None,
    *,
    rounds: Annotated[int, typer.Option(min=1, help="How often each figure is measured, in turn.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.5, help="How long one measurement takes.")] = 2.0,
    users: Annotated[int, typer.Option(min=0, help="Users in the tables in the scenario `users`.")] = 5_000_000,
    quick: Annotated[bool, typer.Option("--quick", help="One round of one second, 100,000 users: a look.")] = False,
    long: Annotated[bool, typer.Option("--long", help="A storm of ten minutes in the scenario `memory`.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Write docs/performance.md after a partial run, too.")] = False,
) -> None:
    """Measure Usher beside its peers and ceilings, on servers of its own; stops by itself, and on Ctrl-C.

    A run of everything writes docs/performance.md and its plots; every run adds to .bench/results.json. It takes
    a quarter of an hour and 30 GB of the folder for temporary files (TMPDIR), which is emptied at the end.

    [bold]Examples[/bold]

        make bench
        make bench ARGS="--quick"
        make bench ARGS="ingress --rounds 5"
        make bench ARGS="sync_user users --users 10000"

    Exit codes: 0 measured (slow or not), 1 something could not be run, 2 misused, 130 interrupted.
    """
    if unknown := [name for name in scenarios or () if name not in SCENARIOS]:
        raise typer.BadParameter(f"{unknown[0]!r} is no scenario: {', '.join(SCENARIOS)}")
    chosen = [name for name in SCENARIOS if not scenarios or name in scenarios]
    console = Console()
    if not console.is_terminal:
        console.width = _LOG_WIDTH  # a log has no edge at which a table would have to break
    plan = Plan(rounds, seconds, storm_s=600.0 if long else 60.0, users=users)
    if quick:
        plan = Plan(1, 1.0, storm_s=15.0, users=min(users, 100_000))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="usher-bench-", ignore_cleanup_errors=True) as name:
        # PostgreSQL runs as an account of its own, which has to get in.
        Path(name).chmod(0o755)
        found = asyncio.run(_run(chosen, console, plan, Path(name), write=write or set(chosen) == set(SCENARIOS)))
    if not all(section.tables for section in found.values()):
        raise typer.Exit(1)


async def _run(chosen: list[str], console: Console, plan: Plan, folder: Path, *, write: bool) -> dict[str, Section]:
    found: dict[str, Section] = {}
    async with servers(folder) as ours, generator() as load:
        bench = Bench(ours, load, console, plan)
        about = machine.rows(ours, str(await ours.as_admin("show server_version")))
        for name in chosen:
            found[name] = await _measured(name, bench)
            report.show(found[name], console)
            report.save({name: found[name]}, about)
        if write:
            console.print(f"written: {report.write(found, about, sys.argv[1:])}")
    return found


async def _measured(name: str, bench: Bench) -> Section:
    """One scenario; when it cannot be run, the others still are."""
    try:
        return await SCENARIOS[name](bench)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told and costs this scenario only
        bench.console.print_exception()
        return Section(name, f"Not measured: {type(error).__name__}: {error}".splitlines()[0])


def main() -> None:
    try:
        command = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False, add_completion=False)
        command.command()(bench)
        command(prog_name="make bench")
    except (UsherError, MissingServerError) as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
