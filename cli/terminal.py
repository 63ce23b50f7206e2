"""What every verb says and how: results on standard output, the rest on standard error, colours on a terminal only.

`run` is how a verb enters asyncio: Ctrl-C cancels it, and what it had begun is closed before the process ends.
"""

import asyncio
import json
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from shared import log
from shared.errors import UsherError

T = TypeVar("T")

EXIT_CODES: Final = "Exit codes: 0 all well, 1 failed, 2 misused, 130 stopped with Ctrl-C."
# Text that is not going to a terminal is read by programs: it must not be wrapped at the width of one.
WIDTH_WITHOUT_TERMINAL: Final = 200


def out() -> Console:
    return _console(stderr=False)


def err() -> Console:
    return _console(stderr=True)


def print_json(value: object) -> None:
    """One line of JSON, as a script reads it."""
    print(encodable(json.dumps(value, ensure_ascii=False, default=str)), flush=True)


def encodable(text: str) -> str:
    """Half of a character pair, as a stranger's JSON can have it, is told by its escape: no stream or file takes it."""
    return text.encode(errors="backslashreplace").decode()


def progress(*, shown: bool = True) -> Progress:
    """A bar on standard error; nothing at all where that is no terminal."""
    console = err()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not (shown and console.is_terminal),
    )


def run(work: Coroutine[Any, Any, T], *, level: str = "error") -> T:
    """Run a verb's work to its end. A verb that leaves a trail in the log says from which `level` on.

    Raises:
        UsherError: the broker's connection went silent under it.
    """
    log.configure(level=level)
    try:
        return asyncio.run(work)
    except asyncio.CancelledError as error:
        # A silent connection ends pending calls with a cancellation that nobody asked for (aio-pika 10.2).
        raise UsherError("the connection to RabbitMQ went silent") from error


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = WIDTH_WITHOUT_TERMINAL
    return console
