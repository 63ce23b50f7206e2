"""`usher down`: stops a run of `usher up`, detached or not, and what a killed one left behind. Data is kept."""

import contextlib
from pathlib import Path
from typing import Annotated

import psutil
import typer

from cli import terminal
from local.env import default_folder
from local.errors import AlreadyRunningError, ServerError
from local.ledger import Ledger, locked
from local.processes import wait_until

_STOP_TIMEOUT_S = 120.0


def down(
    *,
    folder: Annotated[Path | None, typer.Option(help="The folder of the run; else .usher of the clone.")] = None,
) -> None:
    """Stop what `usher up` started; say so when nothing runs.

    Only processes that the run wrote down as its own are touched. Messages, rows, secrets and ports are kept.

    [bold]Examples[/bold]

        usher down
        usher down --folder /srv/usher/.usher

    Exit codes: 0 nothing runs any more, 1 something could not be stopped, 2 misused.
    """
    home = (folder or default_folder()).absolute()
    stopped = _stop(home) if home.is_dir() else []
    if stopped:
        terminal.out().print(f"Stopped {', '.join(stopped)}.")
    else:
        terminal.out().print(f"Nothing runs in {home}.")


def _stop(folder: Path) -> list[str]:
    ledger = Ledger.load(folder)
    names = list(dict.fromkeys(entry.name for entry in reversed(ledger.entries) if entry.process()))
    supervisor = ledger.supervisor_alive()
    if supervisor:
        with contextlib.suppress(psutil.NoSuchProcess):
            supervisor.terminate()
        if not wait_until(lambda: ledger.supervisor_alive() is None, _STOP_TIMEOUT_S):
            raise ServerError(f"process {supervisor.pid} (usher up) did not stop within {_STOP_TIMEOUT_S:.0f} s.")
    try:
        with locked(folder):
            Ledger.load(folder).stop_leftovers()
            ledger.clear()
    except AlreadyRunningError as error:
        raise ServerError("usher is just being started: try again in a moment.") from error
    return names
