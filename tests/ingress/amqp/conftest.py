"""Connections of the publisher's own, to a real broker or to one that is made up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ingress.amqp.address import Address
from ingress.amqp.connection import Connection
from ingress.amqp.handshake import connect
from ingress.amqp.message import Envelope, Message


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Connection]:
    connection = await connect(Address.of(address, heartbeat_s=10, name="tests"), lambda: None)
    try:
        yield connection
    finally:
        connection.hang_up("the test is over")
        await connection.gone


def publish(
    connection: Connection, queue: str, *, message_id: str = "msg_1", body: bytes = b"{}", timeout_s: float = 40
) -> asyncio.Future[str | None]:
    deadline = asyncio.get_running_loop().time() + timeout_s
    return connection.publish(Message(Envelope("", queue), message_id, 0, body), deadline)
