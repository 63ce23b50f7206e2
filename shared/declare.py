"""The topology on a broker: declared by `usher topology`, looked at by every process when it connects.

Goes in: a connection and the wanted topology. Comes out: nothing, or `TopologyError` with the name of what is missing
or differs. Promise: `check` creates nothing.
"""

from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import ChannelClosed, ChannelNotFoundEntity, ChannelPreconditionFailed
from aiormq.exceptions import ChannelAccessRefused

from shared.errors import TopologyError
from shared.topology import Exchange, Queue, Topology


async def declare(connection: AbstractConnection, wanted: Topology) -> None:
    """Declare all of `wanted`; what is there already with the same arguments stays as it is.

    Raises:
        TopologyError: something is there with other arguments, or the user may not configure it.
    """
    channel = await connection.channel()
    for exchange in wanted.exchanges:
        await _declare_exchange(channel, exchange)
    for queue in wanted.queues:
        await _declare_queue(channel, queue)
        declared = await channel.get_queue(queue.name, ensure=False)
        for exchange_name, routing_key in queue.bindings:
            await declared.bind(exchange_name, routing_key)
    await channel.close()


async def check(connection: AbstractConnection, wanted: Topology, *, compare: bool = True) -> None:
    """See that all of `wanted` is there and, with `compare`, has its arguments. Creates nothing.

    The broker compares arguments only for a user with configure rights; for others presence is all that is checked.

    Raises:
        TopologyError: something is missing or differs; the text names it and the argument.
    """
    channel = await connection.channel()
    for exchange in wanted.exchanges:
        await _expect_exchange(channel, exchange)
    for queue in wanted.queues:
        await _expect_queue(channel, queue)
    if compare:
        await _compare(channel, wanted)
    if not channel.is_closed:
        await channel.close()


async def _compare(channel: AbstractChannel, wanted: Topology) -> None:
    try:
        for exchange in wanted.exchanges:
            await _declare_exchange(channel, exchange)
        for queue in wanted.queues:
            await _declare_queue(channel, queue)
    except _MayNotConfigureError:
        return


class _MayNotConfigureError(TopologyError):
    """The user has no configure rights."""


async def _expect_exchange(channel: AbstractChannel, exchange: Exchange) -> None:
    try:
        await channel.declare_exchange(exchange.name, passive=True)
    except ChannelClosed as error:
        raise _not_seen(error, "exchange", exchange.name) from error


async def _expect_queue(channel: AbstractChannel, queue: Queue) -> None:
    try:
        await channel.declare_queue(queue.name, passive=True)
    except ChannelClosed as error:
        raise _not_seen(error, "queue", queue.name) from error


async def _declare_exchange(channel: AbstractChannel, exchange: Exchange) -> None:
    try:
        await channel.declare_exchange(exchange.name, exchange.kind, durable=True, arguments=dict(exchange.arguments))
    except ChannelClosed as error:
        raise _explained(error, "exchange", exchange.name) from error


async def _declare_queue(channel: AbstractChannel, queue: Queue) -> None:
    try:
        await channel.declare_queue(queue.name, durable=True, arguments=dict(queue.arguments))
    except ChannelClosed as error:
        raise _explained(error, "queue", queue.name) from error


def _not_seen(error: ChannelClosed, noun: str, name: str) -> TopologyError:
    if isinstance(error, ChannelNotFoundEntity):
        return TopologyError(f"{noun} {name} is missing on the broker: run `usher topology`")
    if isinstance(error, ChannelAccessRefused):
        # From 4.2.6 on the broker wants some right on what is merely looked at (configure, in 4.2.6 and 4.3.0).
        return TopologyError(f"no right to see {noun} {name}: give this user read or write rights on it")
    return TopologyError(f"{noun} {name}: {_broker_text(error)}")


def _explained(error: ChannelClosed, noun: str, name: str) -> TopologyError:
    if isinstance(error, ChannelAccessRefused):
        return _MayNotConfigureError(f"no right to configure {noun} {name}: use a user with configure rights")
    if isinstance(error, ChannelPreconditionFailed):
        # The broker's text names the argument: "inequivalent arg 'x-…' for queue '…' …: received … but current is …".
        return TopologyError(
            f"{noun} {name} exists with other arguments ({_broker_text(error)}). Arguments of a queue cannot be "
            f"changed: let it run empty, delete it, and run `usher topology` again",
        )
    return TopologyError(f"{noun} {name}: {_broker_text(error)}")


def _broker_text(error: ChannelClosed) -> str:
    return " ".join(str(part) for part in error.args)
