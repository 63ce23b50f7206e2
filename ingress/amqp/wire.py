"""AMQP 0-9-1 frames: bytes in, frames out, however the bytes come. Pure; pamqp is the codec.

Confirms are the one frame that comes once a webhook: they are read here, without an object of pamqp's.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from pamqp import base, commands, frame
from pamqp.constants import FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_HEARTBEAT, FRAME_METHOD
from pamqp.exceptions import PAMQPException
from pamqp.heartbeat import Heartbeat

# What RabbitMQ offers; we never ask for more.
MAX_FRAME_BYTES: Final = 131_072
# Around what a frame carries: kind, channel and size before it, one byte after it.
HEAD: Final = struct.Struct(">BHI")
FRAME_OVERHEAD_BYTES: Final = HEAD.size + 1
HEARTBEAT_FRAME: Final = Heartbeat().marshal()

_FRAME_KINDS: Final = frozenset({FRAME_METHOD, FRAME_HEADER, FRAME_BODY, FRAME_HEARTBEAT})
_CONFIRM: Final = struct.Struct(">IQB")  # method, delivery tag, bits
_MULTIPLE: Final = 1


class WireError(ConnectionError):
    """The other side sent what is no frame of AMQP 0-9-1, or none that may come now."""


class Confirm(NamedTuple):
    """Basic.Ack or Basic.Nack: the broker's word on one delivery tag, or on all that are open up to it."""

    tag: int
    multiple: bool
    stored: bool


Frame = Confirm | frame.FrameTypes


class FrameReader:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._rest = b""

    def frames(self, data: bytes) -> Iterator[tuple[int, Frame]]:
        """The frames that are complete by now, each with its channel.

        Raises:
            WireError: what comes is not AMQP 0-9-1.
        """
        data = self._rest + data if self._rest else data
        start, end = 0, len(data)
        while end - start >= HEAD.size:
            kind, channel, size = HEAD.unpack_from(data, start)
            if kind not in _FRAME_KINDS or size > MAX_FRAME_BYTES:
                raise WireError("what answers there does not speak AMQP 0-9-1")
            after = start + size + FRAME_OVERHEAD_BYTES
            if after > end:
                break
            if data[after - 1] != FRAME_END:
                raise WireError("a frame does not end where it should")
            yield channel, _confirm(data, start, after) or _decoded(data[start:after])
            start = after
        self._rest = data[start:]


def encoded(method: base.Frame, channel: int) -> bytes:
    return frame.marshal(method, channel)


def _confirm(data: bytes, start: int, after: int) -> Confirm | None:
    if after - start != _CONFIRM.size + FRAME_OVERHEAD_BYTES or data[start] != FRAME_METHOD:
        return None
    method, tag, bits = _CONFIRM.unpack_from(data, start + HEAD.size)
    if method == commands.Basic.Ack.index:
        return Confirm(tag, bool(bits & _MULTIPLE), stored=True)
    if method == commands.Basic.Nack.index:
        return Confirm(tag, bool(bits & _MULTIPLE), stored=False)
    return None


def _decoded(data: bytes) -> Frame:
    try:
        return frame.unmarshal(data)[2]
    except (PAMQPException, ValueError, LookupError, TypeError, struct.error) as error:
        raise WireError(f"a frame that cannot be read: {type(error).__name__}") from error
