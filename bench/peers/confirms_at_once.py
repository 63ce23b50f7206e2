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
from pamqp.constants import FRAME_BODY, FRAME_HEADER, FRAME_METHOD

_HEAD: Final = struct.Struct(">BHI")
_METHOD: Final = struct.Struct(">I")
_BODY_SIZE: Final = struct.Struct(">4xQ")
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
        self._missing = 0
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
        while len(data) - start >= _HEAD.size:
            kind, channel, size = _HEAD.unpack_from(data, start)
            after = start + _HEAD.size + size + 1
            if after > len(data):
                break
            self._take(kind, channel, data, start, after)
            start = after
        self._rest = data[start:]
        if self._last > self._confirmed:
            self._confirmed = self._last
            self._say(commands.Basic.Ack(self._last, multiple=True), self._channel)

    def _take(self, kind: int, channel: int, data: bytes, start: int, after: int) -> None:
        if kind == FRAME_METHOD:
            if _METHOD.unpack_from(data, start + _HEAD.size)[0] != commands.Basic.Publish.index:
                self._answer(channel, data[start:after])
        elif kind == FRAME_HEADER:
            self._missing = _BODY_SIZE.unpack_from(data, start + _HEAD.size)[0]
            self._whole(channel)
        elif kind == FRAME_BODY:
            self._missing -= after - start - _HEAD.size - 1
            self._whole(channel)

    def _whole(self, channel: int) -> None:
        if not self._missing:
            self._last, self._channel = self._last + 1, channel

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
