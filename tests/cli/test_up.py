"""`usher up` and `usher down` with real servers and stand-ins for the verbs that they start."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from local.env import read_env
from local.ledger import Ledger
from tests.support.eventually import eventually

STOPPED = ("ingress", "sync_user", "provision_database", "lookup", "RabbitMQ", "PostgreSQL")
STAND_IN = Path(__file__).parent.parent / "local" / "stand_in.py"


def _usher(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(STAND_IN), *arguments, "--folder", str(folder)]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=100, check=False
    )


def _alive(folder: Path) -> list[str]:
    return [entry.name for entry in Ledger.load(folder).entries if entry.process()]


def _kill(folder: Path, *names: str) -> None:
    for entry in Ledger.load(folder).entries:
        if (process := entry.process()) and {entry.name, process.name()} & set(names):
            process.kill()


async def _until_the_log_says(folder: Path, text: str) -> None:
    log = folder / "log" / "up.log"
    await eventually(lambda: text in log.read_text(), timeout_s=60, what=text)


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that nobody may touch."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield process
        process.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / ".usher"
    yield home
    _usher(home, "down")


async def test_a_detached_run_is_ready_says_where_it_is_and_is_found_by_a_second_one_and_looked_after(
    folder: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])

        first = _usher(folder, "up", "--detach", "--port", taken)
        second = _usher(folder, "up", FORCE_COLOR="1", COLUMNS="50")

    values = read_env(folder)
    assert first.returncode == 0, first.stdout + first.stderr
    assert f"port {taken} is taken: ingress listens on" in first.stdout
    for shown in (
        f"{values['INGRESS_URL']}/webhooks/clerk",
        values["DATABASE_URL"],
        f"{values['LOOKUP_URL']}/users/ID/database",
        "login usher",
        "try next",
        "send user.created",
    ):
        assert shown in first.stdout
        assert shown in second.stdout, "cut or broken on a narrow terminal"
    assert second.returncode == 0
    assert "already running" in second.stdout
    assert stat.S_IMODE((folder / "env").stat().st_mode) == 0o600

    _kill(folder, "sync_user")
    await _until_the_log_says(folder, "sync_user was killed by SIGKILL; it is started again in 500 ms")
    await _until_the_log_says(folder, "sync_user is ready again")
    assert Ledger.load(folder).deaths["sync_user"].times == 1
    assert "sync_user" in _alive(folder)

    # In the middle of a restart.
    _kill(folder, "beam.smp", "lookup")
    await _until_the_log_says(folder, "RabbitMQ was killed by SIGKILL")
    down = _usher(folder, "down")
    again = _usher(folder, "down")

    assert down.returncode == 0
    assert all(name in down.stdout for name in set(STOPPED) - {"RabbitMQ", "lookup"})
    assert "stopped cleanly" in (folder / "log" / "ingress.log").read_text()
    assert "Nothing runs" in again.stdout
    assert not (folder / "state.json").exists()


def test_what_a_killed_run_left_behind_is_ended_and_nothing_else(
    folder: Path, bystander: subprocess.Popen[bytes]
) -> None:
    assert _usher(folder, "up", "--detach").returncode == 0
    ledger = Ledger.load(folder)
    ours = [process for entry in ledger.entries if (process := entry.process())]
    assert ledger.supervisor is not None
    os.kill(ledger.supervisor.pid, signal.SIGKILL)
    # As if the pid of one of ours had been given to somebody else since.
    state = json.loads((folder / "state.json").read_text())
    state["entries"].append({**state["entries"][0], "name": "recycled", "pid": bystander.pid})
    (folder / "state.json").write_text(json.dumps(state))

    failed = _usher(folder, "up", STAND_IN_FAILS="migrate")

    assert failed.returncode == 1
    assert "an earlier run was killed; stopped what it had left behind: ingress" in failed.stdout
    assert "migrate ended with exit code 3" in failed.stderr
    assert "migrate: the reason why" in failed.stderr
    assert [process for process in ours if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []
    assert bystander.poll() is None
    assert _alive(folder) == []
