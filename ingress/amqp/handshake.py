"""From an address to a connection that can be published on: TCP, TLS, login, terms, and a channel in confirm mode."""

import asyncio
from collections.abc import Callable
from typing import Any

from pamqp import commands

from ingress.amqp.address import Address
from ingress.amqp.connection import Connection
from ingress.amqp.message import PUBLISH_CHANNEL


async def connect(address: Address, on_change: Callable[[], None]) -> Connection:
    """Connect and log in. `on_change` is called whenever `usable` may have changed.

    Raises:
        OSError: there is no broker, or it refuses us.
    """
    loop = asyncio.get_running_loop()
    tls = await asyncio.to_thread(address.ssl_context) if address.tls is not None else None
    _, connection = await loop.create_connection(lambda: Connection(on_change), address.host, address.port, ssl=tls)
    try:
        await _shake_hands(connection, address)
    except BaseException:
        connection.abort("no handshake")
        raise
    return connection


async def _shake_hands(connection: Connection, address: Address) -> None:
    start = await connection.greeting
    if address.mechanism not in start.mechanisms.split():
        raise ConnectionError(f"the broker knows no login by {address.mechanism}, only by {start.mechanisms}")
    start_ok = commands.Connection.StartOk(_introduction(address.name), address.mechanism, address.login())
    tune = await connection.ask(start_ok, commands.Connection.Tune, 0)
    connection.agree(tune, address.heartbeat_s)
    await connection.ask(commands.Connection.Open(virtual_host=address.vhost), commands.Connection.OpenOk, 0)
    await connection.ask(commands.Channel.Open(), commands.Channel.OpenOk, PUBLISH_CHANNEL)
    await connection.ask(commands.Confirm.Select(), commands.Confirm.SelectOk, PUBLISH_CHANNEL)


def _introduction(name: str) -> dict[str, Any]:
    """What the broker's management UI shows, and what we understand beyond the standard."""
    capabilities = {
        "authentication_failure_close": True,
        "basic.nack": True,
        "connection.blocked": True,
        "publisher_confirms": True,
    }
    return {"product": "usher", "connection_name": name, "capabilities": capabilities}
