"""The topology on a broker: declared by `usher topology`, looked at by every process when it connects.

Goes in: a connection and the wanted topology. Comes out: nothing, or `TopologyError` with the name of what is missing
or differs. Promise: `check` creates nothing.
"""

from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import ChannelClosed, ChannelNotFoundEntity, ChannelPreconditionFailed
from aiormq.exceptions import ChannelAccessRefused

from shared import refusals
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
    except refusals.MayNotConfigureError:
        return


async def _expect_exchange(channel: AbstractChannel, exchange: Exchange) -> None:
    try:
        await channel.declare_exchange(exchange.name, passive=True)
    except ChannelClosed as error:
        raise refusals.not_seen(_code(error), _text(error), f"exchange {exchange.name}") from error


async def _expect_queue(channel: AbstractChannel, queue: Queue) -> None:
    try:
        await channel.declare_queue(queue.name, passive=True)
    except ChannelClosed as error:
        raise refusals.not_seen(_code(error), _text(error), f"queue {queue.name}") from error


async def _declare_exchange(channel: AbstractChannel, exchange: Exchange) -> None:
    try:
        await channel.declare_exchange(exchange.name, exchange.kind, durable=True, arguments=dict(exchange.arguments))
    except ChannelClosed as error:
        raise refusals.not_declared(_code(error), _text(error), f"exchange {exchange.name}") from error


async def _declare_queue(channel: AbstractChannel, queue: Queue) -> None:
    try:
        await channel.declare_queue(queue.name, durable=True, arguments=dict(queue.arguments))
    except ChannelClosed as error:
        raise refusals.not_declared(_code(error), _text(error), f"queue {queue.name}") from error


def _code(error: ChannelClosed) -> int:
    match error:
        case ChannelNotFoundEntity():
            return refusals.NOT_FOUND
        case ChannelAccessRefused():
            return refusals.ACCESS_REFUSED
        case ChannelPreconditionFailed():
            return refusals.PRECONDITION_FAILED
        case _:
            return 0


def _text(error: ChannelClosed) -> str:
    return " ".join(str(part) for part in error.args)
