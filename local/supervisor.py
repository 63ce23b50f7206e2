"""Keeps parts running: whoever has ended is started again, after the delay that `restarts` says.

In: parts, and a look at all of them from time to time. Out: a sentence for every death and every return. Nothing here
waits, and nothing that goes wrong with one part ends the look at the others.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from local.errors import ServerError
from local.restarts import DELAYS_S, Row


@dataclass(frozen=True, slots=True)
class Part:
    """A server or a process, as its supervisor sees it.

    `start` takes away what is left of the last run and does not wait; `ready` may raise ServerError.
    """

    name: str
    log: Path
    start: Callable[[], None]
    running: Callable[[], bool]
    ready: Callable[[], bool]
    how_it_ended: Callable[[], str]
    last_words: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Death:
    """`total`: how often this part has died in this run, this time included."""

    part: str
    how: str
    total: int


class Supervisor:
    def __init__(
        self,
        parts: Sequence[Part],
        *,
        record: Callable[[], None],
        died: Callable[[Death], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`record`: told after every start and return, so that the new processes are written down; `died`: a death."""
        self._posts = [_Post(part, now, record, died) for part in parts]

    def look(self) -> list[str]:
        """Does what is due; says what happened since the last look."""
        return [sentence for post in self._posts for sentence in post.look()]


class _Post:
    """One part and where it is in its life: running, dead until `_due`, or started and not yet ready."""

    def __init__(
        self, part: Part, now: Callable[[], float], record: Callable[[], None], died: Callable[[Death], None]
    ) -> None:
        self._part = part
        self._now = now
        self._record = record
        self._tell = died
        self._row = Row()
        self._started_at = now()
        self._died_at: float | None = None
        self._due: float | None = None

    def look(self) -> Iterator[str]:
        if self._due is not None:
            if self._now() >= self._due:
                yield from self._start()
        elif not self._part.running():
            yield self._bury(self._part.how_it_ended(), self._part.last_words)
        elif self._died_at is not None:
            yield from self._welcome()

    def _start(self) -> Iterator[str]:
        self._due = None
        self._started_at = self._now()
        try:
            self._part.start()
            self._record()
        except (ServerError, OSError, psutil.Error) as error:
            words = str(error) or repr(error)
            yield self._bury(f"could not be started ({words.splitlines()[0]})", lambda: words)

    def _welcome(self) -> Iterator[str]:
        # What has ended meanwhile raises here, too: the next look sees it. What cannot be written down is tried again.
        with suppress(ServerError, OSError, psutil.Error):
            if self._died_at is not None and self._part.ready():
                self._record()
                yield f"{self._part.name} is ready again, {self._now() - self._died_at:.1f} s after it had ended"
                self._died_at = None

    def _bury(self, how: str, last_words: Callable[[], str]) -> str:
        now = self._now()
        delay_s = self._row.add(now - self._started_at)
        self._due = now + delay_s
        self._died_at = now if self._died_at is None else self._died_at
        self._tell(Death(self._part.name, how, self._row.total))
        if self._row.just_hopeless:
            return (
                f"{self._part.name} {how}, {self._row.deaths} times in a row: from now on it is tried every "
                f"{DELAYS_S[-1]:.0f} s. Its last lines ({self._part.log}):\n{last_words() or '(none)'}"
            )
        return f"{self._part.name} {how}; it is started again in {_spoken(delay_s)}"


def _spoken(delay_s: float) -> str:
    return f"{delay_s * 1000:.0f} ms" if delay_s < 1 else f"{delay_s:.0f} s"
