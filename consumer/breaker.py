"""When what an effect needs is down: stop taking events, look at it now and then, go on when it answers.

Goes in: how each event went, and a cheap probe for each thing that an effect needs. Comes out: `closed`, `open` or
`half_open` (one event at a time), and what of these things is up. Promise: an outage costs no attempt, however long; a
bad event does not open the breaker, however often it comes.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import structlog

from shared.errors import DependencyDown

log = structlog.get_logger()

FAILURES_TO_OPEN: Final = 3
PROBE_FIRST_S: Final = 0.5
PROBE_MAX_S: Final = 15.0

Probe = Callable[[], Awaitable[None]]


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Dependency:
    """Whether a thing that the effect needs is there, since when, and why not. Asked only while the breaker is open."""

    up: bool
    since: datetime
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class BreakerState:
    """For people: the state, since when, and what opened it."""

    state: State
    since: datetime
    reason: str | None


class Breaker:
    """Counts the events that failed since the last success; `changed` is called on every change of state."""

    def __init__(self, probes: Mapping[str, Probe], *, changed: Callable[[State], None]) -> None:
        self._probes = probes
        self._changed = changed
        self._dependencies = {name: Dependency(up=True, since=datetime.now(UTC)) for name in probes}
        self._failed: set[str] = set()
        self._pause_s = PROBE_FIRST_S
        self._state = BreakerState(State.CLOSED, datetime.now(UTC), None)
        self._opened = asyncio.Event()

    @property
    def state(self) -> BreakerState:
        return self._state

    @property
    def dependencies(self) -> Mapping[str, Dependency]:
        return self._dependencies

    def succeeded(self) -> None:
        """An event's effect came about."""
        self._pause_s = PROBE_FIRST_S
        self._failed.clear()
        for name in self._dependencies:
            self._found(name, None)
        if self._state.state is not State.CLOSED:
            self._go(State.CLOSED, None)

    def answered(self) -> None:
        """An event's effect did not come about, though what it needs was there: enough for a half-open breaker."""
        if self._state.state is State.HALF_OPEN:
            self.succeeded()

    def failed(self, error: DependencyDown, event_id: str) -> None:
        """The event failed because something that its effect needs is down, or so it seems: one event alone may lie."""
        self._failed.add(event_id)
        enough = len(self._failed) >= FAILURES_TO_OPEN or self._state.state is State.HALF_OPEN
        if enough and self._state.state is not State.OPEN:
            self._go(State.OPEN, str(error))

    async def run(self) -> None:
        """Probe while open, with growing pauses; for ever, until cancelled."""
        while True:
            await self._opened.wait()
            while self._state.state is State.OPEN:
                # Jitter, so that many copies do not come down at once on what has just come up.
                await asyncio.sleep(random.uniform(self._pause_s / 2, self._pause_s))  # noqa: S311 - no secret
                # Grows until an effect succeeds: a probe that succeeds while real events fail must not race.
                self._pause_s = min(PROBE_MAX_S, self._pause_s * 2)
                await self._look()

    async def _look(self) -> None:
        troubles = {name: await _trouble(probe) for name, probe in self._probes.items()}
        # An event that was under way may have succeeded, and closed it, while the probes were out.
        if self._state.state is not State.OPEN:
            return
        for name, trouble in troubles.items():
            self._found(name, trouble)
        if not any(troubles.values()):
            self._go(State.HALF_OPEN, self._state.reason)

    def _found(self, name: str, trouble: str | None) -> None:
        before = self._dependencies[name]
        if before.reason == trouble:
            return
        since = before.since if trouble and not before.up else datetime.now(UTC)
        self._dependencies[name] = Dependency(up=trouble is None, since=since, reason=trouble)
        if before.up is not (trouble is None):
            lasted_s = round((since - before.since).total_seconds(), 1)
            log.warning("dependency_changed", dependency=name, up=trouble is None, reason=trouble, lasted_s=lasted_s)

    def _go(self, state: State, reason: str | None) -> None:
        before, self._state = self._state, BreakerState(state, datetime.now(UTC), reason)
        lasted_s = round((self._state.since - before.since).total_seconds(), 1)
        log.warning("breaker_changed", state=state, before=before.state, lasted_s=lasted_s, reason=reason)
        if state is State.OPEN:
            self._opened.set()
        else:
            self._opened.clear()
        self._changed(state)


async def _trouble(probe: Probe) -> str | None:
    try:
        await probe()
    except DependencyDown as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - whatever a probe raises, it did not succeed
        log.warning("breaker_probe_failed", error=type(error).__name__)
        return type(error).__name__
    return None
