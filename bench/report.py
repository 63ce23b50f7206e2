"""Sections as tables on the terminal, as .bench/results.json, and as docs/performance.md with its plots.

The part of the page below `BY_HAND` is written by people: it is kept as it is.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table as RichTable

from bench import plots
from bench.peers.install import FOLDER
from bench.results import Section, Table, Target

_DOCS: Final = Path(__file__).resolve().parent.parent / "docs"
PAGE: Final = _DOCS / "performance.md"
BY_HAND: Final = "<!-- Below this line people write; `make bench` keeps it. -->"
_INTRODUCTION: Final = """\
# How fast it is

Written by `make bench`, all of it from one run; the ratios count more than the figures. The programs are the real ones,
as child processes on RabbitMQ and PostgreSQL servers that sync to disk; load generator, broker, database and programs
share the machine. What is compared is measured in turn, round by round: median (lowest-highest).
"""
_TARGETS: Final = ("target", "wanted", "measured", "")


def show(section: Section, console: Console) -> None:
    console.rule(section.title)
    for table in section.tables:
        if table.caption:
            console.print(table.caption, highlight=False)
        console.print(_rich(table))
    for note in section.notes:
        console.print(f"- {note}", highlight=False)
    if section.targets:
        console.print(_rich(_target_table(section.targets)))


def save(found: dict[str, Section], machine: Sequence[Sequence[str]]) -> None:
    """Add this run's figures to .bench/results.json."""
    path = FOLDER / "results.json"
    FOLDER.mkdir(exist_ok=True)
    stored = json.loads(path.read_text()) if path.exists() else {}
    at = datetime.now(UTC).isoformat(timespec="seconds")
    for name, section in found.items():
        stored[name] = {"at": at, "machine": {row[0]: row[1] for row in machine}, **asdict(section)}
    path.write_text(json.dumps(stored, indent=1))


def write(found: dict[str, Section], machine: Sequence[Sequence[str]], arguments: Sequence[str]) -> Path:
    """Write docs/performance.md and its plots from this run."""
    for section in found.values():
        for plot in section.plots:
            (_DOCS / "images" / f"bench-{plot.name}.svg").write_text(plots.svg(plot))
    kept = PAGE.read_text().partition(BY_HAND)[2] if PAGE.exists() else "\n"
    lines = [_INTRODUCTION, *_machine(machine, arguments), *_overview(found)]
    lines += [line for section in found.values() for line in _markdown(section)]
    PAGE.write_text("\n".join(lines) + f"\n{BY_HAND}{kept}")
    return PAGE


def _machine(machine: Sequence[Sequence[str]], arguments: Sequence[str]) -> Iterator[str]:
    command = f'make bench ARGS="{" ".join(arguments)}"' if arguments else "make bench"
    day = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    yield _markdown_table(Table(["", ""], [["command", f"`{command}`"], ["date", day], *machine]))


def _overview(found: dict[str, Section]) -> Iterator[str]:
    targets = [target for section in found.values() for target in section.targets]
    missed = sum(not target.reached for target in targets)
    yield "## What Usher wants to reach\n"
    yield f"{len(targets) - missed} of {len(targets)} targets are reached in this run.\n"
    yield _markdown_table(_target_table(targets))


def _markdown(section: Section) -> Iterator[str]:
    yield f"## {section.title}\n"
    yield f"{section.how}\n"
    for table in section.tables:
        if table.caption:
            yield f"{table.caption}\n"
        yield _markdown_table(table)
    for plot in section.plots:
        yield f"![{plot.title}](images/bench-{plot.name}.svg)\n"
    if section.notes:
        yield "\n".join(f"- {note}" for note in section.notes) + "\n"


def _target_table(targets: Sequence[Target]) -> Table:
    rows = [[target.what, target.wanted, target.measured, "yes" if target.reached else "**no**"] for target in targets]
    return Table(_TARGETS, rows)


def _markdown_table(table: Table) -> str:
    alignment = ["---", *("---:" for _ in table.headers[1:])]
    lines = [table.headers, alignment, *table.rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _rich(table: Table) -> RichTable:
    shown = RichTable(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for number, header in enumerate(table.headers):
        shown.add_column(header, justify="left" if number == 0 else "right", no_wrap=number > 0)
    for row in table.rows:
        shown.add_row(*(cell.replace("**", "") for cell in row))
    return shown
