"""The link heals whatever ends a connection, and whenever."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pamqp import commands

from ingress.amqp.link import CANARIES, PublisherLink
from tests.ingress.amqp.scripted_broker import ScriptedBroker, scripted
from tests.support.eventually import eventually

BLOCKED = commands.Connection.Blocked("low on memory")


@asynccontextmanager
async def linked(broker: ScriptedBroker) -> AsyncIterator[PublisherLink]:
    link = PublisherLink([f"amqp://127.0.0.1:{broker.port}/"], name="tests")
    running = asyncio.create_task(link.run())
    try:
        yield link
    finally:
        running.cancel()
        await asyncio.wait({running})
        await link.close()


async def test_a_broker_that_goes_down_during_an_alarm_is_connected_to_again() -> None:
    async with scripted() as broker, linked(broker) as link:
        await eventually(lambda: broker.published == CANARIES)
        broker.send(BLOCKED, channel=0)
        await eventually(lambda: "low on memory" in (link.state.trouble or ""))
        broker.hang_up()

        await eventually(lambda: broker.published == 2 * CANARIES, what="canaries on a new connection")
        # They are counted over both connections; their tags are not.
        broker.send(commands.Basic.Ack(CANARIES, multiple=True))
        await eventually(lambda: link.state.open)


async def test_an_alarm_that_is_told_after_the_end_holds_up_nobody() -> None:
    async with scripted() as broker, linked(broker) as link:
        await eventually(lambda: broker.published == CANARIES)
        broker.send(commands.Basic.Ack(CANARIES, multiple=True))
        await eventually(lambda: link.state.open)
        connection = link._connection
        assert connection is not None
        connection.hang_up("the test says so")
        connection._take(0, BLOCKED)
        await asyncio.wait_for(connection.unblocked(), 40)
        assert connection.blocked is None
