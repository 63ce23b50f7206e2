"""What a broken, slow or foreign broker does to a connection: every publish ends, and the connection says why."""

import asyncio
import tracemalloc

import pytest
from pamqp import base, commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader, ProtocolHeader

from ingress.amqp.address import Address
from ingress.amqp.confirms import REFUSED
from ingress.amqp.connection import MAX_UNSENT_BYTES
from ingress.amqp.handshake import connect
from ingress.process import loop_factory
from tests.ingress.amqp.conftest import connected, publish
from tests.ingress.amqp.scripted_broker import ScriptedBroker, scripted
from tests.support.eventually import eventually


def url(broker: ScriptedBroker, query: str = "") -> str:
    return f"amqp://127.0.0.1:{broker.port}/{query}"


def returned(tag: int, body: bytes) -> bytes:
    """A message that no queue takes, as the broker sends it back."""
    parts: tuple[frame.FrameTypes, ...] = (
        commands.Basic.Return(312, "NO_ROUTE", "", "q"),
        ContentHeader(0, len(body), commands.Basic.Properties(correlation_id=str(tag), message_id="msg_1")),
        ContentBody(body),
    )
    return b"".join(frame.marshal(part, 1) for part in parts)


async def test_ranges_returns_and_refusals_in_one_piece_are_told_apart() -> None:
    async with scripted() as broker, connected(url(broker)) as connection:
        outcomes = [publish(connection, "q") for _ in range(8)]
        await eventually(lambda: broker.published == 8)
        broker.send(
            commands.Basic.Nack(3, multiple=False),
            returned(2, b"{}"),
            returned(5, b"{}"),
            commands.Basic.Ack(5, multiple=True),
            commands.Basic.Nack(7, multiple=True),
            commands.Basic.Ack(8, multiple=False),
        )
        told = await asyncio.wait_for(asyncio.gather(*outcomes), 40)
    why = "returned: no queue takes 'q' from exchange ''"
    assert told == [None, why, REFUSED, None, why, REFUSED, REFUSED, None]


async def test_answers_that_come_byte_by_byte_are_the_same() -> None:
    async with scripted() as broker, connected(url(broker)) as connection:
        outcomes = [publish(connection, "q") for _ in range(3)]
        await eventually(lambda: broker.published == 3)
        stream = returned(2, b"[]") + frame.marshal(commands.Basic.Ack(3, multiple=True), 1)
        for place in range(len(stream)):
            broker.send(stream[place : place + 1])
            await asyncio.sleep(0)
        told = await asyncio.wait_for(asyncio.gather(*outcomes), 40)
    assert [each is None for each in told] == [True, False, True]


async def test_frames_are_no_longer_than_the_broker_wants_them() -> None:
    async with scripted(frame_max=4096) as broker, connected(url(broker)) as connection:
        outcome = publish(connection, "q", body=bytes(100_000))
        await eventually(lambda: broker.published == 1)
        broker.send(commands.Basic.Ack(1, multiple=False))
        assert await outcome is None


async def test_without_any_answer_the_deadline_ends_the_publish_and_the_connection() -> None:
    async with scripted() as broker, connected(url(broker)) as connection:
        assert await publish(connection, "q", timeout_s=0.1) == "not confirmed in time"
        assert await connection.lost == "no confirm within the deadline"


async def test_a_deadline_passed_while_others_are_confirmed_ends_only_that_publish() -> None:
    async with scripted() as broker, connected(url(broker)) as connection:
        late, stored = publish(connection, "q"), publish(connection, "q")
        await eventually(lambda: broker.published == 2)
        broker.send(commands.Basic.Ack(2, multiple=False))
        assert await stored is None
        # Its deadline is now.
        connection._confirms.hurry(0)
        connection._sweep_later()
        assert await late == "not confirmed in time"
        assert connection.usable

        after = publish(connection, "q")
        await eventually(lambda: broker.published == 3)
        broker.send(commands.Basic.Ack(3, multiple=True))
        assert await after is None


async def test_a_deadline_before_that_of_an_earlier_publish_is_kept() -> None:
    async with scripted() as broker, connected(url(broker)) as connection:
        patient = publish(connection, "q", timeout_s=3600)
        assert await asyncio.wait_for(publish(connection, "q", timeout_s=0.1), 40) == "not confirmed in time"
        assert await patient == "the connection to the broker was lost: no confirm within the deadline"


def test_a_question_on_a_connection_that_is_gone_makes_no_noise() -> None:
    noise: list[dict[str, object]] = []

    async def ask_after_the_end() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
        async with scripted() as broker, connected(url(broker)) as connection:
            connection.abort("the test says so")
            await connection.gone
            with pytest.raises(ConnectionError, match="the test says so"):
                await connection.ask(commands.Channel.Open(), commands.Channel.OpenOk, 2)
            await asyncio.sleep(0)

    # asyncio's own loop passes over what is written to a closed connection, uvloop does not.
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(ask_after_the_end())
    assert noise == []


async def test_a_silent_connection_is_noticed_by_its_heartbeat() -> None:
    async with scripted() as broker, connected(url(broker, "?heartbeat=1")) as connection:
        outcome = publish(connection, "q")
        assert await asyncio.wait_for(connection.lost, 40) == "the connection went silent"
        assert broker.heartbeats >= 3
        assert await outcome == "the connection to the broker was lost: the connection went silent"


async def test_a_broker_that_hangs_up_ends_every_publish() -> None:
    async with scripted() as broker, connected(url(broker)) as connection:
        outcomes = [publish(connection, "q") for _ in range(3)]
        await eventually(lambda: broker.published == 3)
        broker.hang_up()
        told = set(await asyncio.wait_for(asyncio.gather(*outcomes), 40))
        assert told == {"the connection to the broker was lost: the broker hung up"}


async def test_a_block_shortens_deadlines_and_does_not_end_the_connection() -> None:
    async with scripted() as broker, connected(url(broker)) as connection:
        outcome = publish(connection, "q", timeout_s=3600)
        broker.send(commands.Connection.Blocked("low on memory"), channel=0)
        assert await asyncio.wait_for(outcome, 40) == "not confirmed in time"
        assert (connection.blocked, connection.usable) == ("low on memory", False)

        broker.send(commands.Connection.Unblocked(), channel=0)
        await asyncio.wait_for(connection.unblocked(), 40)
        broker.send(commands.Basic.Ack(1, multiple=False))  # late: nobody waits for it any more
        again = publish(connection, "q")
        await eventually(lambda: broker.published == 2)
        broker.send(commands.Basic.Ack(2, multiple=False))
        assert await again is None


@pytest.mark.parametrize(
    "strange",
    [
        b"\x00garbage that is no frame",
        commands.Basic.Ack(2, multiple=False),
        commands.Basic.ConsumeOk("c"),
        commands.Queue.DeclareOk("q", 0, 0),
        ContentHeader(0, 1, commands.Basic.Properties(correlation_id="1")),
        ProtocolHeader(),
        b"\x01\x00\x01\x00\x00\x00\x04\x00\x99\x00\x99\xce",
    ],
    ids=["garbage", "made-up confirm", "consumer", "unasked answer", "content", "protocol", "unknown method"],
)
async def test_what_nobody_asked_for_ends_the_connection(strange: frame.FrameTypes | bytes) -> None:
    async with scripted() as broker, connected(url(broker)) as connection:
        outcome = publish(connection, "q")
        await eventually(lambda: broker.published == 1)
        broker.send(strange)
        told = await asyncio.wait_for(outcome, 40)
        assert told is not None
        assert told.startswith("the connection to the broker was lost: ")
        assert not connection.usable


@pytest.mark.parametrize(
    "greeting",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", ProtocolHeader(0, 9, 1).marshal(), b"\xff" * 100],
    ids=["http", "another version", "noise"],
)
async def test_a_server_that_speaks_something_else_is_an_error(greeting: bytes) -> None:
    async with scripted(greeting=greeting) as broker:
        with pytest.raises(ConnectionError):
            await connect(Address.of(url(broker), heartbeat_s=10, name="tests"), lambda: None)


async def test_a_broker_that_knows_no_such_login_is_an_error_that_names_what_it_knows() -> None:
    start: base.Frame = commands.Connection.Start(server_properties={}, mechanisms="AMQPLAIN")
    async with scripted(greeting=frame.marshal(start, 0)) as broker:
        with pytest.raises(ConnectionError, match="AMQPLAIN"):
            await connect(Address.of(url(broker), heartbeat_s=10, name="tests"), lambda: None)


async def test_a_broker_that_does_not_read_is_not_written_to_without_end() -> None:
    async with scripted() as broker, connected(url(broker)) as connection:
        broker.stop_reading()
        count = 0
        body = bytes(100_000)
        while connection.usable:
            publish(connection, "q", body=body)
            count += 1
            await asyncio.sleep(0)
        # What the kernel's buffers take comes on top of ours.
        assert count * len(body) < 20 * MAX_UNSENT_BYTES
        connection.abort("the test is over")


async def test_senders_that_try_again_and_again_leave_nothing_behind() -> None:
    async with scripted() as broker, connected(url(broker)) as connection:
        broker.refuses = True

        async def try_again(times: int) -> None:
            for _ in range(times):
                told = await asyncio.gather(*(publish(connection, "q", body=bytes(2000)) for _ in range(100)))
                assert set(told) == {REFUSED}

        await try_again(2)
        tracemalloc.start()
        try:
            await try_again(1)
            before, _ = tracemalloc.get_traced_memory()
            await try_again(8)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # Of 800 publishes: if each left only its 2 kB body behind, it would be 1.6 MB.
        assert after - before < 400_000
