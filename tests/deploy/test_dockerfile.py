"""The image: what the linter says, and that all of Usher is in it."""

import fnmatch
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import requires
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parents[2]
TEXT: Final = (ROOT / "Dockerfile").read_text()
STAGES: Final = re.split(r"^FROM ", TEXT, flags=re.MULTILINE)[1:]
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES: Final[list[str]] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


def copied() -> list[str]:
    """What is copied from the clone."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", TEXT, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def closure(package: str) -> set[str]:
    """The package and all that it needs here."""
    found: set[str] = set()
    waiting = [package]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        found.add(name)
        needed = [Requirement(text) for text in requires(name) or []]
        waiting += [each.name for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found


def test_the_linter_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    checked = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, "")


def test_both_stages_have_one_base_pinned_to_python_and_debian() -> None:
    assert {stage.split()[0] for stage in STAGES} == {"python:3.13-slim-trixie"}


def test_it_runs_as_an_ordinary_user_named_by_number() -> None:
    users = re.findall(r"^USER (.+)$", STAGES[-1], re.MULTILINE)
    assert len(users) == 1
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", users[0])


def test_it_is_the_usher_command_and_stops_by_sigterm() -> None:
    assert 'ENTRYPOINT ["usher"]\n' in STAGES[-1]
    assert "STOPSIGNAL SIGTERM\n" in STAGES[-1]
    assert "PYTHONUNBUFFERED=1" in STAGES[-1]


def test_everything_from_a_registry_is_checked_by_hash() -> None:
    installs = re.findall(r"pip (?:--python \S+ )?install (.+)", TEXT)
    assert len(installs) == 3
    for arguments in installs:
        assert "--require-hashes" in arguments or arguments.startswith("--no-deps dist/")


def test_the_build_backend_is_listed_with_all_that_it_needs() -> None:
    listed = re.search(r"wanted = /\^\((.+)\)==/", TEXT)
    assert listed
    assert set(listed[1].split("|")) == closure("hatchling")


def test_what_is_copied_is_let_in() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    assert set(copied()) == let_in
    # What stays in a developer's folders must not get along.
    out = [line for line in lines if line.startswith("**/")]
    assert any(fnmatch.fnmatch("ingress/__pycache__", pattern) for pattern in out)


def test_what_is_copied_makes_a_wheel_with_every_package_and_every_migration(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    for name in copied():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").iterdir()
    inside = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in {".py", ".sql"} and path.is_file()
    }
    assert expected <= inside
    assert {name for name in inside if not name.startswith("usher-")} == expected
