"""A broker that does what a test says, frame by frame: what a real one does only when it is broken."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self

from pamqp import base, commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from ingress.amqp.wire import FrameReader

PROTOCOL_HEADER_BYTES = 8


class ScriptedBroker:
    """Answers the handshake by itself, and counts publishes; the rest is up to the test, by `send`."""

    def __init__(self, *, greeting: bytes | None = None, frame_max: int = 131_072) -> None:
        self._greeting = greeting
        self._frame_max = frame_max
        self._server: asyncio.Server
        self._serving: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []
        self.port = 0
        self.published = 0
        self.refuses = False
        self.heartbeats = 0
        self.received: list[str] = []

    def send(self, *frames: frame.FrameTypes | bytes, channel: int = 1) -> None:
        """Send all of it at once on the newest connection."""
        self._writers[-1].write(
            b"".join(each if isinstance(each, bytes) else frame.marshal(each, channel) for each in frames)
        )

    def stop_reading(self) -> None:
        self._writers[-1].transport.pause_reading()  # type: ignore[attr-defined] # a transport of sockets

    def hang_up(self) -> None:
        self._writers[-1].close()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._serving)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.append(asyncio.get_running_loop().create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readexactly(PROTOCOL_HEADER_BYTES)
            if self._greeting is not None:
                writer.write(self._greeting)
            else:
                self.send(commands.Connection.Start(server_properties={}), channel=0)
            frames = FrameReader()
            while data := await reader.read(65536):
                for channel, received in frames.frames(data):
                    self._take(channel, received)

    def _take(self, channel: int, received: object) -> None:
        match received:
            case Heartbeat():
                self.heartbeats += 1
            case ContentHeader():
                self.published += 1
                if self.refuses:
                    self.send(commands.Basic.Nack(self.published, multiple=False))
            case ContentBody():
                pass
            case base.Frame():
                self.received.append(received.name)
                answer = self._answer(received)
                if answer is not None:
                    self.send(answer, channel=channel)

    def _answer(self, received: base.Frame) -> base.Frame | None:
        match received:
            case commands.Connection.StartOk():
                return commands.Connection.Tune(2047, self._frame_max, 60)
            case commands.Connection.Open():
                return commands.Connection.OpenOk()
            case commands.Channel.Open():
                return commands.Channel.OpenOk()
            case commands.Confirm.Select():
                return commands.Confirm.SelectOk()
            case commands.Connection.Close():
                return commands.Connection.CloseOk()
            case _:
                return None


@asynccontextmanager
async def scripted(*, greeting: bytes | None = None, frame_max: int = 131_072) -> AsyncIterator[ScriptedBroker]:
    async with ScriptedBroker(greeting=greeting, frame_max=frame_max) as broker:
        yield broker
