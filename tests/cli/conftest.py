"""Run a verb as a person would, in this process: what it printed, and its exit code."""

import asyncio
import contextlib
import io
import json
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from cli.main import main
from cli.settings import OperatorSettings
from consumer.settings import ConsumerSettings

Usher = Callable[..., Coroutine[Any, Any, "Done"]]


@dataclass(frozen=True, slots=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture(autouse=True)
def _nothing_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no `.usher/env` of whoever runs the tests is seen."""
    for name in (*OperatorSettings.model_fields, *ConsumerSettings.model_fields):
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr("cli.settings.default_folder", lambda: tmp_path)
    # A verb sets logging up for its process, which is not ours to set up.
    monkeypatch.setattr("shared.log.configure", lambda **_: None)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[Any]]:
    """The lines that a verb leaves in the log, which are not part of what it prints."""
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture
def usher() -> Usher:
    async def run(*arguments: str, stdin: str = "") -> Done:
        return await asyncio.to_thread(_run, arguments, stdin)

    return run


@contextlib.contextmanager
def _typed(text: str) -> Iterator[None]:
    before, sys.stdin = sys.stdin, io.StringIO(text)
    try:
        yield
    finally:
        sys.stdin = before


def _run(arguments: tuple[str, ...], stdin: str) -> Done:
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _typed(stdin):
        try:
            main(arguments)
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Done(code, out.getvalue(), err.getvalue())
