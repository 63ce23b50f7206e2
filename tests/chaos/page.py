"""docs/proof.md: the prose is written by hand, the tables between its markers by the runs themselves."""

import os
import platform
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

import psutil

from local import programs
from local.processes import run
from tests.chaos.accounting import Account
from tests.chaos.mutations import Mutation
from tests.chaos.scenario import Scenario
from tests.chaos.table import COLUMNS, cells, verdict

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "proof.md"


def write_scenarios(groups: dict[str, tuple[Scenario, ...]], accounts: list[Account], seconds: float) -> None:
    by_name = {account.name: account for account in accounts}
    rows = [
        [group, f"`{scenario.name}`", scenario.breaks, *cells(by_name[scenario.name]), _said(by_name[scenario.name])]
        for group, scenarios in groups.items()
        for scenario in scenarios
    ]
    lost = sum(account.lost for account in accounts)
    accepted = sum(account.accepted for account in accounts)
    summary = f"{len(rows)} scenarios, {accepted} webhooks accepted, **{lost} lost**."
    _write(
        "scenarios",
        f"`make chaos`, {_where()}; {seconds:.0f} s in all. {summary}",
        _markdown(["", "scenario", "what is broken", *COLUMNS, ""], rows),
    )


def write_mutations(caught: list[tuple[Mutation, Account]], seconds: float) -> None:
    rows = [
        [f"`{mutation.name}`", mutation.what, f"`{mutation.caught_by}`", str(account.lost), _said(account)]
        for mutation, account in caught
    ]
    _write(
        "mutations",
        f'`make chaos ARGS="--mutate"`, {_where()}; {seconds:.0f} s in all.',
        _markdown(["mutation", "what is undone", "scenario", "lost", "what its accounting says"], rows),
    )


def _said(account: Account) -> str:
    """Without the examples of ids, which are of one run."""
    return re.sub(r" \([^)]*\)", "", verdict(account))


def _write(block: str, *paragraphs: str) -> None:
    begin, end = f"<!-- {block}: written by the run -->", f"<!-- end of {block} -->"
    text = "\n\n".join((begin, *paragraphs, end))
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    written, places = pattern.subn(lambda _: text, PAGE.read_text())
    if places != 1:
        raise ValueError(f"{PAGE} has no place for the {block}: it needs the lines {begin} and {end}")
    PAGE.write_text(written)


def _markdown(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _where() -> str:
    """Date, versions and machine: what a figure is worth nothing without."""
    server = run([programs.postgres_bin(None) / "postgres", "--version"]).stdout.split()[2]
    memory_gib = psutil.virtual_memory().total / 2**30
    servers = f"RabbitMQ {_rabbitmq()}, PostgreSQL {server}"
    ours = f"Python {platform.python_version()}, aio-pika {version('aio-pika')}"
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory_gib:.0f} GiB"
    return f"{datetime.now(UTC):%Y-%m-%d}, {servers}, {ours}, {machine}"


def _rabbitmq() -> str:
    """From the folder of its plugins: asking the server would need one that runs."""
    lib = programs.rabbitmq_server(None).resolve().parent.parent
    found = [re.search(r"rabbit-(\d[\d.]*)", path.name) for path in lib.glob("**/plugins/rabbit-*")]
    return next((match[1].rstrip(".") for match in found if match), "?")
