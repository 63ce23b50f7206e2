"""The env file: read back as written, private from its first byte."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from local.env import read_env, write_env

VALUES = {
    "AMQP_URL": "amqp://usher:secret@127.0.0.1:5672/",
    "CLERK_WEBHOOK_SIGNING_SECRET": "whsec_a+b/c=",
    "ODD": 'it\'s "quoted" $HOME #not a comment',
}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_env(tmp_path, VALUES)

    assert read_env(tmp_path) == VALUES


def test_only_its_owner_can_read_it_whatever_the_umask_and_an_earlier_file_say(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("")
    (tmp_path / "env").chmod(0o644)
    before = os.umask(0)
    try:
        write_env(tmp_path, VALUES)
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "env").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["env"]


def test_a_shell_reads_the_same_values(tmp_path: Path) -> None:
    write_env(tmp_path, VALUES)

    script = f'set -a; . {tmp_path}/env; printf %s "$ODD"'
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == VALUES["ODD"]


@pytest.mark.parametrize("text", ["", "# only a comment\n", "no pair\n"])
def test_a_file_without_pairs_is_empty(tmp_path: Path, text: str) -> None:
    (tmp_path / "env").write_text(text)

    assert read_env(tmp_path) == {}


def test_no_file_is_empty(tmp_path: Path) -> None:
    assert read_env(tmp_path) == {}
