"""An event loop without clock and sockets: it runs what is ready and stops, and time passes when it is told to.

Goes in: who answers when somebody connects. Promise: the same calls in the same order give the same run.
"""

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Final

# Under whose name tasks are made, so that a process can be killed with all its tasks.
OWNER: Final[ContextVar[str]] = ContextVar("owner", default="")

Dial = Callable[[asyncio.BaseProtocol], asyncio.Transport]


class _Future(asyncio.Future[Any]):
    """Libraries keep futures and tasks in sets: numbered, these have one order in every run."""

    def __init__(self, *, loop: "VirtualLoop") -> None:
        super().__init__(loop=loop)
        self._number = loop.next_number()

    def __hash__(self) -> int:
        return self._number


class _Task(asyncio.Task[Any]):
    def __init__(self, coroutine: Coroutine[Any, Any, Any], *, loop: "VirtualLoop", **options: Any) -> None:
        self._number = loop.next_number()
        super().__init__(coroutine, loop=loop, **options)

    def __hash__(self) -> int:
        return self._number


class VirtualLoop(asyncio.BaseEventLoop):
    """`run_ready` goes on until everybody waits; `pass_time` lets timers fire, in order."""

    def __init__(self, dial: Dial) -> None:
        super().__init__()
        self._selector = self
        self._dial = dial
        self._now = 0.0
        self._numbers = itertools.count()
        self._scheduled: list[asyncio.TimerHandle]
        self._owned: dict[asyncio.Task[Any], str] = {}
        self.set_task_factory(self._make_task)  # type: ignore[arg-type] # the stubs know one signature of many
        # What a killed process leaves to the garbage collector is nobody's news.
        self.set_exception_handler(lambda _loop, _context: None)

    def run_ready(self) -> None:
        self.run_forever()

    def pass_time(self, seconds: float) -> None:
        until = self._now + seconds
        while True:
            self.run_ready()
            due = [timer.when() for timer in self._scheduled if not timer.cancelled() and timer.when() <= until]
            if not due:
                self._now = until
                return
            self._now = max(self._now, min(due))

    def kill(self, owner: str | None) -> None:
        """End all tasks of `owner` (None: of everybody), however often they ask for another moment."""
        for _ in range(100):
            tasks = [task for task, whose in self._owned.items() if owner in {None, whose}]
            if not tasks:
                return
            for task in tasks:
                task.cancel()
            self.run_ready()
        raise AssertionError(f"tasks of {owner} do not end")

    async def create_connection(  # type: ignore[override] # of all its ways only the one that clients use
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], *_address: object, **_options: object
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        protocol = protocol_factory()
        transport = self._dial(protocol)
        protocol.connection_made(transport)
        return transport, protocol

    def next_number(self) -> int:
        return next(self._numbers)

    def create_future(self) -> asyncio.Future[Any]:
        return _Future(loop=self)

    def time(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> list[object]:
        """The base class asks its selector what to do next: with nothing ready it is time to stop."""
        if timeout != 0:
            self.stop()
        return []

    def _process_events(self, _events: list[object]) -> None: ...

    def _write_to_self(self) -> None: ...

    def _make_task(
        self, _loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        task = _Task(coroutine, loop=self, **options)
        self._owned[task] = OWNER.get()
        task.add_done_callback(self._owned.pop)
        return task
