"""Redriving over a connection that breaks."""

import aio_pika
import pytest
from yarl import URL

from cli import connections
from cli.dead_letters import Filter
from cli.redrive import Redrive
from shared.messages import event_message
from tests.support.broker import depth, drain
from tests.support.events import user_event
from tests.support.tcp_proxy import TcpProxy

SYNC, SYNC_DEAD = "usher.sync_user", "usher.sync_user.dead"


async def test_a_lost_connection_is_one_error_and_loses_no_letter(amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        for number in range(200):
            message = event_message(user_event(event_id=f"msg_{number}"))
            await channel.default_exchange.publish(message, SYNC_DEAD)
    url = URL(amqp_url)
    async with TcpProxy("127.0.0.1", url.port or 0) as proxy:
        done = 0

        def each() -> None:
            nonlocal done
            done += 1
            if done == 50:
                proxy.reset()

        with pytest.raises(connections.UnreachableError):
            async with connections.broker([str(url.with_port(proxy.port))]) as proxied:
                await Redrive(Filter(), rate=500, on_each=each).run(proxied, SYNC_DEAD)

    back, dead = await drain(amqp_url, SYNC), await drain(amqp_url, SYNC_DEAD)
    ids = {str(one.properties["message_id"]) for one in (*back, *dead)}
    assert 50 <= len(back) < 200
    assert ids == {f"msg_{number}" for number in range(200)}
    assert await depth(amqp_url, SYNC_DEAD) == 0
