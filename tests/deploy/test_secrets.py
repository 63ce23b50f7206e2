"""deploy/secrets.sh: every password that compose.yaml asks for, random, once, for the owner's eyes only."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    (tmp_path / "deploy").mkdir()
    shutil.copy(ROOT / "deploy" / "secrets.sh", tmp_path / "deploy")
    return tmp_path


def run(clone: Path) -> dict[str, str]:
    # From elsewhere: it finds its own place.
    subprocess.run(["/bin/sh", clone / "deploy" / "secrets.sh"], check=True, cwd="/")
    lines = (clone / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def test_it_writes_what_compose_asks_for_and_nothing_else(clone: Path) -> None:
    asked = set(re.findall(r"\$\{(\w+):\?", (ROOT / "compose.yaml").read_text()))
    assert set(run(clone)) == asked


def test_each_password_is_its_own_and_needs_no_quoting_in_an_address(clone: Path) -> None:
    values = list(run(clone).values())
    assert len(set(values)) == len(values)
    assert all(re.fullmatch(r"[0-9a-f]{48}", value) for value in values)


def test_what_is_there_already_stays(clone: Path) -> None:
    (clone / ".env").write_text("LOG_LEVEL=debug\nRABBITMQ_OPERATOR_PASSWORD=mine\nPOSTGRES_PASSWORD=")
    first = run(clone)
    assert (first["LOG_LEVEL"], first["RABBITMQ_OPERATOR_PASSWORD"]) == ("debug", "mine")
    assert first["POSTGRES_PASSWORD"]
    assert run(clone) == first


def test_only_the_owner_can_read_it(clone: Path) -> None:
    (clone / ".env").write_text("")
    (clone / ".env").chmod(0o644)
    run(clone)
    assert (clone / ".env").stat().st_mode & 0o777 == 0o600
