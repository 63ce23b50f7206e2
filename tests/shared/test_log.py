"""Log lines: one JSON object each, ours and those of libraries alike."""

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
import structlog

from shared import log


@dataclass(frozen=True)
class Thing:
    name: str


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch, restored: None) -> io.StringIO:  # noqa: ARG001 - for its end
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    log.configure(level="info", style="json")
    return stream


@pytest.fixture
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, ours = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**ours)


def _lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_begins_with_time_level_and_event_whoever_wrote_it(written: io.StringIO) -> None:
    structlog.get_logger().info("message_settled", event_id="msg_1", reason=None)
    logging.getLogger("somebody").warning("a library's line")
    ours, theirs = _lines(written)
    assert list(ours) == ["time", "level", "event", "event_id", "reason"]
    assert (ours["level"], ours["event"], ours["event_id"], ours["reason"]) == (
        "info",
        "message_settled",
        "msg_1",
        None,
    )
    assert list(theirs)[:3] == ["time", "level", "event"]
    assert (theirs["level"], theirs["event"]) == ("warning", "a library's line")
    assert str(ours["time"])[-1] == str(theirs["time"])[-1] == "Z"


def test_what_is_below_the_level_is_not_written(written: io.StringIO) -> None:
    structlog.get_logger().debug("user_synced")
    assert not written.getvalue()


def test_an_error_that_is_logged_brings_its_traceback_and_the_bound_context(written: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(worker="1"):
        try:
            int("x")
        except ValueError:
            structlog.get_logger().exception("failed", value={1})
    (line,) = _lines(written)
    assert (line["level"], line["worker"], line["value"]) == ("error", "1", "{1}")
    assert "ValueError" in str(line["exception"])


@pytest.mark.parametrize("told", ["Zo\xeb\u2028\x85", "\ud800", [2**64, "\xeb"]])
def test_a_line_is_ascii_whatever_it_tells(written: io.StringIO, told: object) -> None:
    structlog.get_logger().info("odd", told=told)
    assert written.getvalue().isascii()
    assert len(written.getvalue().splitlines()) == 1
    (line,) = _lines(written)
    assert line["told"] == told


def test_what_is_no_json_is_told_by_its_repr(written: io.StringIO) -> None:
    moment = datetime(2026, 11, 21, tzinfo=UTC)
    thing = Thing("it")
    structlog.get_logger().info("odd", moment=moment, thing=thing)
    (line,) = _lines(written)
    assert (line["moment"], line["thing"]) == (repr(moment), repr(thing))


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("style", ["auto", "json", "pretty"])
def test_where_standard_error_is_closed_nothing_is_said_and_nothing_fails(
    monkeypatch: pytest.MonkeyPatch, style: log.LogFormat
) -> None:
    monkeypatch.setattr("sys.stderr", None)
    log.configure(style=style)
    structlog.get_logger().info("unheard")
    logging.getLogger("somebody").warning("unheard")
