"""`make chaos`: everything is broken in turn, and a table says what became of every webhook. `--list` shows what."""

import asyncio
import json
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from tests.chaos import page, table
from tests.chaos.accounting import Account
from tests.chaos.ground import own_ground
from tests.chaos.mutations import MUTATIONS, Mutation
from tests.chaos.scenario import Scenario, play
from tests.chaos.scenarios import ALL, GROUPS

MUTATED_PATIENCE_S: Final = 30.0
MUTATED_USERS: Final = 20

verbs = typer.Typer(name="chaos", rich_markup_mode="rich", pretty_exceptions_enable=False)
# Beside the JSON, which goes to the standard output.
console = Console(soft_wrap=True, stderr=True)


@verbs.command()
def chaos(
    *,
    only: Annotated[list[str] | None, typer.Option(help="A group or a scenario; may be given several times.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show the scenarios and break nothing.")] = False,
    mutate: Annotated[bool, typer.Option("--mutate", help="Undo promises of the code: is it noticed?")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the accounts as JSON.")] = False,
    users: Annotated[int, typer.Option(min=10, help="People in a load; each has one to three webhooks.")] = 40,
) -> None:
    """Break servers, connections and processes under load, and count what became of every accepted webhook.

    A whole run, and one with --mutate, write their table into docs/proof.md.

    [bold]Examples[/bold]

        make chaos
        make chaos ARGS=--list
        make chaos ARGS="--only broker --only clocks_beyond"
        make chaos ARGS=--mutate

    Exit codes: 0 nothing was lost (with --mutate: every mutation was noticed), 1 not so, 2 misused, 130 Ctrl-C.
    """
    chosen = _chosen(only or [])
    if listed:
        console.print(table.of_scenarios(chosen))
        return
    for library in ("aiormq", "aio_pika"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    begun = time.monotonic()
    if mutate:
        caught = asyncio.run(_mutate())
        console.print(table.of_mutations(caught))
        page.write_mutations(caught, time.monotonic() - begun)
        sys.exit(1 if any(account.holds for _, account in caught) else 0)
    accounts = asyncio.run(_play([scenario for group in chosen.values() for scenario in group], users))
    if as_json:
        typer.echo(json.dumps([asdict(account) for account in accounts], indent=2))
    else:
        console.print(table.of_accounts(accounts))
    console.print(f"{time.monotonic() - begun:.0f} s in all")
    if not only:
        page.write_scenarios(chosen, accounts, time.monotonic() - begun)
    sys.exit(0 if all(account.holds for account in accounts) else 1)


def _chosen(only: list[str]) -> dict[str, tuple[Scenario, ...]]:
    if unknown := set(only) - {*GROUPS, *ALL}:
        raise typer.BadParameter(f"there is no {', '.join(sorted(unknown))}: see --list")
    return {
        group: tuple(one for one in scenarios if not only or group in only or one.name in only)
        for group, scenarios in GROUPS.items()
    }


async def _play(scenarios: list[Scenario], users: int) -> list[Account]:
    clustered = any(scenario.setting.clustered for scenario in scenarios)
    with _folder() as folder:
        async with own_ground(folder, users=users, clustered=clustered) as ground:
            accounts = []
            for scenario in scenarios:
                begun = time.monotonic()
                accounts.append(await play(scenario, ground))
                console.print(table.line(accounts[-1]), f"[dim]({time.monotonic() - begun:.1f} s)[/dim]")
            return accounts


async def _mutate() -> list[tuple[Mutation, Account]]:
    with _folder() as folder:
        async with own_ground(folder, users=MUTATED_USERS) as ground:
            caught = []
            for mutation in MUTATIONS:
                mutated = replace(ground, mutation=mutation.name, patience_s=MUTATED_PATIENCE_S)
                caught.append((mutation, await play(ALL[mutation.caught_by], mutated)))
                console.print(f"[bold]{mutation.name}[/bold]", table.line(caught[-1][1]))
            return caught


@contextmanager
def _folder() -> Iterator[Path]:
    """Kept when something goes wrong, for its logs."""
    folder = Path(tempfile.mkdtemp(prefix="usher-chaos-"))
    console.print(f"[dim]logs: {folder}[/dim]")
    yield folder
    shutil.rmtree(folder)


if __name__ == "__main__":
    try:
        verbs()
    except KeyboardInterrupt:
        sys.exit(130)
