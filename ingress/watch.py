"""The topology as this process finds it on each new connection: `trouble` says what is wrong with it.

Promise: nothing is created. Arguments are compared at the first connection only: comparing means declaring, and a
queue declared while a cluster is parted can be lost.
"""

import asyncio
from collections.abc import Iterator
from typing import Final

import structlog
from pamqp import commands

from ingress.amqp.connection import Connection, RefusedError
from shared.errors import TopologyError
from shared.refusals import MayNotConfigureError, not_declared, not_seen
from shared.topology import Topology, topology

log = structlog.get_logger()

CHANNEL: Final = 2

_Declare = commands.Exchange.Declare | commands.Queue.Declare


class TopologyWatch:
    """`look` is awaited on every new connection. `differs` ends with the error that no waiting cures."""

    def __init__(self) -> None:
        self._compared = False
        self.trouble: str | None = None
        self.differs: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def look(self, connection: Connection) -> None:
        """See that all is there and, the first time, that it is as it should be.

        The broker compares arguments only for a user with configure rights; for others presence is all that is checked.

        Raises:
            TopologyError: something is missing or differs; the text names it.
        """
        try:
            await _expect(connection, topology())
        except TopologyError as error:
            # Something missing can still be declared: not ready until then.
            self._note(error)
            raise
        if not self._compared:
            await self._compare(connection)
        self._compared, self.trouble = True, None

    async def _compare(self, connection: Connection) -> None:
        try:
            await _compare(connection, topology())
        except MayNotConfigureError:
            return
        except TopologyError as error:
            self._note(error)
            if not self.differs.done():
                self.differs.set_exception(error)
            raise

    def _note(self, error: TopologyError) -> None:
        if str(error) != self.trouble:
            log.error("topology_trouble", error=str(error))
        self.trouble = str(error)


async def _expect(connection: Connection, wanted: Topology) -> None:
    await connection.ask(commands.Channel.Open(), commands.Channel.OpenOk, CHANNEL)
    for thing, declare in _declarations(wanted):
        declare.passive = True
        try:
            await _declare(connection, declare)
        except RefusedError as error:
            raise not_seen(error.code, error.text, thing) from error


async def _compare(connection: Connection, wanted: Topology) -> None:
    for thing, declare in _declarations(wanted):
        try:
            await _declare(connection, declare)
        except RefusedError as error:
            raise not_declared(error.code, error.text, thing) from error


async def _declare(connection: Connection, declare: _Declare) -> None:
    match declare:
        case commands.Exchange.Declare():
            await connection.ask(declare, commands.Exchange.DeclareOk, CHANNEL)
        case commands.Queue.Declare():
            await connection.ask(declare, commands.Queue.DeclareOk, CHANNEL)


def _declarations(wanted: Topology) -> Iterator[tuple[str, _Declare]]:
    for exchange in wanted.exchanges:
        yield (
            f"exchange {exchange.name}",
            commands.Exchange.Declare(
                exchange=exchange.name, exchange_type=exchange.kind, durable=True, arguments=dict(exchange.arguments)
            ),
        )
    for queue in wanted.queues:
        yield (
            f"queue {queue.name}",
            commands.Queue.Declare(queue=queue.name, durable=True, arguments=dict(queue.arguments)),
        )
