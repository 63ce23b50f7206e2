"""The answer that all stored webhooks share, at its edges; how it looks on the wire is in test_receive.py."""

import asyncio
import socket
from email.utils import parsedate_to_datetime

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_writer import StreamWriter
from aiohttp.test_utils import make_mocked_request

from ingress.answer import PUBLISHED, respond


async def test_a_sender_that_does_not_read_is_not_answered_on_until_it_does() -> None:
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    transport, protocol = await loop.create_connection(lambda: BaseProtocol(loop), sock=near)
    request = make_mocked_request("POST", "/webhooks/clerk", writer=StreamWriter(protocol, loop))

    # As the transport does when too much waits to be read at the other end.
    protocol.pause_writing()
    answering = asyncio.create_task(respond(PUBLISHED, request).prepare(request))
    for _ in range(10):
        await asyncio.sleep(0)
    waiting = not answering.done()
    protocol.resume_writing()
    await answering
    transport.close()
    far.close()

    assert waiting


async def test_the_date_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    transport, protocol = await loop.create_connection(lambda: BaseProtocol(loop), sock=near)
    dates = []
    for now in (1_800_000_000.9, 1_800_000_001.0, 1_799_999_999.5):
        monkeypatch.setattr("time.time", lambda now=now: now)
        request = make_mocked_request("POST", "/webhooks/clerk", writer=StreamWriter(protocol, loop))
        await respond(PUBLISHED, request).prepare(request)
        answer = far.recv(4096).decode()
        date = next(line.removeprefix("Date: ") for line in answer.splitlines() if line.startswith("Date: "))
        dates.append(parsedate_to_datetime(date).timestamp())
    transport.close()
    far.close()

    assert dates == [1_800_000_000, 1_800_000_001, 1_799_999_999]
