"""Parts that end are started again when it is time, and what happens is said."""

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from local.child import Child
from local.errors import ServerError
from local.parts import child_part
from local.restarts import DELAYS_S, STEADY_S
from local.supervisor import Death, Part, Supervisor
from tests.support.eventually import eventually


@dataclass
class Actor:
    """A part on a stage: it does what the test writes into its fields."""

    name: str = "actor"
    alive: bool = True
    is_ready: bool = True
    refuses: Exception | None = None
    starts: int = 0

    def start(self) -> None:
        self.starts += 1
        if self.refuses:
            raise self.refuses
        self.alive = True

    def as_part(self) -> Part:
        return Part(
            name=self.name,
            log=Path("/log"),
            start=self.start,
            running=lambda: self.alive,
            ready=lambda: self.is_ready,
            how_it_ended=lambda: "was killed by SIGKILL",
            last_words=lambda: "its last words",
        )


@dataclass
class Stage:
    """A supervisor with a clock that the test sets."""

    actors: list[Actor]
    now: float = 1000.0
    recorded: int = 0
    deaths: list[Death] = field(default_factory=list)

    def __post_init__(self) -> None:
        parts = [actor.as_part() for actor in self.actors]
        self.supervisor = Supervisor(parts, record=self._record, died=self.deaths.append, now=lambda: self.now)

    def _record(self) -> None:
        self.recorded += 1

    def look(self, after_s: float = 0.0) -> list[str]:
        self.now += after_s
        return self.supervisor.look()


def test_what_died_is_started_after_its_delay_and_said_to_be_back_when_it_is_ready() -> None:
    actor = Actor(alive=False, is_ready=False)
    stage = Stage([actor])

    died = stage.look()
    early, starts_early = stage.look(after_s=0.4), actor.starts
    started = stage.look(after_s=0.1)
    actor.is_ready = True
    back = stage.look(after_s=1.0)

    assert died == ["actor was killed by SIGKILL; it is started again in 500 ms"]
    assert (early, starts_early) == ([], 0)
    assert (started, actor.starts) == ([], 1)
    assert back == ["actor is ready again, 1.5 s after it had ended"]
    assert stage.look() == []
    assert stage.recorded == 2
    assert stage.deaths == [Death("actor", "was killed by SIGKILL", 1)]


def test_what_dies_again_and_again_is_named_once_with_its_last_words_and_goes_on_being_tried() -> None:
    actor = Actor(alive=False, is_ready=False)
    stage = Stage([actor])
    said = []

    for _ in range(len(DELAYS_S) + 1):
        said += stage.look()
        stage.look(after_s=DELAYS_S[-1])
        actor.alive = False

    told = [sentence for sentence in said if "its last words" in sentence]
    assert len(told) == 1
    assert told[0].startswith("actor was killed by SIGKILL, 5 times in a row: from now on it is tried every 15 s.")
    assert said[-1] == "actor was killed by SIGKILL; it is started again in 15 s"
    assert actor.starts == len(said) == 6


def test_a_part_that_had_run_steadily_is_started_again_as_quickly_as_the_first_time() -> None:
    actor = Actor(alive=False)
    stage = Stage([actor])
    for _ in range(2):
        stage.look()
        stage.look(after_s=1.0)
        actor.alive = False
    stage.look()
    stage.look(after_s=2.0)
    stage.look()
    actor.alive = False

    assert stage.look(after_s=STEADY_S) == ["actor was killed by SIGKILL; it is started again in 500 ms"]


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (ServerError("it is not installed.\nmore"), "it is not installed."),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (psutil.NoSuchProcess(7, msg="gone"), "gone (pid=7)"),
    ],
)
def test_a_start_that_fails_is_a_death_and_keeps_nobody_else_from_being_started(
    refusal: Exception, reason: str
) -> None:
    broken, sound = Actor("broken", alive=False, refuses=refusal), Actor("sound", alive=False)
    stage = Stage([broken, sound])
    stage.look()

    said = stage.look(after_s=0.5)
    broken.refuses = None
    stage.look(after_s=1.0)

    assert said == [f"broken could not be started ({reason}); it is started again in 1 s"]
    assert sound.alive
    assert broken.alive


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Child]:
    code = "import time; print('here', flush=True); time.sleep(600)"
    child = Child("sleeper", [sys.executable, "-c", code], tmp_path / "sleeper.log", os.environ, internal_port=1)
    child.start()
    yield child
    child.kill()


async def test_a_process_that_is_stopped_or_silent_is_not_dead(sleeper: Child) -> None:
    supervisor = Supervisor([child_part(sleeper)], record=lambda: None, died=lambda _: None)
    process = sleeper.process
    assert process is not None
    process.suspend()
    await eventually(lambda: process.status() == psutil.STATUS_STOPPED)

    assert supervisor.look() == []
    process.resume()
    assert sleeper.process == process


async def test_a_killed_process_is_started_again_and_its_last_words_are_of_its_own_run(sleeper: Child) -> None:
    deaths: list[Death] = []
    await eventually(lambda: sleeper.last_words() == "here")
    supervisor = Supervisor([child_part(sleeper)], record=lambda: None, died=deaths.append)
    first = sleeper.process
    assert first is not None
    first.send_signal(signal.SIGKILL)

    await eventually(lambda: supervisor.look() != [])
    await eventually(lambda: [*supervisor.look(), sleeper.process] != [None])

    assert deaths == [Death("sleeper", "was killed by SIGKILL", 1)]
    assert sleeper.process != first
    await eventually(lambda: sleeper.last_words() == "here")
