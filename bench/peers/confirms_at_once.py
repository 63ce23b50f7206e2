"""A broker that keeps nothing and confirms at once: what an ingress reaches where the broker has a machine of its own.

Speaks just enough AMQP 0-9-1 for a publisher. What came with one read is confirmed with one acknowledgement.
"""

import asyncio
import os
import struct
from collections.abc import Callable
from typing import Any, Final, cast

import uvloop
from pamqp import base, commands, frame
from pamqp.constants import FRAME_END, FRAME_METHOD

# A frame's type, channel and size, and which method it is; of a content header its size and that of the body.
_HEAD: Final = struct.Struct(">BHII")
_BODY_BYTES: Final = struct.Struct(">3xI4xQ")
_ACK: Final = struct.Struct(">BHIIQBB")
_LEAST_BYTES: Final = _HEAD.size
_HEADER_BYTES: Final = _BODY_BYTES.size
_AROUND: Final = 8  # bytes of a frame around what it carries
_PUBLISH: Final = commands.Basic.Publish.index
_ACK_ALL: Final = commands.Basic.Ack.index
_GREETING_BYTES: Final = len(b"AMQP\x00\x00\x09\x01")

_ANSWERS: Final[dict[str, Callable[[Any], base.Frame | None]]] = {
    "Connection.StartOk": lambda _: commands.Connection.Tune(channel_max=2047, frame_max=131_072, heartbeat=60),
    "Connection.TuneOk": lambda _: None,
    "Connection.Open": lambda _: commands.Connection.OpenOk(),
    "Connection.Close": lambda _: commands.Connection.CloseOk(),
    "Channel.Open": lambda _: commands.Channel.OpenOk(),
    "Channel.Close": lambda _: commands.Channel.CloseOk(),
    "Confirm.Select": lambda _: commands.Confirm.SelectOk(),
    "Exchange.Declare": lambda _: commands.Exchange.DeclareOk(),
    "Queue.Declare": lambda asked: commands.Queue.DeclareOk(asked.queue, 0, 0),
}


class Broker(asyncio.Protocol):
    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._greeted = False
        self._last = self._confirmed = 0
        self._channel = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        start = 0
        if not self._greeted:
            self._greeted, start = True, _GREETING_BYTES
            self._say(commands.Connection.Start(mechanisms="PLAIN AMQPLAIN", server_properties={}), 0)
        self._rest = data[self._take_all(data, start) :]
        if self._last > self._confirmed and self._transport is not None:
            self._confirmed = self._last
            self._transport.write(_ACK.pack(FRAME_METHOD, self._channel, 13, _ACK_ALL, self._last, 1, FRAME_END))

    def _take_all(self, data: bytes, start: int) -> int:
        """Returns where the first message or frame begins that is not all there. It is to cost next to nothing."""
        frame_head, body_bytes, end = _HEAD.unpack_from, _BODY_BYTES.unpack_from, len(data)
        while end - start >= _LEAST_BYTES:
            kind, channel, size, method = frame_head(data, start)
            after = start + size + _AROUND
            if kind == FRAME_METHOD and method == _PUBLISH:
                if end - after < _HEADER_BYTES:
                    break
                size, body = body_bytes(data, after)
                after += size + _AROUND + (body and body + _AROUND)  # what is small is one frame
                if after > end:
                    break
                self._last, self._channel = self._last + 1, channel
            elif after > end:
                break
            elif kind == FRAME_METHOD:
                self._answer(channel, data[start:after])
            start = after
        return start

    def _answer(self, channel: int, asked: bytes) -> None:
        method = cast("base.Frame", frame.unmarshal(asked)[2])
        answer = _ANSWERS[method.name](method)
        if answer is not None:  # one without fields counts as empty
            self._say(answer, channel)

    def _say(self, method: base.Frame, channel: int) -> None:
        if self._transport is not None:
            self._transport.write(frame.marshal(method, channel))


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(Broker, "127.0.0.1", int(os.environ["PORT"]))
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())
