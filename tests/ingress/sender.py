"""The other side: sends signed webhooks to a running ingress and remembers what it was answered."""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.ingress.signing import Headers, svix_headers, user_body

ANSWER_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Answered:
    status: int
    headers: dict[str, str]
    body: str


@dataclass(slots=True)
class Sender:
    session: aiohttp.ClientSession
    port: int
    internal_port: int
    answers: dict[str, int] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    async def request(self, method: str, path: str, body: Any = None, headers: Headers | None = None) -> Answered:
        timeout = aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S)
        url = f"http://127.0.0.1:{self.port}{path}"
        async with self.session.request(method, url, data=body, headers=headers or [], timeout=timeout) as response:
            return Answered(response.status, dict(response.headers), await response.text())

    async def post(self, body: Any, headers: Headers | None = None) -> Answered:
        return await self.request("POST", "/webhooks/clerk", body, headers)

    async def send(self, kind: str = "user.created", *, message_id: str = "msg_1", **data: Any) -> Answered:
        """One signed webhook; `data` is added to the user."""
        body = user_body(kind, **data)
        return await self.post(body, svix_headers(body, message_id=message_id))

    async def send_numbered(self) -> Answered:
        """One signed webhook with an id of its own, its answer remembered (0: none)."""
        message_id = f"msg_{next(self._numbers)}"
        self.answers[message_id] = 0
        answered = await self.send(message_id=message_id)
        self.answers[message_id] = answered.status
        return answered

    async def send_many(self, count: int) -> list[Answered]:
        return await asyncio.gather(*(self.send_numbered() for _ in range(count)))

    def ids_answered(self, *statuses: int) -> set[str]:
        return {message_id for message_id, status in self.answers.items() if status in statuses}

    async def internal(self, path: str) -> Answered:
        async with self.session.get(f"http://127.0.0.1:{self.internal_port}{path}") as response:
            return Answered(response.status, dict(response.headers), await response.text())

    async def listening(self) -> bool:
        try:
            return bool((await self.request("GET", "/")).status)
        except aiohttp.ClientConnectorError:
            return False

    async def ready(self) -> bool:
        return (await self.internal("/readyz")).status == 200

    async def metric(self, line: str) -> float:
        """The value of the sample that begins with `line`; 0 when there is none yet."""
        lines = (await self.internal("/metrics")).body.splitlines()
        return next((float(text.rsplit(" ", 1)[1]) for text in lines if text.startswith(line)), 0.0)


async def raw_exchange(port: int, parts: Sequence[bytes], *, timeout_s: float = 20) -> bytes:
    """Bytes that no HTTP client would send; what came back until the server hung up or fell silent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        return await asyncio.wait_for(reader.read(65536), timeout_s)
    except ConnectionError:
        return b""
    finally:
        writer.close()
