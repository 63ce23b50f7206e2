"""One AMQP connection with one channel that heals by itself, and the confirmed publish that is all of Usher's writing.

Goes in: addresses and what to set up on each new channel. Comes out: an open channel, or `PublishError` in time.
Promise: `publish` returns only when the broker has confirmed, and never hangs.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final, NoReturn

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, DeliveryError
from aio_pika.exceptions import PublishError as ReturnedError
from yarl import URL

from shared.errors import PublishError, TopologyError
from shared.healing import (
    CANARY_KEY,
    CANARY_TIMEOUT_S,
    CLOSE_TIMEOUT_S,
    CONNECT_TIMEOUT_S,
    HEARTBEAT_S,
    STABLE_AFTER_S,
    LinkState,
    backoff_s,
)

log = structlog.get_logger()

# aio-pika leaks the standard library's errors beside its own (its own tuple says so), and TimeoutError is an OSError.
BROKER_ERRORS: Final = (*CONNECTION_EXCEPTIONS, TopologyError)

OnChannel = Callable[[AbstractConnection, AbstractChannel], Awaitable[None]]


class BrokerLink:
    """A healing connection. `run` keeps it open; `channel` and `publish` use it; `drop` begins it anew.

    `on_channel` is awaited on every new channel before anybody may use it, so what it sets up (consumers, checks)
    is there again after every healing. It must not declare queues: a queue declared during a partition can be lost.
    With `publishes`, a connection on which the broker takes no messages does not count as open.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        name: str,
        on_channel: OnChannel | None = None,
        publishes: bool = True,
        kind: type[aio_pika.Connection] = aio_pika.Connection,
    ) -> None:
        self._urls = [_with_defaults(address, name) for address in addresses]
        self._name = name
        self._on_channel = on_channel
        self._publishes = publishes
        self._kind = kind
        self._channel: AbstractChannel | None = None
        self._opened = asyncio.Event()
        self._lost = asyncio.Event()
        self._since = datetime.now(UTC)
        self._trouble: str | None = None
        self._confirms = 0
        self._ending = False
        self._under_way: dict[str, asyncio.Event] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def state(self) -> LinkState:
        return LinkState(open=self._opened.is_set(), since=self._since, trouble=self._trouble)

    async def run(self) -> NoReturn:
        """Connect, stay until the connection is lost, connect again; for ever, until cancelled."""
        attempt = 0
        # The next node each time: the one that was lost may accept connections and yet be dead.
        urls = itertools.cycle(self._urls)
        while True:
            connection: AbstractConnection | None = None
            opened_at = asyncio.get_running_loop().time()
            try:
                connection = await self._connect(next(urls))
                await self._lost.wait()
            except BROKER_ERRORS as error:
                self._note_trouble(error)
            except asyncio.CancelledError:
                if cancelled_by_somebody():
                    self._ending = True
                    raise
                self._note_trouble(ConnectionError("the connection went silent"))
            finally:
                self._closed()
                if connection is not None:
                    self._close_aside(connection)
            lived_s = asyncio.get_running_loop().time() - opened_at
            attempt = 0 if lived_s > STABLE_AFTER_S and connection is not None else attempt + 1
            await asyncio.sleep(backoff_s(attempt))

    async def channel(self, timeout_s: float) -> AbstractChannel:
        """The open channel, waiting for it up to `timeout_s`.

        Raises:
            PublishError: there is none in time.
        """
        if self._channel is None:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._opened.wait()
            except TimeoutError as error:
                raise PublishError(f"no connection to the broker: {self._trouble or 'connecting'}") from error
        if self._channel is None:
            raise PublishError("the connection to the broker was lost again")
        return self._channel

    async def publish(
        self,
        message: aio_pika.Message,
        exchange: str,
        routing_key: str,
        *,
        timeout_s: float,
        connect_timeout_s: float | None = None,
    ) -> None:
        """Publish mandatory and wait for the confirm; `connect_timeout_s` bounds the wait for a connection.

        Raises:
            PublishError: not confirmed in time, refused (nack), returned (no route), or the connection was lost.
                Whether the broker has the message is unknown then.
        """
        channel: AbstractChannel | None = None
        confirms_before = self._confirms
        try:
            async with asyncio.timeout(timeout_s), self._alone(message.message_id):
                channel = await self.channel(timeout_s if connect_timeout_s is None else connect_timeout_s)
                target = channel.default_exchange
                if exchange:
                    target = await channel.get_exchange(exchange, ensure=False)
                await target.publish(message, routing_key, mandatory=True)
        except TimeoutError as error:
            # Only the channel that was silent is given up: by now a healthy one may stand in its place.
            if channel is not None and channel is self._channel and self._confirms == confirms_before:
                self.drop("no confirm within the deadline")
            raise PublishError(f"not confirmed within {timeout_s:g} s") from error
        except ReturnedError as error:
            raise PublishError(f"returned: no queue takes {routing_key!r} from exchange {exchange!r}") from error
        except DeliveryError as error:
            raise PublishError("refused by the broker: a queue is full or unavailable") from error
        except CONNECTION_EXCEPTIONS as error:
            raise PublishError(f"the connection to the broker was lost: {type(error).__name__}") from error
        except asyncio.CancelledError as error:
            # A silent connection ends pending publishes with a cancellation that nobody asked for (aio-pika 10.2).
            if cancelled_by_somebody():
                raise
            raise PublishError("the connection to the broker went silent") from error
        self._confirms += 1

    @asynccontextmanager
    async def _alone(self, message_id: str | None) -> AsyncIterator[None]:
        """Let no two publishes with one message id be under way at once.

        aiormq 7.2 files a returned message under its message id alone: the broker's return of one of two equals is
        booked to the other, and the first counts as stored though no queue has it.
        """
        while message_id is not None and (other := self._under_way.get(message_id)) is not None:
            await other.wait()
        if message_id is None:
            yield
            return
        self._under_way[message_id] = done = asyncio.Event()
        try:
            yield
        finally:
            del self._under_way[message_id]
            done.set()

    def drop(self, reason: str) -> None:
        """Give the connection up and begin anew: it looks open but does not work."""
        if self._opened.is_set():
            log.warning("broker_link_dropped", link=self._name, reason=reason)
            self._trouble = reason
            self._closed()
            self._lost.set()

    async def close(self) -> None:
        """Wait for connections that are on their way out; `run` has been cancelled before."""
        if self._closing:
            await asyncio.wait(self._closing, timeout=CLOSE_TIMEOUT_S)

    async def _connect(self, url: URL) -> AbstractConnection:
        # One event per connection: an old one that closes late must not be taken for the new one.
        self._lost = lost = asyncio.Event()
        # Not aio_pika.connect: it leaves a connection that failed unclosed for the garbage collector to complain about.
        connection = self._kind(url)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await connection.connect()
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                # on_return_raises: without it an unroutable message looks like a delivered one.
                channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
                connection.close_callbacks.add(self._on_closed(lost))
                channel.close_callbacks.add(self._on_closed(lost))
                if self._publishes:
                    await _send_canaries(channel)
                if self._on_channel is not None:
                    await self._on_channel(connection, channel)
        except BaseException:
            self._close_aside(connection)
            raise
        self._channel, self._since, self._trouble = channel, datetime.now(UTC), None
        self._opened.set()
        log.info("broker_link_open", link=self._name, host=url.host, port=url.port)
        return connection

    def _on_closed(self, lost: asyncio.Event) -> Callable[[object, BaseException | None], None]:
        def closed(_sender: object, error: BaseException | None = None) -> None:
            lost.set()
            if self._lost is lost:
                if error is not None and self._trouble is None:
                    self._trouble = f"{type(error).__name__}: {error}"
                self._closed()

        return closed

    def _closed(self) -> None:
        if self._opened.is_set():
            self._opened.clear()
            self._channel, self._since = None, datetime.now(UTC)
            if not self._ending:
                log.warning("broker_link_lost", link=self._name, reason=self._trouble)

    def _note_trouble(self, error: BaseException) -> None:
        trouble = f"{type(error).__name__}: {error}".removesuffix(": ")
        if trouble != self._trouble:
            log.warning("broker_unreachable", link=self._name, error=trouble)
        self._trouble = trouble

    def _close_aside(self, connection: AbstractConnection) -> None:
        # Closing waits for the broker's answer, which a dead or blocked one never gives: it must not hold up healing.
        task = asyncio.get_running_loop().create_task(_close(connection))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _send_canaries(channel: AbstractChannel) -> None:
    """See that the broker takes messages: those that no queue wants are confirmed at once, and dropped.

    Under a memory or disk alarm the broker accepts connections, takes one message from each, and reads no more of it:
    hence two.

    Raises:
        ConnectionError: it did not confirm.
    """
    canary = aio_pika.Message(b"", delivery_mode=aio_pika.DeliveryMode.NOT_PERSISTENT)
    try:
        async with asyncio.timeout(CANARY_TIMEOUT_S):
            for _ in range(2):
                await channel.default_exchange.publish(canary, CANARY_KEY, mandatory=False)
    except TimeoutError as error:
        raise ConnectionError("the broker takes no messages: a memory or disk alarm?") from error


async def _close(connection: AbstractConnection) -> None:
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await connection.close()
    except (*BROKER_ERRORS, asyncio.CancelledError) as error:
        log.debug("broker_link_close_failed", error=type(error).__name__)


def _with_defaults(address: str, name: str) -> URL:
    url = URL(address)
    return url.update_query({"heartbeat": str(HEARTBEAT_S), "name": name} | dict(url.query))


def cancelled_by_somebody() -> bool:
    """Whether a `CancelledError` was asked for; if not, it is aio-pika's word for a connection that closed."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
