"""The healing link against a broker that takes connections and no messages."""

import asyncio
import contextlib

import aio_pika
import pytest

from local.rabbitmq import RabbitNode
from shared.broker import BrokerLink
from shared.errors import PublishError
from tests.support.eventually import eventually


async def test_a_link_is_not_open_while_an_alarm_keeps_the_broker_from_taking_messages(
    amqp_url: str, rabbit: RabbitNode
) -> None:
    publishing = BrokerLink([amqp_url], name="tests out")
    consuming = BrokerLink([amqp_url], name="tests in", publishes=False)
    rabbit.ctl("set_vm_memory_high_watermark", "0")
    try:
        tasks = [asyncio.create_task(link.run()) for link in (publishing, consuming)]
        await eventually(lambda: "alarm" in (publishing.state.trouble or ""))
        await eventually(lambda: consuming.state.open)
        assert not publishing.state.open
        with pytest.raises(PublishError, match="alarm"):
            await publishing.publish(aio_pika.Message(b""), "", "usher.unrouted", timeout_s=2, connect_timeout_s=0.1)
    finally:
        rabbit.ctl("set_vm_memory_high_watermark", "0.4")
    await eventually(lambda: publishing.state.open, what="open again by itself")
    await publishing.publish(aio_pika.Message(b""), "", "usher.unrouted", timeout_s=5)
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    for link in (publishing, consuming):
        await link.close()
