"""One connection to a real broker: every publish gets the broker's word on it, and nobody else's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aio_pika
import pytest
from pamqp import commands

from ingress.amqp.address import Address
from ingress.amqp.confirms import REFUSED
from ingress.amqp.connection import RefusedError
from ingress.amqp.handshake import connect
from ingress.amqp.message import Envelope, Message
from local.rabbitmq import RabbitNode
from tests.ingress.amqp.conftest import connected, publish
from tests.support.broker import depth, drain, management
from tests.support.eventually import eventually

Arguments = dict[str, str | int]

QUORUM: Arguments = {"x-queue-type": "quorum"}
FULL: Arguments = {"x-max-length": 3, "x-overflow": "reject-publish"}


@asynccontextmanager
async def queue(url: str, name: str, arguments: Arguments) -> AsyncIterator[str]:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(name, durable=True, arguments=arguments)  # type: ignore[arg-type] # a table
        yield name


@pytest.fixture
async def stored(bare_vhost_url: str) -> AsyncIterator[str]:
    """A queue that stores what it gets, and takes its time for it."""
    async with queue(bare_vhost_url, "stored", QUORUM) as name:
        yield name


async def test_what_is_published_at_once_is_all_stored_and_confirmed(bare_vhost_url: str, stored: str) -> None:
    async with connected(bare_vhost_url) as connection:
        outcomes = await asyncio.gather(*(publish(connection, stored, message_id=f"msg_{n}") for n in range(500)))
    assert set(outcomes) == {None}
    messages = await drain(bare_vhost_url, stored)
    assert [message.properties["message_id"] for message in messages] == [f"msg_{number}" for number in range(500)]


async def test_returned_and_stored_ones_with_one_message_id_each_get_their_own_answer(
    bare_vhost_url: str, stored: str
) -> None:
    targets = [stored if number % 3 else "nowhere" for number in range(300)]
    async with connected(bare_vhost_url) as connection:
        outcomes = await asyncio.gather(*(publish(connection, target) for target in targets))
    said = [outcome is not None and "returned: no queue takes 'nowhere'" in outcome for outcome in outcomes]
    assert said == [target == "nowhere" for target in targets]
    assert await depth(bare_vhost_url, stored) == targets.count(stored)


async def test_refused_and_stored_ones_each_get_their_own_answer(bare_vhost_url: str, stored: str) -> None:
    async with queue(bare_vhost_url, "full", FULL), connected(bare_vhost_url) as connection:
        outcomes = await asyncio.gather(
            *(publish(connection, stored if number % 2 else "full") for number in range(100))
        )
        assert set(outcomes[1::2]) == {None}
        assert outcomes[0::2].count(None) == await depth(bare_vhost_url, "full")
        assert set(outcomes[0::2]) == {None, REFUSED}


async def test_a_large_message_comes_back_whole_from_the_queue_and_from_nowhere(
    bare_vhost_url: str, stored: str
) -> None:
    body = bytes(range(256)) * 2000
    async with connected(bare_vhost_url) as connection:
        outcomes = await asyncio.gather(
            *(publish(connection, target, body=body) for target in (stored, "nowhere", stored))
        )
    assert [outcome is None for outcome in outcomes] == [True, False, True]
    assert [message.body for message in await drain(bare_vhost_url, stored)] == [body, body]


async def test_a_missing_exchange_ends_the_connection_and_says_so(bare_vhost_url: str, stored: str) -> None:
    async with connected(bare_vhost_url) as connection:
        await publish(connection, stored)
        deadline = asyncio.get_running_loop().time() + 40
        outcome = await connection.publish(Message(Envelope("gone", "key"), "msg_1", 0, b""), deadline)
        assert outcome is not None
        assert "404 NOT_FOUND - no exchange 'gone'" in outcome
        assert not connection.usable


async def test_a_connection_that_the_broker_closes_says_why(
    rabbit: RabbitNode, bare_vhost_url: str, stored: str
) -> None:
    async with connected(bare_vhost_url) as connection:
        await publish(connection, stored)
        names = await eventually(lambda: asyncio.to_thread(connections_named, rabbit, "tests"))
        await asyncio.to_thread(management, rabbit, "DELETE", "connections/" + names[0])
        assert "320 CONNECTION_FORCED" in await connection.lost
        late = await publish(connection, stored)
        assert late is not None
        assert "CONNECTION_FORCED" in late


def connections_named(rabbit: RabbitNode, name: str) -> list[str]:
    """As the management UI shows them."""
    return [
        str(each["name"]).replace(" ", "%20").replace(">", "%3E")
        for each in management(rabbit, "GET", "connections")
        if each.get("client_properties", {}).get("connection_name") == name
    ]


async def test_a_wrong_password_is_said_by_the_broker(rabbit: RabbitNode) -> None:
    address = Address.of(f"amqp://usher:wrong@127.0.0.1:{rabbit.amqp_port}/", heartbeat_s=10, name="tests")
    with pytest.raises(ConnectionError, match="403 ACCESS_REFUSED"):
        await connect(address, lambda: None)


async def test_a_vhost_that_is_not_there_is_said_by_the_broker(rabbit: RabbitNode) -> None:
    address = Address.of(rabbit.amqp_url + "nowhere", heartbeat_s=10, name="tests")
    with pytest.raises(ConnectionError, match="530 NOT_ALLOWED"):
        await connect(address, lambda: None)


async def test_a_refused_question_leaves_the_connection_as_it_is(bare_vhost_url: str, stored: str) -> None:
    async with connected(bare_vhost_url) as connection:
        for _ in range(2):
            await connection.ask(commands.Channel.Open(), commands.Channel.OpenOk, 2)
            with pytest.raises(RefusedError, match="404 NOT_FOUND"):
                await connection.ask(commands.Queue.Declare(queue="nowhere", passive=True), commands.Queue.DeclareOk, 2)
        assert await publish(connection, stored) is None


async def test_a_blocked_connection_answers_early_and_takes_messages_again(
    rabbit: RabbitNode, bare_vhost_url: str, stored: str
) -> None:
    async with connected(bare_vhost_url) as connection:
        await asyncio.to_thread(rabbit.ctl, "set_vm_memory_high_watermark", "0")
        try:
            # The first one makes the broker notice; it may still be stored, or be given up long before its deadline.
            outcomes = await asyncio.wait_for(
                asyncio.gather(*(publish(connection, stored, timeout_s=3600) for _ in range(5))), 60
            )
            assert outcomes[-1] == "not confirmed in time"
            assert (connection.blocked is None, connection.usable) == (False, False)
        finally:
            await asyncio.to_thread(rabbit.ctl, "set_vm_memory_high_watermark", "0.4")
        await asyncio.wait_for(connection.unblocked(), 60)
        assert await publish(connection, stored) is None
