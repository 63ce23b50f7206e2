"""deploy/rabbitmq/usher.conf on a real broker: every process can do what its flow needs, and no more.

The file's users come into being on RabbitMQ 4 only; its patterns are given here to users made by hand.
"""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelClosed
from aiormq.exceptions import ChannelAccessRefused

from local.rabbitmq import RabbitNode
from shared import topology
from shared.declare import check
from shared.messages import event_message
from shared.topology import EFFECTS, EVENTS_EXCHANGE, INGRESS_DEAD_QUEUE, Topology, dead_queue_of, queue_of
from tests.support.broker import depth, management
from tests.support.events import publish, user_event

CONF: Final = (Path(__file__).parents[2] / "deploy" / "rabbitmq" / "usher.conf").read_text()
PROCESSES: Final = ("ingress", *EFFECTS)
RIGHTS: Final = ("configure", "write", "read")


def rights_of(user: str) -> dict[str, str]:
    found = dict(re.findall(rf"^default_users\.{user}\.(\w+) = (.+)$", CONF, re.MULTILINE))
    return {right: found[right] for right in RIGHTS}


def looked_at(process: str) -> Topology:
    """What the process expects on the broker when it starts."""
    if process == "ingress":
        return topology.topology()
    return Topology((), tuple(topology.effect_queues(process, EFFECTS[process])))


@pytest.fixture
def logins(amqp_url: str, rabbit: RabbitNode) -> Iterator[dict[str, str]]:
    """The AMQP address of each process, on a vhost with Usher's topology."""
    vhost = urlsplit(amqp_url).path[1:]
    for user in PROCESSES:
        management(rabbit, "PUT", f"users/{user}", {"password": "secret", "tags": ""})
        management(rabbit, "PUT", f"permissions/{quote(vhost, safe='')}/{user}", rights_of(user))
    yield {user: f"amqp://{user}:secret@127.0.0.1:{rabbit.amqp_port}/{vhost}" for user in PROCESSES}
    for user in PROCESSES:
        management(rabbit, "DELETE", f"users/{user}")


@asynccontextmanager
async def channel_of(address: str) -> AsyncIterator[AbstractChannel]:
    async with await aio_pika.connect(address) as connection:
        yield await connection.channel(on_return_raises=True)


async def send(address: str, exchange: str, routing_key: str) -> None:
    """Publish and wait for the confirm."""
    async with channel_of(address) as channel:
        target = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
        await target.publish(event_message(user_event()), routing_key)


async def take(address: str, queue: str) -> None:
    async with channel_of(address) as channel:
        message = await (await channel.get_queue(queue, ensure=False)).get()
        assert message is not None
        await message.ack()


def test_the_file_names_every_process_and_only_its_own_vhost() -> None:
    assert set(re.findall(r"^default_users\.(\w+)\.", CONF, re.MULTILINE)) == set(PROCESSES)
    assert re.findall(r"vhost_pattern = (.+)", CONF) == ["^/$"] * len(PROCESSES)


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_has_some_right_on_all_that_it_looks_at(process: str) -> None:
    # RabbitMQ asks for that from 4.3 on, before it says whether something is there.
    wanted = looked_at(process)
    for name in [each.name for each in wanted.exchanges] + [each.name for each in wanted.queues]:
        assert any(re.search(pattern, name) for pattern in rights_of(process).values()), name


@pytest.mark.parametrize("process", PROCESSES)
async def test_no_process_can_lead_events_elsewhere(process: str, logins: dict[str, str]) -> None:
    async with channel_of(logins[process]) as channel:
        queue = await channel.get_queue(queue_of("sync_user"), ensure=False)
        with pytest.raises(ChannelAccessRefused):
            await queue.bind(EVENTS_EXCHANGE, "database.ready")


@pytest.mark.parametrize("process", PROCESSES)
async def test_a_process_sees_the_topology_and_can_change_nothing_of_it(process: str, logins: dict[str, str]) -> None:
    async with await aio_pika.connect(logins[process]) as connection:
        await check(connection, looked_at(process))
        channel = await connection.channel()
        with pytest.raises(ChannelAccessRefused):
            await channel.declare_queue("usher.mine")
        channel = await connection.channel()
        with pytest.raises(ChannelAccessRefused):
            await channel.queue_delete("usher.sync_user")


async def test_the_ingress_stores_events_and_unreadable_webhooks(logins: dict[str, str], amqp_url: str) -> None:
    await send(logins["ingress"], EVENTS_EXCHANGE, "user.created")
    await send(logins["ingress"], "", INGRESS_DEAD_QUEUE)
    assert await depth(amqp_url, "usher.sync_user") == await depth(amqp_url, INGRESS_DEAD_QUEUE) == 1


@pytest.mark.parametrize("queue", [queue.name for queue in topology.topology().queues])
async def test_the_ingress_reads_nothing(queue: str, logins: dict[str, str]) -> None:
    with pytest.raises(ChannelAccessRefused):
        await take(logins["ingress"], queue)


@pytest.mark.parametrize("effect", EFFECTS)
async def test_a_consumer_reads_its_queue_and_sends_copies(
    effect: str,
    logins: dict[str, str],
    amqp_url: str,
) -> None:
    work, *others = (queue.name for queue in topology.effect_queues(effect, EFFECTS[effect]))
    await publish(amqp_url, user_event())
    await take(logins[effect], work)
    for queue in others:
        await send(logins[effect], "", queue)
    assert await depth(amqp_url, dead_queue_of(work)) == 1


@pytest.mark.parametrize("effect", EFFECTS)
async def test_a_consumer_reads_nothing_but_its_queue(effect: str, logins: dict[str, str]) -> None:
    for queue in topology.topology().queues:
        if queue.name != queue_of(effect):
            with pytest.raises(ChannelAccessRefused):
                await take(logins[effect], queue.name)


async def test_of_the_consumers_only_the_provisioner_publishes_events(
    logins: dict[str, str],
    amqp_url: str,
) -> None:
    await send(logins["provision_database"], EVENTS_EXCHANGE, "user.updated")
    assert await depth(amqp_url, "usher.sync_user") == 1
    with pytest.raises(ChannelClosed):
        await send(logins["sync_user"], EVENTS_EXCHANGE, "user.updated")
    assert await depth(amqp_url, "usher.sync_user") == 1
