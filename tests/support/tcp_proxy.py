"""A TCP proxy on loopback that breaks connections on purpose: reset, black hole, refuse, cut after N bytes, delay."""

import asyncio
import contextlib
import socket
import struct
from types import TracebackType
from typing import Self

_LINGER_ZERO = struct.pack("ii", 1, 0)


class TcpProxy:
    """`async with TcpProxy(host, port) as proxy:` forwards proxy.port → host:port until told otherwise."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._refusing = False
        self._bytes_left: int | None = None
        self.delay_s = 0.0
        self.connections = 0
        self.port = 0

    @property
    def target(self) -> tuple[str, int]:
        return self._target

    def retarget(self, port: int) -> None:
        """Send new connections to another port: a fail-over."""
        self._target = (self._target[0], port)

    def black_hole(self) -> None:
        """Swallow everything in both directions; connections stay open and silent."""
        self._flowing.clear()

    def flow(self) -> None:
        """Forward again, and accept again."""
        self._flowing.set()
        self._refusing = False
        self._bytes_left = None

    def refuse(self) -> None:
        """Reset what is open and every new connection."""
        self._refusing = True
        self.reset()

    def cut_after(self, count: int) -> None:
        """Reset all connections once `count` more bytes have passed towards the target."""
        self._bytes_left = count

    def reset(self) -> None:
        """Reset (RST) all open connections; new ones are forwarded."""
        for pair in list(self._pairs):
            for writer in pair:
                _reset(writer)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._refusing:
            _reset(writer)
            return
        self.connections += 1
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            _reset(writer)
            return
        pair = (writer, far_writer)
        self._pairs.add(pair)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, far_writer, counted=True))
                both.create_task(self._pump(far_reader, writer, counted=False))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            self._pairs.discard(pair)
            for end in pair:
                end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool) -> None:
        while data := await reader.read(65536):
            if not self._flowing.is_set():
                # A real black hole loses what was in it: nothing of it arrives later.
                await self._flowing.wait()
                raise ConnectionResetError
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if counted and self._bytes_left is not None:
                data, cut = data[: self._bytes_left], len(data) >= self._bytes_left
                self._bytes_left -= len(data)
                writer.write(data)
                if cut:
                    await writer.drain()
                    self._bytes_left = None
                    self.reset()
                    return
                continue
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    writer.transport.abort()
