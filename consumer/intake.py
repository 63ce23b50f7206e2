"""Deliveries straight from the wire: below aio-pika, whose way costs two tasks, five queue turns and a copy a message.

Goes in: the bytes of a connection. Comes out: one channel's messages, whole and in the broker's order; whatever else is
on the wire goes on to aiormq untouched. Promise: a message whose header cannot be read cuts no connection; its tag is
told.
"""

import asyncio
import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple, cast

import aio_pika
from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from pamqp import commands
from pamqp.constants import FRAME_BODY, FRAME_HEADER, FRAME_HEARTBEAT, FRAME_METHOD
from pamqp.heartbeat import Heartbeat
from yarl import URL

from consumer import properties
from consumer.properties import Properties

_HEAD: Final = struct.Struct(">BHI")  # kind, channel, size; one byte ends the frame
_METHOD: Final = struct.Struct(">I")
_TAG: Final = struct.Struct(">Q")
_WHOLE: Final = struct.Struct(">BHIHHQ")  # a header's head and content
_CONTENT: Final = struct.Struct(">HHQ")  # class, weight, size of the body
_KINDS: Final = frozenset({FRAME_METHOD, FRAME_HEADER, FRAME_BODY, FRAME_HEARTBEAT})
_HEARTBEAT: Final = Heartbeat().marshal()
# aiormq takes a connection for stuck on which it sees no frame; what is taken here it does not see.
_HEARTBEAT_EVERY_S: Final = 0.5


class Arrived(NamedTuple):
    """One message: its delivery tag, properties and body."""

    tag: int
    properties: Properties
    body: bytes


class _Pending:
    """A message of which frames are still to come."""

    def __init__(self, tag: int) -> None:
        self.tag = tag
        self.properties: Properties | None = None
        self.body: list[bytes] = []
        self.missing = -1  # bytes of the body; before the header they are not known

    def head(self, payload: bytes) -> None:
        self.missing = _CONTENT.unpack_from(payload)[2]
        self.properties = properties.read(payload)

    def more(self, payload: bytes) -> None:
        self.body.append(payload)
        self.missing -= len(payload)


class Intake(asyncio.Protocol):
    """Stands between a transport and the protocol that aiormq reads from."""

    def __init__(self, inner: asyncio.Protocol) -> None:
        self._inner: Final = inner
        self._channel: int | None = None
        self._arrived: Callable[[Arrived], None] = lambda _: None
        self._unreadable: Callable[[int], None] = lambda _: None
        self._pending: _Pending | None = None
        self._rest = b""
        self._blind = False
        self._beaten_at = 0.0

    def attach(self, channel: int, arrived: Callable[[Arrived], None], unreadable: Callable[[int], None]) -> None:
        """From now on take the deliveries of `channel`; `unreadable` is told the tags of those that cannot be read."""
        self._channel, self._arrived, self._unreadable = channel, arrived, unreadable

    def data_received(self, data: bytes) -> None:
        if self._blind:
            self._inner.data_received(data)
            return
        data = self._rest + data if self._rest else data
        start, end, passed = 0, len(data), list[bytes]()
        while end - start >= _HEAD.size:
            kind, channel, size = _HEAD.unpack_from(data, start)
            if kind not in _KINDS:
                self._blind = True  # no AMQP: aiormq knows what to say to that
                passed.append(data[start:])
                start = end
                break
            after = start + _HEAD.size + size + 1
            if after > end:
                break
            if kind == FRAME_METHOD and channel == self._channel and (whole := self._took_whole(data, start, after)):
                start = whole
                continue
            if channel != self._channel or not self._took(kind, data[start + _HEAD.size : after - 1]):
                passed.append(data[start:after])
            start = after
        self._rest = data[start:]
        self._pass_on(passed)

    def _took_whole(self, data: bytes, start: int, header: int) -> int:
        """Take a message of which all is there, as nearly all come: where it ends, or 0."""
        if header + _WHOLE.size > len(data):
            return 0
        if _METHOD.unpack_from(data, start + _HEAD.size)[0] != commands.Basic.Deliver.index:
            return 0
        kind, channel, size, _, _, body_size = _WHOLE.unpack_from(data, header)
        body = header + _HEAD.size + size + 1
        end: int = body + _HEAD.size + body_size + 1
        if end > len(data) or kind != FRAME_HEADER or channel != self._channel:
            return 0
        if _HEAD.unpack_from(data, body) != (FRAME_BODY, self._channel, body_size):
            return 0  # a body of several frames, or of none
        tag_at = start + _HEAD.size + _METHOD.size
        self._pending = None
        self._deliver(
            _TAG.unpack_from(data, tag_at + 1 + data[tag_at])[0],
            properties.read(data[header + _HEAD.size : body - 1]),
            data[body + _HEAD.size : end - 1],
        )
        return end

    def _took(self, kind: int, payload: bytes) -> bool:
        if kind == FRAME_METHOD:
            # The broker ends a channel between two frames of a message: that message was never whole.
            self._pending = None
            if _METHOD.unpack_from(payload)[0] != commands.Basic.Deliver.index:
                return False
            self._pending = _Pending(_TAG.unpack_from(payload, _METHOD.size + 1 + payload[_METHOD.size])[0])
            return True
        if self._pending is None:
            return False
        if kind == FRAME_HEADER:
            self._pending.head(payload)
        elif kind == FRAME_BODY:
            self._pending.more(payload)
        self._hand_over(self._pending)
        return True

    def _hand_over(self, pending: _Pending) -> None:
        if pending.missing > 0:
            return
        self._pending = None
        self._deliver(pending.tag, pending.properties, b"".join(pending.body))

    def _deliver(self, tag: int, found: Properties | None, body: bytes) -> None:
        if found is None:
            self._unreadable(tag)
        else:
            self._arrived(Arrived(tag, found, body))

    def _pass_on(self, passed: list[bytes]) -> None:
        now = asyncio.get_running_loop().time()
        if not passed and now - self._beaten_at > _HEARTBEAT_EVERY_S:
            self._beaten_at = now
            passed.append(_HEARTBEAT)
        if passed:
            self._inner.data_received(b"".join(passed))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()


class _Wire(TransportFactory):
    """aiormq's own transports, with an intake on them."""

    def __init__(self) -> None:
        self.intake: Intake | None = None

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        theirs = TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
        reader, writer = await theirs.create(url, **kwargs)
        self.intake = Intake(cast("asyncio.Protocol", writer.transport.get_protocol()))
        writer.transport.set_protocol(self.intake)
        return reader, writer


class Connection(aio_pika.Connection):
    """aio-pika's, with an intake."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._wire = _Wire()
        self.kwargs["transport_factory"] = self._wire

    @property
    def intake(self) -> Intake | None:
        """None before it is connected."""
        return self._wire.intake
