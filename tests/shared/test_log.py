"""Log lines: one JSON object each, ours and those of libraries alike."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from shared import log


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    stream, root = io.StringIO(), logging.getLogger()
    handlers, level, ours = root.handlers[:], root.level, structlog.get_config()
    monkeypatch.setattr("sys.stderr", stream)
    log.configure(level="info", style="json")
    yield stream
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
