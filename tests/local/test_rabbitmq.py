"""A private RabbitMQ node: what survives what, and what it refuses."""

import socket
from pathlib import Path

import aio_pika
import psutil
import pytest

from local.errors import MissingServerError, ServerError
from local.ports import free_port
from local.rabbitmq import RabbitNode
from tests.support.eventually import eventually


async def _store(node: RabbitNode, text: str) -> None:
    async with await aio_pika.connect(node.amqp_url) as connection:
        channel = await connection.channel(on_return_raises=True)
        queue = await channel.declare_queue("kept", durable=True, arguments={"x-queue-type": "quorum"})
        # RabbitMQ writes a new queue's registration within a second, not before it answers: a kill in between
        # leaves the queue without a leader for good (3.10.8 and 4.0.5).
        node.ctl("eval", "dets:sync(ra_directory_reverse).")
        message = aio_pika.Message(text.encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, routing_key=queue.name)


async def _take(node: RabbitNode) -> str:
    async with await aio_pika.connect(node.amqp_url) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue("kept")
        message = await queue.get(timeout=30)
        await message.ack()
        return message.body.decode()


async def test_a_confirmed_message_survives_kill_9_and_a_change_of_ports(node: RabbitNode) -> None:
    await _store(node, "before the crash")
    node.kill()
    node.amqp_port, node.management_port = free_port(), free_port()

    node.start()

    assert await _take(node) == "before the crash"


async def test_a_message_survives_a_clean_stop_and_a_change_of_password(node: RabbitNode) -> None:
    await _store(node, "before the stop")
    machine = psutil.Process(node.pid)
    node.stop()
    assert not machine.is_running()
    node.password = "second-password"

    node.start()

    assert await _take(node) == "before the stop"


def test_the_node_listens_on_loopback_only(node: RabbitNode) -> None:
    listening = [
        connection.laddr.ip
        for process in node.node_processes
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]

    assert len(listening) >= 3
    assert set(listening) == {"127.0.0.1"}


def test_a_paused_node_is_silent_and_a_resumed_one_answers(node: RabbitNode) -> None:
    node.pause()
    with socket.create_connection(("127.0.0.1", node.amqp_port), 1) as connection:
        connection.settimeout(0.3)
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        with pytest.raises(TimeoutError):
            connection.recv(1)

        node.resume()

        connection.settimeout(5)
        assert connection.recv(1) == b"\x01"


def test_rabbitmqctl_reaches_this_node_and_its_failures_carry_its_words(node: RabbitNode) -> None:
    assert "usher" in node.ctl("list_users")

    with pytest.raises(ServerError, match="no_such_command"):
        node.ctl("no_such_command")


def test_a_second_node_on_the_same_folder_is_refused_and_the_first_goes_on(node: RabbitNode) -> None:
    second = RabbitNode(node.folder, amqp_port=free_port(), management_port=free_port(), user="usher", password="other")

    with pytest.raises(ServerError, match=f"process {node.pid} already serves"):
        second.start()

    assert node.running
    assert node.ready()


def test_a_node_that_cannot_start_says_its_last_words_and_leaves_no_process(tmp_path: Path) -> None:
    node = RabbitNode(
        tmp_path,
        amqp_port=free_port(),
        management_port=free_port(),
        user="usher",
        password="secret",
        extra_config=["no_such_setting = 1"],
    )

    with pytest.raises(ServerError, match="no_such_setting"):
        node.start()

    assert not node.running
    assert node.node_processes == []
    assert node.epmd_process is None


@pytest.mark.parametrize("ending", ["echo Killed", "exit 137"], ids=["up to 3.x", "4.x"])
async def test_a_machine_that_was_killed_is_told_whatever_the_script_around_it_says(
    tmp_path: Path, ending: str
) -> None:
    script = tmp_path / "rabbitmq-server"
    script.write_text(f"#!/bin/sh\n{ending}\n")
    script.chmod(0o700)
    node = RabbitNode(tmp_path, amqp_port=1, management_port=2, user="usher", password="secret", server=script)
    node.launch()
    try:
        await eventually(lambda: not node.running)
        assert node.how_it_ended() == "was killed by SIGKILL"
    finally:
        node.kill()


def test_a_password_that_the_configuration_file_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="letters, digits"):
        RabbitNode(tmp_path, amqp_port=1, management_port=2, user="usher", password="a # comment")


def test_the_installation_that_somebody_named_has_to_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RABBITMQ_SERVER", "/nowhere/rabbitmq-server")
    node = RabbitNode(tmp_path, amqp_port=1, management_port=2, user="usher", password="secret")

    with pytest.raises(MissingServerError, match="/nowhere/rabbitmq-server does not exist: RABBITMQ_SERVER"):
        node.start()
