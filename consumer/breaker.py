"""When what an effect needs is down: stop taking events, look at it now and then, go on when it answers.

Goes in: how each event went, and a cheap probe. Comes out: `closed`, `open` or `half_open` (one event at a time).
Promise: an outage costs no attempt, however long; a bad event among good ones does not open the breaker.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
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
class BreakerState:
    """For people: the state, since when, and what opened it."""

    state: State
    since: datetime
    reason: str | None


class Breaker:
    """Counts failures in a row; `changed` is called on every change of state."""

    def __init__(self, probe: Probe, *, changed: Callable[[State], None]) -> None:
        self._probe = probe
        self._changed = changed
        self._failures = 0
        self._pause_s = PROBE_FIRST_S
        self._state = BreakerState(State.CLOSED, datetime.now(UTC), None)
        self._opened = asyncio.Event()

    @property
    def state(self) -> BreakerState:
        return self._state

    def succeeded(self) -> None:
        """An event's effect came about."""
        self._failures, self._pause_s = 0, PROBE_FIRST_S
        if self._state.state is not State.CLOSED:
            self._go(State.CLOSED, None)

    def answered(self) -> None:
        """An event's effect did not come about, though what it needs was there: enough for a half-open breaker."""
        if self._state.state is State.HALF_OPEN:
            self.succeeded()

    def failed(self, error: DependencyDown) -> None:
        """An event failed because the dependency is down."""
        self._failures += 1
        enough = self._failures >= FAILURES_TO_OPEN or self._state.state is State.HALF_OPEN
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
        try:
            await self._probe()
        except DependencyDown as error:
            log.debug("breaker_probe_failed", error=str(error))
        except Exception as error:  # noqa: BLE001 - whatever a probe raises, it did not succeed
            log.warning("breaker_probe_failed", error=type(error).__name__)
        else:
            # An event that was under way may have succeeded, and closed it, while the probe was out.
            if self._state.state is State.OPEN:
                self._go(State.HALF_OPEN, self._state.reason)

    def _go(self, state: State, reason: str | None) -> None:
        before, self._state = self._state, BreakerState(state, datetime.now(UTC), reason)
        lasted_s = round((self._state.since - before.since).total_seconds(), 1)
        log.warning("breaker_changed", state=state, before=before.state, lasted_s=lasted_s, reason=reason)
        if state is State.OPEN:
            self._opened.set()
        else:
            self._opened.clear()
        self._changed(state)
