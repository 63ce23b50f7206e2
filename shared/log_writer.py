"""Where log lines go: to one stream, those of one turn of the event loop together.

Promise: lines keep their order and stay whole, and none waits longer than the turn it was written in. Writing never
raises.
"""

import asyncio
import atexit
import contextlib
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from select import PIPE_BUF
from typing import TextIO


class LineWriter:
    """What structlog calls a logger; every level writes alike. Where no event loop runs, lines are written at once.

    A write for each line would be a third of what the line costs, and an ingress writes one for every webhook.
    """

    def __init__(self, stream: TextIO | None) -> None:
        """`stream` None: there is none, as when a process was started with standard error closed."""
        self._stream = stream
        self._lines: deque[str] = deque()
        self._flushed_by: asyncio.AbstractEventLoop | None = None
        atexit.register(self.flush)

    def msg(self, line: str) -> None:
        self._lines.append(line)
        if self._flushed_by is not None and not self._flushed_by.is_closed():
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        self._flushed_by = loop
        loop.call_soon(self.flush)

    debug = info = warning = error = critical = exception = log = warn = fatal = msg

    def flush(self) -> None:
        """Write what waits."""
        self._flushed_by = None
        lines = list[str]()
        with contextlib.suppress(IndexError):  # one by one: a thread may add to them, or flush, meanwhile
            while True:
                lines.append(self._lines.popleft())
        if self._stream is None:
            return
        # A stream that takes nothing more (a full disk, a closed pipe) costs the lines, never the work they tell of.
        with contextlib.suppress(OSError, ValueError):
            for piece in _pieces(lines):
                self._stream.write(piece)
                self._stream.flush()


def _pieces(lines: Iterable[str]) -> Iterator[str]:
    """Whole lines, as many at a time as a pipe takes undivided: what workers write to one would else be mixed."""
    piece = ""
    for line in lines:
        if piece and len(piece) + len(line) >= PIPE_BUF:
            yield piece
            piece = ""
        piece += f"{line}\n"
    if piece:
        yield piece


class LineHandler(logging.Handler):
    """Sends the standard library's records the same way."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.msg(self.format(record))
        except Exception:  # noqa: BLE001 - as every handler of the standard library: a bad record ends nobody
            self.handleError(record)
