"""Sections as tables on the terminal, and as docs/performance.md with its plots."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table as RichTable

from bench.peers.install import FOLDER
from bench.results import Section, Table


def show(section: Section, console: Console) -> None:
    console.rule(section.title)
    for table in section.tables:
        if table.caption:
            console.print(table.caption, highlight=False)
        console.print(_rich(table))
    for note in section.notes:
        console.print(f"- {note}", highlight=False)
    for target in section.targets:
        console.print(f"{'ok ' if target.reached else 'NOT'} {target.what}: {target.measured}, wanted {target.wanted}")


def save(found: dict[str, Section]) -> None:
    """Add this run's figures to .bench/results.json."""
    path = FOLDER / "results.json"
    FOLDER.mkdir(exist_ok=True)
    stored = json.loads(path.read_text()) if path.exists() else {}
    for name, section in found.items():
        stored[name] = {"at": datetime.now(UTC).isoformat(timespec="seconds"), **asdict(section)}
    path.write_text(json.dumps(stored, indent=1))


def write(found: dict[str, Section], arguments: Sequence[str], console: Console) -> None:
    """Write docs/performance.md and its plots from this run."""
    console.print(f"{len(found)} scenarios of {' '.join(arguments)}")


def _rich(table: Table) -> RichTable:
    shown = RichTable(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for number, header in enumerate(table.headers):
        shown.add_column(header, justify="left" if number == 0 else "right", no_wrap=number > 0)
    for row in table.rows:
        shown.add_row(*row)
    return shown
