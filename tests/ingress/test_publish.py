"""Accepted means stored: what a broken, blocked, full or silent broker does to the answers.

Every test that breaks something counts: each webhook that was answered 202 is found in the broker.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from local.rabbitmq import RabbitNode
from shared import topology
from shared.declare import declare
from tests.ingress.conftest import StartIngress, running_ingress
from tests.ingress.sender import Sender
from tests.support.broker import depth, drain, management, running_node
from tests.support.eventually import eventually
from tests.support.tcp_proxy import TcpProxy

QUEUE = "usher.sync_user"
DEADLINE_S = 5.0
MARGIN_S = 2.5


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    """A node of this file alone: what its kills leave behind troubles no other test."""
    with running_node(tmp_path_factory.mktemp("rabbitmq")) as node:
        yield node


@pytest.fixture
async def proxy(rabbit: RabbitNode) -> AsyncIterator[TcpProxy]:
    async with TcpProxy("127.0.0.1", rabbit.amqp_port) as proxy:
        yield proxy


@pytest.fixture
async def proxied(amqp_url: str, rabbit: RabbitNode, proxy: TcpProxy) -> AsyncIterator[Sender]:
    """An ingress that reaches its broker through the proxy."""
    async with running_ingress(through(proxy, amqp_url, rabbit)) as sender:
        yield sender


def through(proxy: TcpProxy, amqp_url: str, rabbit: RabbitNode, **query: object) -> str:
    address = amqp_url.replace(f":{rabbit.amqp_port}/", f":{proxy.port}/")
    return address + "".join(f"?{name}={value}" for name, value in query.items())


@contextmanager
def memory_alarm(rabbit: RabbitNode) -> Iterator[None]:
    rabbit.ctl("set_vm_memory_high_watermark", "0")
    try:
        yield
    finally:
        rabbit.ctl("set_vm_memory_high_watermark", "0.4")


async def stored_ids(amqp_url: str) -> set[str]:
    return {str(message.properties["message_id"]) for message in await drain(amqp_url, QUEUE)}


async def assert_accepted_means_stored(ingress: Sender, amqp_url: str) -> None:
    assert set(ingress.answers.values()) <= {202, 503}
    accepted = ingress.ids_answered(202)
    found: set[str] = set()

    async def all_found() -> bool:
        found.update(await stored_ids(amqp_url))
        return accepted <= found

    await eventually(all_found, what=f"{len(accepted)} accepted webhooks in the queue")


@asynccontextmanager
async def steady_sending(ingress: Sender, *, senders: int = 8) -> AsyncIterator[None]:
    """Senders that send one webhook after the other for as long as the block lasts."""
    done = asyncio.Event()

    async def keep_sending() -> None:
        while not done.is_set():
            await ingress.send_numbered()

    tasks = [asyncio.create_task(keep_sending()) for _ in range(senders)]
    try:
        yield
    finally:
        done.set()
        await asyncio.gather(*tasks)


async def accepts_again(ingress: Sender) -> None:
    async def accepted() -> bool:
        return (await ingress.send_numbered()).status == 202

    await eventually(accepted, timeout_s=40, what="202 again")


async def timed(answer: Callable[[], Awaitable[object]]) -> float:
    clock = asyncio.get_running_loop().time
    started = clock()
    await answer()
    return clock() - started


async def test_a_broker_that_is_down_at_the_start_is_waited_for(
    rabbit: RabbitNode, amqp_url: str, proxy: TcpProxy
) -> None:
    proxy.refuse()
    async with running_ingress(through(proxy, amqp_url, rabbit), wait_ready=False) as ingress:
        answered = await ingress.send_numbered()
        assert (answered.status, answered.headers["Retry-After"]) == (503, "5")
        assert '"broker": "' in (await ingress.internal("/readyz")).body
        assert (await ingress.internal("/livez")).status == 200

        proxy.flow()
        await accepts_again(ingress)
        assert await ingress.ready()
        await assert_accepted_means_stored(ingress, amqp_url)


async def test_without_a_connection_the_503_comes_within_about_a_second(proxied: Sender, proxy: TcpProxy) -> None:
    proxy.refuse()
    await eventually(lambda: not_ready(proxied))
    assert await timed(lambda: proxied.send_many(20)) < 1.0 + MARGIN_S
    assert set(proxied.answers.values()) == {503}


async def not_ready(ingress: Sender) -> bool:
    return not await ingress.ready()


async def test_a_broker_killed_under_load_loses_nothing_that_was_accepted(rabbit: RabbitNode, amqp_url: str) -> None:
    async with running_ingress(amqp_url) as ingress:
        async with steady_sending(ingress):
            await eventually(lambda: len(ingress.ids_answered(202)) > 100)
            await asyncio.to_thread(rabbit.kill)
            await eventually(lambda: ingress.ids_answered(503))
            await asyncio.to_thread(rabbit.start)
            accepted = len(ingress.ids_answered(202))
            await eventually(lambda: len(ingress.ids_answered(202)) > accepted + 50, timeout_s=40)
        await assert_accepted_means_stored(ingress, amqp_url)


async def test_a_reset_in_the_midst_of_publishes_loses_nothing_that_was_accepted(
    proxied: Sender, proxy: TcpProxy, amqp_url: str
) -> None:
    async with steady_sending(proxied):
        for _ in range(5):
            before = len(proxied.ids_answered(202))
            await eventually(lambda before=before: len(proxied.ids_answered(202)) > before + 20)  # type: ignore[misc] # bound now
            proxy.cut_after(1500)
    await accepts_again(proxied)
    await assert_accepted_means_stored(proxied, amqp_url)


async def test_a_black_hole_ends_in_503_at_the_deadline_and_heals(
    proxied: Sender, proxy: TcpProxy, amqp_url: str
) -> None:
    await proxied.send_many(20)
    proxy.black_hole()

    took_s = await timed(lambda: proxied.send_many(20))

    assert took_s < DEADLINE_S + MARGIN_S
    assert len(proxied.ids_answered(503)) == 20
    proxy.flow()
    await accepts_again(proxied)
    await assert_accepted_means_stored(proxied, amqp_url)


async def test_a_silent_node_of_a_cluster_is_left_for_the_next_one_once(
    rabbit: RabbitNode, amqp_url: str, proxy: TcpProxy
) -> None:
    async with TcpProxy("127.0.0.1", rabbit.amqp_port) as other:
        addresses = ",".join(through(each, amqp_url, rabbit) for each in (proxy, other))
        async with running_ingress(addresses, publish_timeout="2s") as ingress:
            proxy.black_hole()
            async with asyncio.TaskGroup() as tasks:
                # So that most deadlines pass after the next node has taken over and before it confirms anything.
                for _ in range(7):
                    tasks.create_task(ingress.send_numbered())
                    await asyncio.sleep(0.25)
            await accepts_again(ingress)
            assert (proxy.connections, other.connections) == (1, 1)
            await assert_accepted_means_stored(ingress, amqp_url)


async def test_a_heartbeat_that_fails_before_the_deadline_ends_in_503(
    rabbit: RabbitNode, amqp_url: str, proxy: TcpProxy
) -> None:
    address = through(proxy, amqp_url, rabbit, heartbeat=1)
    async with running_ingress(address, publish_timeout="13s") as ingress:
        proxy.black_hole()
        took_s = await timed(lambda: ingress.send_many(5))
        assert took_s < 13
        assert ingress.ids_answered(503) == set(ingress.answers)

        proxy.flow()
        await accepts_again(ingress)


async def test_a_blocked_broker_is_answered_503_in_time_and_202_again_by_itself(
    start_ingress: StartIngress, rabbit: RabbitNode, amqp_url: str
) -> None:
    async with start_ingress(publish_timeout="2s") as ingress:
        await ingress.send_many(10)
        with memory_alarm(rabbit):
            for _ in range(3):
                took_s = await timed(lambda: ingress.send_many(10))
                assert took_s < 2 + MARGIN_S
            assert len(ingress.ids_answered(503)) == 30

        await accepts_again(ingress)
        await assert_accepted_means_stored(ingress, amqp_url)


async def test_a_long_alarm_does_not_pile_up_connections(start_ingress: StartIngress, rabbit: RabbitNode) -> None:
    async with start_ingress(publish_timeout="0.5s") as ingress:
        with memory_alarm(rabbit):
            await ingress.send_numbered()
            before = open_files()
            for _ in range(8):
                await ingress.send_numbered()
            await eventually(lambda: open_files() <= before + 1, what="no more open files than before")
        await accepts_again(ingress)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_too_many_publishes_at_once_are_answered_503_at_once(
    start_ingress: StartIngress, rabbit: RabbitNode
) -> None:
    async with start_ingress(max_in_flight=3, publish_timeout="3s") as ingress:
        with memory_alarm(rabbit):
            waiting = asyncio.create_task(ingress.send_many(3))
            await eventually(lambda: in_flight(ingress, 3))

            assert await timed(ingress.send_numbered) < MARGIN_S

            assert {answered.status for answered in await waiting} == {503}
        await accepts_again(ingress)


async def in_flight(ingress: Sender, count: int) -> bool:
    return await ingress.metric("usher_publish_in_flight") == count


async def test_many_publishes_wait_for_their_confirms_side_by_side(
    proxied: Sender, proxy: TcpProxy, amqp_url: str
) -> None:
    proxy.delay_s = 0.3
    took_s = await timed(lambda: proxied.send_many(30))
    assert took_s < 30 * 0.3 / 3
    assert len(proxied.ids_answered(202)) == 30
    await assert_accepted_means_stored(proxied, amqp_url)


async def test_a_full_queue_is_answered_503_and_refuses_nobody_else(ingress: Sender, amqp_url: str) -> None:
    async with bound_queue(amqp_url, "full", {"x-max-length": 3, "x-overflow": "reject-publish"}) as channel:
        for _ in range(10):
            await ingress.send_numbered()

        assert len(ingress.ids_answered(503)) >= 1
        assert (await ingress.send("user.deleted", message_id="msg_other")).status == 202
        await channel.queue_delete("full")
    await accepts_again(ingress)
    await assert_accepted_means_stored(ingress, amqp_url)


@asynccontextmanager
async def bound_queue(amqp_url: str, name: str, arguments: dict[str, object]) -> AsyncIterator[AbstractChannel]:
    """One more queue for user.created."""
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(name, durable=True, arguments=arguments)  # type: ignore[arg-type] # a table
        await queue.bind("usher.events", "user.created")
        yield channel


async def test_an_exchange_that_is_gone_is_answered_503_until_it_is_back(ingress: Sender, amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.exchange_delete("usher.events")
        assert (await ingress.send_numbered()).status == 503

        # The broker closed the channel over it; a new one looks for the topology first.
        await eventually(lambda: trouble_is(ingress, "exchange usher.events is missing"))
        assert (await ingress.send_numbered()).status == 503
        await declare(connection, topology.topology())

    await accepts_again(ingress)
    await assert_accepted_means_stored(ingress, amqp_url)


async def trouble_is(ingress: Sender, text: str) -> bool:
    answered = await ingress.internal("/readyz")
    return answered.status == 503 and text in answered.body


async def test_what_no_queue_takes_is_answered_503(ingress: Sender, amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        for name in ("usher.sync_user", "usher.provision_database", "usher.log", "usher.unrouted"):
            await channel.queue_delete(name)

    assert (await ingress.send_numbered()).status == 503


async def test_equal_webhooks_at_once_that_no_queue_takes_are_all_answered_503(ingress: Sender, amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        for name in ("usher.sync_user", "usher.provision_database", "usher.log", "usher.unrouted"):
            await channel.queue_delete(name)

    answers = await asyncio.gather(*(ingress.send(message_id="msg_same") for _ in range(20)))

    assert [answered.status for answered in answers] == [503] * 20


async def test_equal_webhooks_at_once_are_all_stored(ingress: Sender, amqp_url: str) -> None:
    answers = await asyncio.gather(*(ingress.send(message_id="msg_same") for _ in range(20)))
    assert [answered.status for answered in answers] == [202] * 20
    assert await depth(amqp_url, QUEUE) == 20


async def test_a_connection_that_an_operator_closes_heals(ingress: Sender, rabbit: RabbitNode, amqp_url: str) -> None:
    async with steady_sending(ingress):
        await eventually(lambda: len(ingress.ids_answered(202)) > 20)
        await eventually(lambda: asyncio.to_thread(close_connections, rabbit, vhost_of(amqp_url)))
    await accepts_again(ingress)
    await assert_accepted_means_stored(ingress, amqp_url)


def vhost_of(amqp_url: str) -> str:
    return urlsplit(amqp_url).path.removeprefix("/")


def close_connections(rabbit: RabbitNode, vhost: str) -> int:
    """Close what is connected to the vhost, as the management UI does; how many there were."""
    names = [str(each["name"]) for each in management(rabbit, "GET", f"vhosts/{vhost}/connections")]
    for name in names:
        management(rabbit, "DELETE", "connections/" + re.sub(r"[ >]", lambda found: f"%{ord(found[0]):02X}", name))
    return len(names)


async def test_a_user_with_only_write_rights_is_enough(rabbit: RabbitNode, amqp_url: str) -> None:
    vhost = vhost_of(amqp_url)
    await asyncio.to_thread(management, rabbit, "PUT", "users/writer", {"password": "pw", "tags": ""})
    # The queues are only looked at, which RabbitMQ wants some right for from 4.2.6 on.
    rights = {"configure": "", "write": r"^(usher\..+|amq\.default)$", "read": ""}
    await asyncio.to_thread(management, rabbit, "PUT", f"permissions/{vhost}/writer", rights)
    try:
        address = f"amqp://writer:pw@127.0.0.1:{rabbit.amqp_port}/{vhost}"
        async with running_ingress(address) as ingress:
            assert (await ingress.send_numbered()).status == 202
            await assert_accepted_means_stored(ingress, amqp_url)
    finally:
        await asyncio.to_thread(management, rabbit, "DELETE", "users/writer")
