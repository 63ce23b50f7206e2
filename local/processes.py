"""Child processes: started in a session of their own, ended by pid, never by name.

A process is only ever signalled through a handle that remembers when it began, so that a recycled pid is safe.
"""

import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

POLL_INTERVAL_S = 0.05
LAST_WORDS_LINES = 15
_LAST_WORDS_BYTES = 64 * 1024


def spawn(
    command: Sequence[str | Path],
    log: Path,
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    user: str | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Starts `command` with its output appended to `log`; as `user`, without any other group, when one is given.

    In a session of its own: Ctrl-C in the terminal reaches us alone, and we end our children in order.
    """
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - our own commands, never through a shell
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
            pass_fds=pass_fds,
            **identity(user),
        )


def run(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user: str | None = None,
    pass_fds: Sequence[int] = (),
    stdin: str = "",
    timeout_s: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Runs `command` to its end, its output (both streams) in `stdout`."""
    return subprocess.run(  # noqa: S603 - our own commands, never through a shell
        [str(part) for part in command],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=cwd,
        env=None if env is None else dict(env),
        pass_fds=pass_fds,
        timeout=timeout_s,
        check=False,
        **identity(user),
    )


def identity(user: str | None) -> dict[str, Any]:
    """The arguments that make subprocess drop root for `user`, its group and nothing else."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Polls `condition` until it holds or the time is up; says which."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_INTERVAL_S)
    return True


def last_words(log: Path, *, since: int = 0, lines: int = LAST_WORDS_LINES) -> str:
    """The last lines of a log, none from before the byte `since`; or an empty string."""
    try:
        with log.open("rb") as file:
            file.seek(max(since, log.stat().st_size - _LAST_WORDS_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def how_it_ended(exit_code: int) -> str:
    """In words, for the exit code of a subprocess: a negative one is the signal that killed it."""
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    known = {number.value: number.name for number in signal.Signals}
    return f"was killed by {known.get(-exit_code, f'signal {-exit_code}')}"


def family(process: psutil.Process) -> list[psutil.Process]:
    """The process and all that descend from it, itself first; empty when it is gone."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
