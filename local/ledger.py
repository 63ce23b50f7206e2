"""`.usher/state.json`: which processes a run started, so that a later one can find and end them.

A process counts as ours only while its pid *and* its time of creation match: a recycled pid is never touched.
"""

import contextlib
import fcntl
import json
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from local.env import replace_private
from local.errors import AlreadyRunningError
from local.processes import wait_until

# On Linux psutil adds the kernel's boot time, which two processes may see up to a second apart; there the exact
# clock tick has to be the same as well. The time tells two boots of the machine apart, the tick everything else.
_SAME_TIME_S = 2.0 if sys.platform == "linux" else 0.01
_STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Entry:
    """One process. `stage`: the higher, the earlier it has to end; `stop`: the signal that it takes as a request."""

    name: str
    pid: int
    created: float
    stage: int = 0
    stop: int = signal.SIGTERM
    tick: int | None = None

    @classmethod
    def of(cls, name: str, process: psutil.Process, *, stage: int = 0, stop: int = signal.SIGTERM) -> "Entry":
        return cls(name, process.pid, process.create_time(), stage, int(stop), _start_tick(process.pid))

    def process(self) -> psutil.Process | None:
        """The live process, if it is still the very one that was recorded."""
        try:
            process = psutil.Process(self.pid)
            near = abs(process.create_time() - self.created) < _SAME_TIME_S
            same = near and _start_tick(self.pid) == self.tick
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


@dataclass(frozen=True)
class Deaths:
    """How often a part has ended in this run, how the last time, and when (RFC 3339)."""

    times: int
    how: str
    at: str


@dataclass
class Ledger:
    folder: Path
    supervisor: Entry | None = None
    ready: bool = False
    entries: list[Entry] = field(default_factory=list)
    deaths: dict[str, Deaths] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> "Ledger":
        """What the last run wrote down; empty when there is nothing, or nothing that can be read."""
        try:
            raw = json.loads((folder / "state.json").read_text())
            supervisor = Entry(**raw["supervisor"]) if raw["supervisor"] else None
            deaths = {name: Deaths(**each) for name, each in raw.get("deaths", {}).items()}
            return cls(folder, supervisor, bool(raw["ready"]), [Entry(**entry) for entry in raw["entries"]], deaths)
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return cls(folder)

    @classmethod
    def begin(cls, folder: Path) -> "Ledger":
        """A new run, supervised by this process."""
        ledger = cls(folder, Entry.of("usher up", psutil.Process()))
        ledger.save()
        return ledger

    def is_ready(self, supervisor: int) -> bool:
        return self.ready and self.supervisor is not None and self.supervisor.pid == supervisor

    def record(self, *entries: Entry) -> None:
        """Adds what runs; forgets what has ended, or a part that dies all night would fill the file."""
        alive = [entry for entry in self.entries if entry.process()]
        self.entries = alive + [entry for entry in entries if entry not in alive]
        self.save()

    def save(self) -> None:
        state = {
            "supervisor": asdict(self.supervisor) if self.supervisor else None,
            "ready": self.ready,
            "entries": [asdict(entry) for entry in self.entries],
            "deaths": {name: asdict(each) for name, each in self.deaths.items()},
        }
        replace_private(self.folder / "state.json", json.dumps(state, indent=2) + "\n")

    def clear(self) -> None:
        (self.folder / "state.json").unlink(missing_ok=True)

    def supervisor_alive(self) -> psutil.Process | None:
        return self.supervisor.process() if self.supervisor else None

    def stop_leftovers(self) -> list[str]:
        """Ends what a dead supervisor left behind, stage by stage; returns the names of what was still alive."""
        stopped: list[str] = []
        for stage in sorted({entry.stage for entry in self.entries}, reverse=True):
            stopped += _stop_all([entry for entry in self.entries if entry.stage == stage])
        return list(dict.fromkeys(stopped))


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder for one `usher up`; the kernel lets go of it however the process ends.

    Raises: AlreadyRunningError.
    """
    with (folder / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunningError(f"usher is already running in {folder}.") from None
        yield


def _start_tick(pid: int) -> int | None:
    """When the process began, in clock ticks since the machine did (proc(5), field 22); None without a /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])


def _stop_all(entries: list[Entry]) -> list[str]:
    alive = [(entry, process) for entry in entries if (process := entry.process())]
    for entry, process in alive:
        with contextlib.suppress(psutil.Error):
            process.resume()
            process.send_signal(entry.stop)
    if not wait_until(lambda: not any(entry.process() for entry, _ in alive), _STOP_TIMEOUT_S):
        for entry, _ in alive:
            if survivor := entry.process():
                survivor.kill()
    return [entry.name for entry, _ in alive]
