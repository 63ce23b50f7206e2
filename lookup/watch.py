"""Waits for rows to change: one look at the table at a steady pace, shared by all who wait in this process.

In: user ids. Out: their rows. Promise: whoever waits is answered in time; however many wait, Postgres is asked at most
once each POLL_INTERVAL_S for them.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NoReturn

import structlog

from lookup.databases import Databases
from lookup.row import Row
from shared.errors import DependencyDown
from shared.log import trace_of

log = structlog.get_logger()

POLL_INTERVAL_S: Final = 0.25
# With nobody waiting the table is looked at all the same: /readyz tells of it.
PROBE_INTERVAL_S: Final = 2.0
# Each holds a connection open. More are answered at once, as if they had not asked to wait.
MAX_WAITING: Final = 1000

IsEnough = Callable[[Row | None], bool]


@dataclass(slots=True, eq=False)
class _Waiter:
    user_id: str
    enough: IsEnough
    last: Row | None
    done: asyncio.Future[Row | None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def tell(self, row: Row | None) -> None:
        self.last = row
        if self.enough(row) and not self.done.done():
            self.done.set_result(row)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def release(self) -> None:
        if not self.done.done():
            self.done.set_result(self.last)


class Watch:
    """`run` is the pace; `row` is how to ask; `end` lets everybody go with what was last seen."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._waiters: set[_Waiter] = set()
        self._wanted = asyncio.Event()
        self._ending = False

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    async def row(self, user_id: str, *, wait_s: float, enough: IsEnough) -> Row | None:
        """The user's row as soon as it is `enough`, or as it is after `wait_s`.

        Raises:
            DependencyDown: Postgres does not answer.
        """
        row = (await self._databases.find([user_id])).get(user_id)
        if enough(row) or wait_s <= 0 or self._ending or self.waiting >= MAX_WAITING:
            return row
        waiter = _Waiter(user_id, enough, row)
        self._waiters.add(waiter)
        self._wanted.set()
        try:
            async with asyncio.timeout(wait_s):
                return await waiter.done
        except TimeoutError:
            return waiter.last
        finally:
            self._waiters.discard(waiter)

    async def run(self) -> NoReturn:
        """Look, for ever, until cancelled."""
        while True:
            await self._look()
            await self._pause()

    def end(self) -> None:
        """Answer all who wait, now, and let nobody begin to."""
        self._ending = True
        for waiter in list(self._waiters):
            waiter.release()

    async def _look(self) -> None:
        waiters = list(self._waiters)
        try:
            rows = await self._databases.find({waiter.user_id for waiter in waiters})
            for waiter in waiters:
                waiter.tell(rows.get(waiter.user_id))
        except DependencyDown as error:
            _fail(waiters, error)
        except Exception as error:  # noqa: BLE001 - a bug must not end the pace for everybody
            log.error("lookup_watch_failed", error=type(error).__name__, trace=trace_of(error))  # noqa: TRY400 - its text may quote values
            _fail(waiters, error)

    async def _pause(self) -> None:
        self._wanted.clear()
        if not self._waiters:
            try:
                async with asyncio.timeout(PROBE_INTERVAL_S):
                    await self._wanted.wait()
            except TimeoutError:
                return
        await asyncio.sleep(POLL_INTERVAL_S)


def _fail(waiters: list[_Waiter], error: Exception) -> None:
    for waiter in waiters:
        waiter.fail(error)
