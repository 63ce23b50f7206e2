"""The documents say what is true: links lead somewhere, named functions and targets exist, verbs are listed."""

import re
from pathlib import Path
from typing import Final

import pytest
import typer.main

from cli.main import app
from consumer.outcome import BACKOFF_S, CRASH_DELIVERIES, DEFAULT_MAX_ATTEMPTS
from consumer.providers.xata.answers import ANSWERS
from shared.topology import KEEP_DELIVERY_LIMIT, WORK_DELIVERY_LIMIT

ROOT: Final = Path(__file__).parent.parent
DOCUMENTS: Final = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
LINK: Final = re.compile(r"\]\(([^)#]+)\)")
STEP: Final = re.compile(r"`([a-z_/]+\.py)`, `([A-Za-z_.]+)`")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_to_a_file_leads_to_one(document: Path) -> None:
    links = [link for link in LINK.findall(document.read_text()) if "://" not in link]
    missing = [link for link in links if not (document.parent / link).exists()]
    assert missing == []


def test_the_flow_names_functions_that_are_there() -> None:
    steps = STEP.findall((ROOT / "docs" / "flow.md").read_text())
    assert len(steps) >= 8
    for file, name in steps:
        source = (ROOT / file).read_text()
        assert re.search(rf"^\s*(async )?(def|class) {name.split('.')[-1]}\b", source, re.MULTILINE), (file, name)


def test_the_make_targets_that_documents_name_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for path in DOCUMENTS for name in re.findall(r"\bmake ([a-z]+)\b(?=[\s`])", path.read_text())}
    commands = {name for name in named if f"`make {name}" in "".join(path.read_text() for path in DOCUMENTS)}
    assert commands <= targets


def test_the_verbs_that_documents_name_exist_and_all_are_in_the_changelog() -> None:
    verbs = set(typer.main.get_command(app()).commands)  # type: ignore[attr-defined] # a group has commands
    texts = {path.name: path.read_text() for path in DOCUMENTS}
    named = {name for text in texts.values() for name in re.findall(r"`(?:\.venv/bin/)?usher ([a-z]+)", text)}
    assert named <= verbs
    assert {verb for verb in verbs if f"`{verb}`" not in texts["CHANGELOG.md"]} == set()


def test_the_figures_of_the_flow_are_those_of_the_code() -> None:
    flow, why = ((ROOT / "docs" / name).read_text() for name in ("flow.md", "why.md"))
    spoken = {5: "5 s", 30: "30 s", 300: "5 m", 1800: "30 m", 7200: "2 h"}
    assert ", ".join(spoken[delay] for delay in BACKOFF_S) in flow
    assert (DEFAULT_MAX_ATTEMPTS, CRASH_DELIVERIES) == (8, 5)
    assert "after the eighth attempt" in flow
    assert "handed out five times" in flow
    assert (WORK_DELIVERY_LIMIT, KEEP_DELIVERY_LIMIT) == (20, 1_000_000)
    assert "delivery limit is therefore a million" in why


def test_the_table_of_xatas_answers_is_that_of_the_code() -> None:
    said = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", (ROOT / "docs" / "xata.md").read_text(), re.MULTILINE)
    told = [then for _, _, then in said[1:]]
    assert told == [row.then for row in ANSWERS]
    texts = [saying.strip("`").replace("¦", "|") for _, saying, _ in said[1:]]
    assert texts == [row.saying or "anything else" for row in ANSWERS]
