"""`make chaos`: everything is broken in turn, and a table says what it cost. `--list` shows what there is."""

import asyncio
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tests.chaos import table
from tests.chaos.accounting import Account
from tests.chaos.ground import own_ground
from tests.chaos.scenario import Scenario, play
from tests.chaos.scenarios import GROUPS

verbs = typer.Typer(name="chaos", rich_markup_mode="rich", pretty_exceptions_enable=False)
console = Console()


@verbs.command()
def chaos(
    *,
    only: Annotated[list[str] | None, typer.Option(help="A group or a scenario; may be given several times.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show the scenarios and break nothing.")] = False,
    users: Annotated[int, typer.Option(min=10, help="People in a load; each has one to three webhooks.")] = 40,
) -> None:
    """Break servers, connections and processes under load, and count what became of every accepted webhook.

    [bold]Examples[/bold]

        make chaos
        make chaos ARGS=--list
        make chaos ARGS="--only broker --only clocks"

    Exit codes: 0 nothing was lost, 1 something was, 2 misused.
    """
    chosen = _chosen(only or [])
    if listed:
        console.print(table.of_scenarios(chosen))
        return
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    logging.getLogger("aio_pika").setLevel(logging.CRITICAL)
    begun = time.monotonic()
    accounts = asyncio.run(_play_all([scenario for group in chosen.values() for scenario in group], users))
    console.print(table.of_accounts(accounts))
    console.print(f"{time.monotonic() - begun:.0f} s in all")
    sys.exit(0 if all(account.holds for account in accounts) else 1)


def _chosen(only: list[str]) -> dict[str, tuple[Scenario, ...]]:
    known = {name for group, scenarios in GROUPS.items() for name in (group, *(one.name for one in scenarios))}
    if unknown := set(only) - known:
        raise typer.BadParameter(f"there is no {', '.join(sorted(unknown))}: see --list")
    return {
        group: tuple(one for one in scenarios if not only or group in only or one.name in only)
        for group, scenarios in GROUPS.items()
    }


async def _play_all(scenarios: list[Scenario], users: int) -> list[Account]:
    folder = Path(tempfile.mkdtemp(prefix="usher-chaos-"))
    accounts = []
    clustered = any(scenario.setting.clustered for scenario in scenarios)
    async with own_ground(folder, users=users, clustered=clustered) as ground:
        for scenario in scenarios:
            begun = time.monotonic()
            accounts.append(await play(scenario, ground))
            console.print(table.line(accounts[-1]), f"[dim]({time.monotonic() - begun:.1f} s)[/dim]")
    return accounts


if __name__ == "__main__":
    verbs()
