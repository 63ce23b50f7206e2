"""A connection that heals by itself, and the confirmed publish over it.

Goes in: addresses, and what to look at on each new connection. Comes out: nothing, or `PublishError` in time.
Promise: `publish` returns only when the broker has confirmed, and never hangs.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Final, NoReturn

import structlog

from ingress.amqp.address import Address
from ingress.amqp.connection import HANG_UP_TIMEOUT_S, Connection
from ingress.amqp.handshake import connect
from ingress.amqp.message import TRANSIENT, Envelope, Message
from shared.errors import PublishError, TopologyError
from shared.healing import (
    CANARY_KEY,
    CANARY_TIMEOUT_S,
    CONNECT_TIMEOUT_S,
    HEARTBEAT_S,
    STABLE_AFTER_S,
    LinkState,
    backoff_s,
)

log = structlog.get_logger()

# Two, for under an alarm the broker takes one message from each connection before it reads no more of it.
CANARIES: Final = 2
_CANARY: Final = Message(Envelope("", CANARY_KEY, delivery_mode=TRANSIENT, mandatory=False), "", 0, b"")

OnConnection = Callable[[Connection], Awaitable[None]]


class PublisherLink:
    """`run` keeps a connection open, `publish` uses it.

    `on_connection` is awaited on every new connection before anybody may use it. It must not declare queues: a queue
    declared during a partition can be lost. A connection on which the broker takes no messages does not count as open.
    """

    def __init__(self, addresses: Sequence[str], *, name: str, on_connection: OnConnection | None = None) -> None:
        self._addresses = [Address.of(address, heartbeat_s=HEARTBEAT_S, name=name) for address in addresses]
        self._name = name
        self._on_connection = on_connection
        self._connection: Connection | None = None
        self._usable = asyncio.Event()
        self._open = False
        self._since = datetime.now(UTC)
        self._trouble: str | None = None
        self._leaving: set[Connection] = set()

    @property
    def state(self) -> LinkState:
        return LinkState(open=self._open, since=self._since, trouble=self._trouble)

    @property
    def usable(self) -> bool:
        """Whether there is a connection on which the broker takes messages now."""
        return self._usable.is_set()

    async def run(self) -> NoReturn:
        """Connect, stay until the connection is lost, connect again; for ever, until cancelled."""
        loop = asyncio.get_running_loop()
        attempt = 0
        # The next node each time: the one that was lost may accept connections and yet be dead.
        for address in itertools.cycle(self._addresses):
            started = loop.time()
            was_open = False
            try:
                connection = await self._connect(address)
                was_open = True
                await asyncio.shield(connection.lost)
            except (OSError, TopologyError) as error:
                self._note_trouble(error)
            finally:
                self._leave()
            attempt = 0 if was_open and loop.time() - started > STABLE_AFTER_S else attempt + 1
            await asyncio.sleep(backoff_s(attempt))
        raise AssertionError("there is always a next address")

    async def publish(self, message: Message, *, timeout_s: float, connect_timeout_s: float) -> None:
        """Publish and wait for the confirm; `connect_timeout_s` bounds the wait for a connection.

        Raises:
            PublishError: not confirmed in time, refused (nack), returned (no route), or the connection was lost.
                Whether the broker has the message is unknown then.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        connection = self._connection if self._usable.is_set() else await self._usable_connection(connect_timeout_s)
        if connection is None:
            raise PublishError("the connection to the broker was lost again")
        trouble = await connection.publish(message, deadline)
        if trouble is not None:
            raise PublishError(trouble)

    async def close(self) -> None:
        """Wait for connections that are on their way out; `run` has been cancelled before."""
        if self._leaving:
            await asyncio.wait([connection.gone for connection in self._leaving], timeout=HANG_UP_TIMEOUT_S + 1)

    async def _usable_connection(self, timeout_s: float) -> Connection | None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._usable.wait()
        except TimeoutError as error:
            trouble = "it does not keep up" if self._open else self._trouble or "connecting"
            raise PublishError(f"no connection to the broker: {trouble}") from error
        return self._connection

    async def _connect(self, address: Address) -> Connection:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            connection = await connect(address, self._regard)
        self._leaving.add(connection)
        connection.gone.add_done_callback(lambda _gone: self._leaving.discard(connection))
        try:
            await self._send_canaries(connection)
            if self._on_connection is not None:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await self._on_connection(connection)
        except BaseException:
            connection.hang_up("not fit for use")
            raise
        log.info("broker_link_open", link=self._name, host=address.host, port=address.port)
        self._connection = connection
        self._regard()
        return connection

    async def _send_canaries(self, connection: Connection) -> None:
        """See that the broker takes messages: those that no queue wants are confirmed at once, and dropped.

        Raises:
            ConnectionError: it does not confirm them.
        """
        loop = asyncio.get_running_loop()
        while True:
            deadline = loop.time() + CANARY_TIMEOUT_S
            outcomes = await asyncio.gather(*(connection.publish(_CANARY, deadline) for _ in range(CANARIES)))
            if connection.blocked is None and not any(outcomes):
                return
            if connection.blocked is None:
                raise ConnectionError(f"the broker takes no messages: {outcomes[-1]}")
            # An alarm holds for every node of a cluster, and a blocked broker does not notice that one hangs up.
            self._note_trouble(ConnectionError(f"the broker takes no messages: {connection.blocked}"))
            await connection.unblocked()

    def _regard(self) -> None:
        """Something about a connection has changed."""
        connection = self._connection
        if connection is None:
            return
        if connection.usable:
            self._usable.set()
        else:
            self._usable.clear()
        trouble = _trouble_of(connection)
        is_open = trouble is None
        if is_open != self._open:
            self._open, self._since = is_open, datetime.now(UTC)
            if trouble is not None:
                log.warning("broker_link_lost", link=self._name, reason=trouble)
        self._trouble = trouble

    def _leave(self) -> None:
        connection, self._connection = self._connection, None
        self._usable.clear()
        if connection is not None:
            connection.hang_up("stopping")
        if self._open:
            self._open, self._since = False, datetime.now(UTC)

    def _note_trouble(self, error: BaseException) -> None:
        trouble = f"{type(error).__name__}: {error}".removesuffix(": ")
        if trouble != self._trouble:
            log.warning("broker_unreachable", link=self._name, error=trouble)
        self._trouble = trouble


def _trouble_of(connection: Connection) -> str | None:
    if connection.lost.done():
        return connection.lost.result()
    return None if connection.blocked is None else f"the broker takes no messages: {connection.blocked}"
