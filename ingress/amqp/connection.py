"""One connection with one channel in confirm mode. Messages in, the broker's word on each out.

What is written within one turn of the event loop leaves in one write; confirms are taken as they come, in ranges, too.
Promise: every publish gets its outcome by its deadline, whatever the broker or the network does.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from pamqp import base, commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader, ProtocolHeader
from pamqp.heartbeat import Heartbeat

from ingress.amqp.confirms import Confirms
from ingress.amqp.message import PUBLISH_CHANNEL, Message
from ingress.amqp.wire import HEARTBEAT_FRAME, MAX_FRAME_BYTES, Confirm, Frame, FrameReader, WireError, encoded

HANG_UP_TIMEOUT_S: Final = 3.0
# Each lasts half the heartbeat's interval.
MAX_SILENT_BEATS: Final = 5
# What the broker does not read in time stays here: bounded, however many senders try again meanwhile.
MAX_UNSENT_BYTES: Final = 1024 * 1024
# Deadlines are looked at together, not more often than this.
SWEEP_S: Final = 0.05
# An alarm is over in seconds or in hours: nobody waits it out.
BLOCKED_TIMEOUT_S: Final = 1.0

Answer = TypeVar("Answer", bound=base.Frame)


class RefusedError(ConnectionError):
    """The broker closed a channel instead of answering: `code` is AMQP's."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}")
        self.code, self.text = code, text


class Connection(asyncio.Protocol):
    """Made by `handshake.connect`. `lost` says why it is of no more use, `gone` that its socket is closed."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_change = on_change
        self._transport: asyncio.Transport
        self._reader, self._confirms = FrameReader(), Confirms()
        self._asked: dict[int, tuple[type[base.Frame], asyncio.Future[Any]]] = {}
        self._out: list[bytes] = []
        self._max_frame_bytes = MAX_FRAME_BYTES
        self._paused = False
        self._heartbeat_s = 0.0
        self._silent_beats = 0
        self._beating: asyncio.TimerHandle | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._sweep_due = math.inf
        self._aborting: asyncio.TimerHandle | None = None
        self._calm = asyncio.Event()
        self._calm.set()
        self.blocked: str | None = None
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        # It may come before anybody asks.
        self.greeting = self._expect(commands.Connection.Start, channel=0)

    @property
    def usable(self) -> bool:
        """Whether the broker takes messages now."""
        return not (self._paused or self.blocked is not None or self.lost.done())

    def publish(self, message: Message, deadline: float) -> asyncio.Future[str | None]:
        """Publish; the outcome is None once the broker has stored it, else why not. Comes by `deadline`."""
        outcome: asyncio.Future[str | None] = self._loop.create_future()
        if self.lost.done():
            outcome.set_result(f"the connection to the broker was lost: {self.lost.result()}")
            return outcome
        tag = self._confirms.expect(outcome, deadline)
        self._write(message.envelope.frames(tag, message, self._max_frame_bytes))
        if deadline < self._sweep_due:
            self._sweep_at(deadline)
        return outcome

    async def unblocked(self) -> None:
        """Wait until the broker takes messages again, or the connection is lost."""
        await self._calm.wait()

    async def ask(self, method: base.Frame, answer: type[Answer], channel: int) -> Answer:
        """Send `method` and wait for the broker's answer; one at a time on a channel.

        Raises:
            RefusedError: the broker closed the channel over it.
            ConnectionError: the connection was lost.
        """
        answered = self._expect(answer, channel)
        self._write(encoded(method, channel))
        return await answered

    def agree(self, tune: commands.Connection.Tune, heartbeat_s: int) -> None:
        """Take the broker's terms, with a heartbeat of our own; 0: none."""
        self._max_frame_bytes = min(tune.frame_max or MAX_FRAME_BYTES, MAX_FRAME_BYTES)
        terms = commands.Connection.TuneOk(
            channel_max=tune.channel_max, frame_max=self._max_frame_bytes, heartbeat=heartbeat_s
        )
        self._write(encoded(terms, 0))
        if heartbeat_s:
            self._heartbeat_s = heartbeat_s
            self._beat()

    def hang_up(self, reason: str) -> None:
        """Give the connection up, politely: a broker that lives hears of it, one that does not holds up nobody."""
        if self._end(reason):
            self._write(
                encoded(commands.Connection.Close(reply_code=200, reply_text="Bye", class_id=0, method_id=0), 0)
            )
            self._aborting = self._loop.call_later(HANG_UP_TIMEOUT_S, self._transport.abort)

    def abort(self, reason: str) -> None:
        """Give the connection up at once."""
        self._end(reason)
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=MAX_UNSENT_BYTES)
        self._transport.write(ProtocolHeader().marshal())

    def data_received(self, data: bytes) -> None:
        self._silent_beats = 0
        try:
            for channel, frame in self._reader.frames(data):
                self._take(channel, frame)
        except WireError as error:
            self.abort(str(error))

    def connection_lost(self, error: Exception | None) -> None:
        self._end(str(error) if error else "the broker hung up")
        if self._aborting is not None:
            self._aborting.cancel()
        self.gone.set_result(None)

    def pause_writing(self) -> None:
        self._paused = True
        self._on_change()

    def resume_writing(self) -> None:
        self._paused = False
        self._on_change()

    def _take(self, channel: int, frame: Frame) -> None:
        match frame:
            case Confirm() if channel == PUBLISH_CHANNEL:
                self._confirms.settle(frame)
            case Heartbeat():
                pass
            case commands.Basic.Return() | ContentHeader() | ContentBody() if channel == PUBLISH_CHANNEL:
                self._confirms.take_return(frame)
            case commands.Channel.Close():
                self._channel_closed(channel, frame)
            case commands.Connection.Close():
                self._closed(frame)
            case commands.Connection.CloseOk():
                self._transport.close()
            case commands.Connection.Blocked():
                self._block(frame.reason)
            case commands.Connection.Unblocked():
                self._unblock()
            case base.Frame():
                self._answered(channel, frame)
            case _:
                raise WireError(f"{type(frame).__name__} on channel {channel}, which nobody asked for")

    def _expect(self, answer: type[Answer], channel: int) -> asyncio.Future[Answer]:
        answered: asyncio.Future[Answer] = self._loop.create_future()
        if self.lost.done():
            answered.set_exception(ConnectionError(self.lost.result()))
        else:
            self._asked[channel] = (answer, answered)
        return answered

    def _answered(self, channel: int, frame: base.Frame) -> None:
        expected, answered = self._asked.pop(channel, (None, None))
        if expected is None or answered is None or not isinstance(frame, expected):
            raise WireError(f"{frame.name} on channel {channel}, which nobody asked for")
        if not answered.done():
            answered.set_result(frame)

    def _channel_closed(self, channel: int, frame: commands.Channel.Close) -> None:
        self._write(encoded(commands.Channel.CloseOk(), channel))
        _, answered = self._asked.pop(channel, (None, None))
        if answered is not None and not answered.done():
            answered.set_exception(RefusedError(frame.reply_code or 0, frame.reply_text))
        if channel == PUBLISH_CHANNEL:
            self.hang_up(f"the broker closed the channel: {frame.reply_code} {frame.reply_text}")

    def _closed(self, frame: commands.Connection.Close) -> None:
        self._end(f"the broker closed it: {frame.reply_code} {frame.reply_text}")
        self._transport.write(encoded(commands.Connection.CloseOk(), 0))
        self._transport.close()

    def _block(self, reason: str) -> None:
        if self.lost.done():
            return
        self.blocked = reason or "an alarm"
        self._confirms.hurry(self._loop.time() + BLOCKED_TIMEOUT_S)
        self._calm.clear()
        self._sweep_later()
        self._on_change()

    def _unblock(self) -> None:
        self.blocked = None
        self._calm.set()
        self._on_change()

    def _beat(self) -> None:
        self._silent_beats += 1
        if self._silent_beats > MAX_SILENT_BEATS:
            self.abort("the connection went silent")
            return
        self._write(HEARTBEAT_FRAME)
        self._beating = self._loop.call_later(self._heartbeat_s / 2, self._beat)

    def _sweep(self) -> None:
        """Give what has waited too long its outcome. If nothing at all came back meanwhile, the connection is dead."""
        late = self._confirms.expire(self._loop.time())
        for waiting in late:
            waiting.end("not confirmed in time")
        if self.blocked is None and any(waiting.answers == self._confirms.answers for waiting in late):
            self.hang_up("no confirm within the deadline")
        self._sweep_later()

    def _sweep_later(self) -> None:
        deadline = self._confirms.next_deadline()
        self._sweep_at(math.inf if deadline is None else max(deadline, self._loop.time() + SWEEP_S))

    def _sweep_at(self, due: float) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._sweep_due = due
        self._sweeping = None if due == math.inf else self._loop.call_at(due, self._sweep)

    def _write(self, data: bytes) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        data = b"".join(self._out)
        self._out.clear()
        # One that was closed in the meantime takes nothing more: uvloop raises.
        if not self._transport.is_closing():
            self._transport.write(data)

    def _end(self, reason: str) -> bool:
        """Let everybody know that it is over; False if they knew."""
        if self.lost.done():
            return False
        self.lost.set_result(reason)
        self.blocked = None  # nobody will say that it is over
        for timer in (self._beating, self._sweeping):
            if timer is not None:
                timer.cancel()
        self._confirms.fail(f"the connection to the broker was lost: {reason}")
        for _, answered in self._asked.values():
            if not answered.done():
                answered.set_exception(ConnectionError(reason))
                answered.exception()  # seen: whoever asked may have been cancelled
        self._asked.clear()
        self._calm.set()
        self._on_change()
        return True
