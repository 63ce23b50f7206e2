"""The load generator: a process of its own that sends signed webhooks and times the answers.

In: orders, a JSON line each. Out: for each a line of what was answered, how fast, and how busy the generator was.
Closed loop: every connection sends again as soon as it is answered. Open loop (`rate`): webhooks come when they come,
and waiting for a free connection counts.
"""

import asyncio
import json
import sys
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Final, cast

import uvloop

from bench.watch import Watch
from bench.webhooks import Sender, user_id

_TICK_S: Final = 0.001
_CONNECT_TIMEOUT_S: Final = 10.0
_LAST_ANSWERS_S: Final = 10.0
_ASSUMED_RATE: Final = 20_000
_MOST_AHEAD: Final = 60_000
_RECONNECT_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Order:
    """One run. `watch_url` is the database in which users become visible; every `watch_every`th is looked for."""

    port: int
    connections: int
    seconds: float
    tag: str
    warm_up_s: float = 0.5
    rate: float | None = None
    watch_url: str | None = None
    watch_every: int = 1


@dataclass(slots=True)
class Answers:
    """What came back in the measured time. Latencies in milliseconds, of accepted webhooks."""

    accepted: int = 0
    accepted_in_all: int = 0  # with those of the time to warm up
    others: dict[str, int] = field(default_factory=dict)
    per_s: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    generator_cpu: float = 0.0
    visible_ms: list[float] = field(default_factory=list)
    never_visible: int = 0


class Run:
    """One order being carried out."""

    def __init__(self, order: Order) -> None:
        self.order = order
        sender = Sender(order.tag, f"127.0.0.1:{order.port}")
        self._sign = sender.request
        # Signed before the clock starts, as far as can be foreseen; what is sent beyond that is signed on the way.
        ahead = min(_MOST_AHEAD, int((order.rate or _ASSUMED_RATE) * (order.seconds + order.warm_up_s)))
        self._ready = deque(sender.request(number) for number in range(ahead))
        self._sent = 0
        self._latencies_s: list[float] = []
        self._accepted_in_all = 0
        self._others: Counter[str] = Counter()
        self._idle: list[Connection] = []
        self._waiting: deque[float] = deque()
        self._begin = self._end = 0.0
        self.watch: Watch | None = None

    async def go(self) -> Answers:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            opened = [
                await loop.create_connection(lambda: Connection(self), "127.0.0.1", self.order.port)
                for _ in range(self.order.connections)
            ]
        cpu_before, started = time.process_time(), time.perf_counter()
        self._begin = started + self.order.warm_up_s
        self._end = self._begin + self.order.seconds
        connections = [connection for _, connection in opened]
        await (self._closed_loop(connections) if self.order.rate is None else self._open_loop(connections))
        busy = (time.process_time() - cpu_before) / (time.perf_counter() - started)
        await self._last_answers(connections)
        for connection in connections:
            connection.close()
        return self._answers(busy)

    def next_request(self) -> bytes:
        self._sent += 1
        return self._ready.popleft() if self._ready else self._sign(self._sent - 1)

    def answered(self, connection: "Connection", status: bytes, began: float) -> None:
        now = time.perf_counter()
        accepted = status.startswith(b"2")
        self._accepted_in_all += accepted
        if self._begin <= now < self._end:
            if accepted:
                self._latencies_s.append(now - began)
            else:
                self._others[status.decode()] += 1
        self.free(connection)

    def lost(self) -> None:
        self._others["connection lost"] += 1

    def free(self, connection: "Connection") -> None:
        """What a connection does next."""
        if self.order.rate is None:
            if time.perf_counter() < self._end:
                connection.send(time.perf_counter())
        elif self._waiting:
            connection.send(self._waiting.popleft())
        else:
            self._idle.append(connection)

    async def _closed_loop(self, connections: "list[Connection]") -> None:
        for connection in connections:
            connection.send(time.perf_counter())
        await asyncio.sleep(self._end - time.perf_counter())

    async def _open_loop(self, connections: "list[Connection]") -> None:
        assert self.order.rate is not None
        self._idle.extend(connections)
        start, due = time.perf_counter(), 0
        while (now := time.perf_counter()) < self._end:
            for number in range(due, int((now - start) * self.order.rate)):
                self._arrive(number, now)
                due = number + 1
            await asyncio.sleep(_TICK_S)

    def _arrive(self, number: int, now: float) -> None:
        if self.watch is not None and now >= self._begin and number % self.order.watch_every == 0:
            # Numbers are handed out in the order in which webhooks arrive, sent at once or not.
            self.watch.expect(user_id(self.order.tag, self._sent + len(self._waiting)), now)
        if self._idle:
            self._idle.pop().send(now)
        else:
            self._waiting.append(now)

    async def _last_answers(self, connections: "list[Connection]") -> None:
        """Wait for what is under way, so that a slow answer is not taken for none by whoever comes next."""
        until = time.perf_counter() + _LAST_ANSWERS_S
        while any(connection.busy for connection in connections) and time.perf_counter() < until:
            await asyncio.sleep(0.01)

    def _answers(self, busy: float) -> Answers:
        ordered = sorted(self._latencies_s)
        return Answers(
            accepted=len(ordered),
            accepted_in_all=self._accepted_in_all,
            others=dict(self._others),
            per_s=len(ordered) / self.order.seconds,
            p50_ms=_quantile_ms(ordered, 0.5),
            p99_ms=_quantile_ms(ordered, 0.99),
            generator_cpu=busy,
        )


class Connection(asyncio.Protocol):
    """One keep-alive connection: one request under way at a time; opened again when the other side closes it."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._transport: asyncio.Transport | None = None
        self._began = 0.0
        self._received = b""
        self._closing = False
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, began: float) -> None:
        """Send the next webhook; its latency counts from `began`."""
        if self._transport is None:
            return
        self.busy, self._began = True, began
        self._transport.write(self._run.next_request())

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        head = received.find(b"\r\n\r\n")
        if head < 0 or len(received) < head + 4 + _content_length(received[:head]):
            self._received = received
            return
        self._received = b""
        self.busy = False
        self._run.answered(self, received[9:12], self._began)

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport, self._received = None, b""
        if self._closing:
            return
        if self.busy:
            self.busy = False
            self._run.lost()
        self._reopening = asyncio.get_running_loop().create_task(self._reopen())

    async def _reopen(self) -> None:
        await asyncio.sleep(_RECONNECT_S)
        try:
            await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self._run.order.port)
        except OSError:
            self._run.lost()
            return
        self._run.free(self)

    def close(self) -> None:
        self._closing = True
        if self._transport is not None:
            self._transport.abort()


@lru_cache(maxsize=64)
def _content_length(head: bytes) -> int:
    """Of an answer's head; every program here sends one, or nothing at all after the head. Most heads are alike."""
    _, found, rest = head.lower().partition(b"content-length:")
    return int(rest.split(b"\r\n", 1)[0]) if found else 0


def _quantile_ms(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else 0.0


async def _carry_out(order: Order) -> Answers:
    run = Run(order)
    if order.watch_url is None:
        return await run.go()
    async with Watch.of(order.watch_url) as run.watch:
        answers = await run.go()
        answers.visible_ms, answers.never_visible = await run.watch.finished()
    return answers


def main() -> None:
    """Carry out orders from standard input until it ends."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin:
            answers = runner.run(_carry_out(Order(**json.loads(line))))
            print(json.dumps(asdict(answers)), flush=True)


if __name__ == "__main__":
    main()
