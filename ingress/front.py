"""The public port: the usual webhook is taken off the wire in one step, everything else is aiohttp's business.

Goes in: a connection's bytes. Comes out: answers. What is usual stands in `usual`. Promise: whatever is not reaches
aiohttp byte for byte, and from then on all that comes over that connection does.
"""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, Final, cast

import structlog
from aiohttp import web

from ingress import answer as answers
from ingress.answer import Answer
from ingress.receive import Receiver
from ingress.usual import may_become_usual, usual
from ingress.webhook import RawWebhook
from shared.log import trace_of

log = structlog.get_logger()

# Above the idle timeout of common load balancers (60 s), so that they close first.
KEEPALIVE_TIMEOUT_S: Final = 75.0
# A request that came in several packets is whole within milliseconds; a slow sender is aiohttp's.
HOLD_S: Final = 0.2


class Server(web.Server):
    """aiohttp's server, with a `Front` before each of its connections."""

    def __init__(self, receiver: Receiver, **options: Any) -> None:
        super().__init__(receiver.handle, keepalive_timeout=KEEPALIVE_TIMEOUT_S, **options)
        self.receiver = receiver
        self.stopping = False
        self.ours: set[asyncio.Transport] = set()  # connections that aiohttp does not know of
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def __call__(self) -> Any:
        return Front(self, super().__call__())

    async def settled(self, timeout_s: float) -> None:
        """Answer what is under way, within `timeout_s`, and take nothing more in one step; then hang up."""
        self.stopping = True
        with contextlib.suppress(TimeoutError):  # their senders come again
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        for transport in self.ours:
            transport.close()

    def begun(self) -> None:
        self._under_way += 1
        self._idle.clear()

    def ended(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._idle.set()


class Front(asyncio.Protocol):
    """Stands between one connection and aiohttp's protocol for it, which hears of it when it is handed over."""

    def __init__(self, server: Server, inner: asyncio.Protocol) -> None:
        self._server, self._inner = server, inner
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._rest = b""
        self._busy = False
        self._stuffed = False
        self._reading = True
        self._handed_over = False
        self._holding: asyncio.TimerHandle | None = None
        self._used_at = self._loop.time()
        self._leaving: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server.ours.add(self._transport)
        self._leave_when_idle()

    def data_received(self, data: bytes) -> None:
        if self._handed_over:
            self._inner.data_received(data)
            return
        self._rest = self._rest + data if self._rest else data
        if self._busy or self._stuffed:
            self._stop_reading()  # another before this one is answered: it waits
        else:
            self._look()

    def pause_writing(self) -> None:
        self._inner.pause_writing()
        if not self._handed_over:
            self._stuffed = True  # who does not read answers gets no more of them
            self._stop_reading()

    def resume_writing(self) -> None:
        self._inner.resume_writing()
        if not self._handed_over:
            self._stuffed = False
            self._go_on()

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.ours.discard(self._transport)
        self._handed_over = True
        for timer in (self._holding, self._leaving):
            if timer is not None:
                timer.cancel()
        self._inner.connection_lost(exc)

    def _look(self) -> None:
        """Take what is there, if it is a usual webhook; wait a little for its end; or leave it to aiohttp."""
        webhook = None
        if not self._server.stopping:
            webhook = usual(self._rest, self._server.receiver.max_body_bytes)
            if webhook is None and may_become_usual(self._rest):
                if self._holding is None:
                    self._holding = self._loop.call_later(HOLD_S, self._hand_over)
                return
        if self._holding is not None:
            self._holding.cancel()
            self._holding = None
        if webhook is None:
            self._hand_over()
        else:
            self._rest = b""
            self._begin(webhook)

    def _begin(self, webhook: RawWebhook) -> None:
        self._busy = True
        self._server.begun()
        work = self._take(webhook)
        if self._server.receiver.publisher.ready:
            _drive(work)
        else:  # it will wait for a connection, with a deadline: that takes a task
            self._task = self._loop.create_task(work)

    async def _take(self, webhook: RawWebhook) -> None:
        answer = answers.FAILED
        try:
            answer = await self._server.receiver.accept(webhook)
        except Exception as error:  # noqa: BLE001 - a bug where even the log line is written: the sender comes again
            log.error("webhook_failed", error=type(error).__name__, trace=trace_of(error))  # noqa: TRY400 - as there
        finally:
            self._answer(answer)

    def _answer(self, answer: Answer) -> None:
        self._busy = False
        self._server.ended()
        self._used_at = self._loop.time()
        if not self._transport.is_closing():
            self._transport.write(answers.as_bytes(answer))
            self._go_on()

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._transport.pause_reading()

    def _read_on(self) -> None:
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()

    def _go_on(self) -> None:
        if self._busy or self._stuffed or self._transport.is_closing():
            return
        self._read_on()
        if self._rest:
            self._look()

    def _hand_over(self) -> None:
        """From now on all is aiohttp's."""
        if self._transport.is_closing():
            return
        self._handed_over = True
        self._server.ours.discard(self._transport)
        # Not before: its idle timer, which runs from here on, would cut off a webhook of ours.
        self._inner.connection_made(self._transport)
        self._read_on()
        rest, self._rest = self._rest, b""
        if rest:
            self._inner.data_received(rest)

    def _leave_when_idle(self) -> None:
        """Close a connection over which nothing comes; one timer for it, however many webhooks come."""
        if self._handed_over:
            return  # aiohttp has a timer of its own
        left_s = self._used_at + KEEPALIVE_TIMEOUT_S - self._loop.time()
        if left_s <= 0 and not self._busy:
            # What the other side has not read by now it never will.
            self._transport.abort() if self._stuffed else self._transport.close()
            return
        self._leaving = self._loop.call_later(max(left_s, 1.0), self._leave_when_idle)


def _drive(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` at once until it waits, and on from there when what it waits for is there.

    A task would begin a turn of the event loop later: with hundreds of connections, when what it works on has left the
    processor's cache. `work` may wait for futures alone.
    """
    try:
        waited = work.send(None)
    except StopIteration:
        return
    if waited is None:  # it gives way to others for one turn
        asyncio.get_running_loop().call_soon(_drive, work)
    else:
        waited.add_done_callback(lambda _: _drive(work))
