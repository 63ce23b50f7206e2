"""Logging for every process: structlog, one line per event; pretty on a terminal, JSON elsewhere.

Promise: lines carry ids and static event names; third-party loggers write the same form.
"""

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Literal

import orjson
import structlog
from structlog.typing import EventDict, Processor

from shared.log_writer import LineHandler, LineWriter

LogFormat = Literal["auto", "json", "pretty"]

_ENCODE: Final[Callable[[Any], str]] = json.JSONEncoder(default=repr).encode
# What is no JSON is told by its repr; orjson would have a form of its own for these.
_OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
# Ways of saying a level, and the level.
_LEVELS: Final = {"warn": "warning", "exception": "error", "fatal": "critical"}


def configure(*, level: str = "info", style: LogFormat = "auto") -> None:
    """Send structlog and the standard library's logging to standard error in one form."""
    pretty = style == "pretty" or (style == "auto" and _on_terminal())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    writer = LineWriter(sys.stderr)
    through_logging = structlog.stdlib.ProcessorFormatter.wrap_for_formatter
    structlog.configure(
        # A consumer writes a line for every event: the way through the standard library costs five times as much.
        processors=[*shared, through_logging] if pretty else [structlog.contextvars.merge_contextvars, _as_json],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.stdlib.LoggerFactory() if pretty else lambda *_: writer,
        cache_logger_on_first_use=True,
    )
    handler = LineHandler(writer)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderer(pretty=pretty),
            ],
        ),
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    _hush_libraries()


def trace_of(error: BaseException) -> list[str]:
    """Where a bug is, without its text or any values: those could quote the event."""
    frames: list[str] = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append(f"{code.co_filename}:{trace.tb_lineno} {code.co_qualname}")
        trace = trace.tb_next
    return frames


def _on_terminal() -> bool:
    # None: closed by whoever started us.
    return sys.stderr is not None and sys.stderr.isatty()


def _renderer(*, pretty: bool) -> list[Processor]:
    if pretty:
        return [structlog.dev.ConsoleRenderer(colors=_on_terminal())]
    return [
        structlog.processors.format_exc_info,
        _event_first,
        structlog.processors.JSONRenderer(),
    ]


def _as_json(logger: object, method: str, line: EventDict) -> str:
    """All of what the other renderer does, in one step."""
    if "exc_info" in line:
        line = structlog.processors.format_exc_info(logger, method, line)
    told = {"time": _now(), "level": _LEVELS.get(method, method), "event": line.pop("event", None), **line}
    try:
        text = orjson.dumps(told, default=repr, option=_OPTIONS).decode()
    except TypeError:  # half of a character pair, or a number beyond 64 bits
        return _ENCODE(told)
    # ASCII alone is JSON in whatever encoding standard error has, and has no character that ends a line for some.
    return text if text.isascii() else _ENCODE(told)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")[: -len("+00:00")] + "Z"


def _event_first(_logger: object, _method: str, line: EventDict) -> EventDict:
    return {
        "time": line.pop("time", None),
        "level": line.pop("level", None),
        "event": line.pop("event", None),
        **line,
    }


def _hush_libraries() -> None:
    # aiormq and aio-pika report every lost connection several times, one of them with the whole URL; BrokerLink says
    # it once. aiohttp would log request lines.
    for name in ("aiormq", "aio_pika"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for name in ("aiohttp.access", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
