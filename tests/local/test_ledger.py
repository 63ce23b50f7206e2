"""The record of a run: what is ours is ended, what only has the same number is left alone."""

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from local.errors import AlreadyRunningError
from local.ledger import Entry, Ledger, locked


def test_a_recorded_process_is_found_by_a_later_run_and_ended(
    tmp_path: Path, bystander: subprocess.Popen[bytes]
) -> None:
    Ledger(tmp_path).record(Entry.of("sleeper", psutil.Process(bystander.pid)))

    stopped = Ledger.load(tmp_path).stop_leftovers()

    assert stopped == ["sleeper"]
    assert bystander.wait(5) == -signal.SIGTERM


def test_a_recycled_pid_is_not_touched(tmp_path: Path, bystander: subprocess.Popen[bytes]) -> None:
    entry = Entry.of("sleeper", psutil.Process(bystander.pid))
    Ledger(tmp_path).record(dataclasses.replace(entry, created=entry.created - 60))

    stopped = Ledger.load(tmp_path).stop_leftovers()

    assert stopped == []
    assert bystander.poll() is None


def test_a_pid_that_was_recycled_a_moment_later_is_not_touched(
    tmp_path: Path, bystander: subprocess.Popen[bytes]
) -> None:
    entry = Entry.of("gone", psutil.Process(bystander.pid))
    earlier = dataclasses.replace(entry, created=entry.created - 0.02, tick=entry.tick and entry.tick - 2)
    Ledger(tmp_path).record(earlier)

    stopped = Ledger.load(tmp_path).stop_leftovers()

    assert stopped == []
    assert bystander.poll() is None


def test_a_stopped_process_and_one_that_ignores_the_request_end_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.ledger._STOP_TIMEOUT_S", 0.3)
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as deaf:
        assert deaf.stdout is not None
        assert deaf.stdout.readline() == b"deaf\n"
        deaf.send_signal(signal.SIGSTOP)
        Ledger(tmp_path).record(Entry.of("deaf", psutil.Process(deaf.pid)))

        Ledger.load(tmp_path).stop_leftovers()

        assert deaf.wait(5) == -signal.SIGKILL


def test_what_has_the_higher_stage_ends_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []

    def note(entries: list[Entry]) -> list[str]:
        ended.extend(entry.name for entry in entries)
        return []

    monkeypatch.setattr("local.ledger._stop_all", note)
    entries = [Entry("server", 999_999_999, 0.0, stage=1), Entry("child", 999_999_998, 0.0, stage=2)]

    Ledger(tmp_path, entries=entries).stop_leftovers()

    assert ended == ["child", "server"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"supervisor": 1}', '{"entries": [{"pid": 1}]}'])
def test_an_unreadable_record_is_an_empty_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)

    assert Ledger.load(tmp_path) == Ledger(tmp_path)


def test_only_one_holds_the_folder(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(AlreadyRunningError), locked(tmp_path):
        pass

    with locked(tmp_path):
        pass
