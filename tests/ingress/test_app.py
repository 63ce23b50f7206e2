"""The ingress as a program: how it starts, what it says, how it stops, and that workers are looked after."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aio_pika
import aiohttp
import psutil
import pytest

from local.ports import free_port
from local.rabbitmq import RabbitNode
from shared import topology
from shared.declare import declare
from tests.ingress.sender import Sender
from tests.ingress.signing import SVIX_SECRET
from tests.support.broker import drain
from tests.support.eventually import eventually
from tests.support.tcp_proxy import TcpProxy

ROOT = Path(__file__).parent.parent.parent
START_TIMEOUT_S = 40


@dataclass(slots=True)
class Program:
    """`usher ingress` in a process of its own."""

    process: asyncio.subprocess.Process
    sender: Sender
    log: Path

    def lines(self, event: str | None = None) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if event in {None, line["event"]}]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def ended(self) -> int:
        return await asyncio.wait_for(self.process.wait(), 30)


@asynccontextmanager
async def program(
    tmp_path: Path, amqp_url: str, *options: str, before: Sequence[str] = (), ready: bool = True, **environment: str
) -> AsyncIterator[Program]:
    port, internal_port = free_port(), free_port()
    log = tmp_path / f"ingress-{port}.log"
    settings = {
        "AMQP_URL": amqp_url,
        "CLERK_WEBHOOK_SIGNING_SECRET": SVIX_SECRET,
        "INGRESS_PORT": str(port),
        "INGRESS_INTERNAL_PORT": str(internal_port),
        "LOG_FORMAT": "json",
    }
    command = [*before, sys.executable, "-m", "cli.main", "ingress", *options]
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, env={**os.environ, **settings, **environment}, stdout=output, stderr=output
        )
    try:
        async with aiohttp.ClientSession() as session:
            started = Program(process, Sender(session, port, internal_port), log)
            if ready:
                await eventually(lambda: _ready(started), timeout_s=START_TIMEOUT_S, what=str(log))
            yield started
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _ready(program: Program) -> bool:
    assert program.process.returncode is None, program.log.read_text()
    try:
        return await program.sender.ready()
    except aiohttp.ClientConnectorError:
        return False


@pytest.mark.parametrize("options", [(), ("--workers", "2")])
async def test_with_standard_error_closed_it_runs_and_stops_as_ever(
    tmp_path: Path, amqp_url: str, options: tuple[str, ...]
) -> None:
    mute = ["sh", "-c", 'exec "$@" 2>&-', "sh"]
    async with program(tmp_path, amqp_url, *options, before=mute) as running:
        assert (await running.sender.send()).status == 202
        running.stop()
        assert await running.ended() == 0


async def test_it_starts_takes_a_webhook_and_stops_cleanly_on_sigterm(tmp_path: Path, amqp_url: str) -> None:
    async with program(tmp_path, amqp_url) as ingress:
        assert (await ingress.sender.send()).status == 202
        ingress.stop()
        assert await ingress.ended() == 0

    assert [line["event"] for line in ingress.lines()] == [
        "ingress_started",
        "broker_link_open",
        "webhook_received",
        "ingress_stopping",
        "ingress_stopped",
    ]


async def test_what_is_in_flight_at_sigterm_is_finished(tmp_path: Path, amqp_url: str, rabbit: RabbitNode) -> None:
    async with (
        TcpProxy("127.0.0.1", rabbit.amqp_port) as proxy,
        program(tmp_path, amqp_url.replace(str(rabbit.amqp_port), str(proxy.port))) as ingress,
    ):
        proxy.delay_s = 1.0
        sending = asyncio.create_task(ingress.sender.send_many(5))
        await eventually(lambda: _in_flight(ingress.sender, 5))

        ingress.stop()
        await eventually(lambda: ingress.lines("ingress_stopping"))

        assert {answered.status for answered in await sending} == {202}
        assert await ingress.ended() == 0
    found = {message.properties["message_id"] for message in await drain(amqp_url, "usher.sync_user")}
    assert found == ingress.sender.ids_answered(202)


async def _in_flight(sender: Sender, count: int) -> bool:
    return await sender.metric("usher_publish_in_flight") == count


async def test_wrong_settings_end_it_with_exit_code_2_and_a_line_for_each(tmp_path: Path) -> None:
    wrong = {"CLERK_WEBHOOK_SIGNING_SECRET": "whsec_marker", "INGRESS_PORT": "x"}
    async with program(tmp_path, "nonsense", ready=False, **wrong) as ingress:
        assert await ingress.ended() == 2

    lines = ingress.log.read_text().splitlines()
    assert [line.split(":")[1].strip() for line in lines] == [
        "AMQP_URL",
        "CLERK_WEBHOOK_SIGNING_SECRET",
        "INGRESS_PORT",
    ]
    assert "marker" not in ingress.log.read_text()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_taken_port_ends_it_with_exit_code_2_and_a_sentence(tmp_path: Path, workers: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        address = "amqp://127.0.0.1:1/"
        async with program(tmp_path, address, "--port", port, "--workers", workers, ready=False) as ingress:
            assert await ingress.ended() == 2
    assert ingress.log.read_text().splitlines()[-1].startswith("usher: INGRESS_PORT: cannot listen")


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_queue_with_other_arguments_ends_the_start_naming_both(
    tmp_path: Path, bare_vhost_url: str, workers: str
) -> None:
    wanted = topology.topology()
    odd = [
        replace(queue, arguments=queue.arguments | {"x-delivery-limit": 7}) if queue.name == "usher.unrouted" else queue
        for queue in wanted.queues
    ]
    async with await aio_pika.connect(bare_vhost_url) as connection:
        await declare(connection, replace(wanted, queues=tuple(odd)))

    async with program(tmp_path, bare_vhost_url, "--workers", workers, ready=False) as ingress:
        assert await ingress.ended() == 1
    assert "queue usher.unrouted exists with other arguments" in ingress.log.read_text()
    assert "x-delivery-limit" in ingress.log.read_text()
    assert "Traceback" not in ingress.log.read_text()


async def test_a_missing_topology_is_waited_for(tmp_path: Path, bare_vhost_url: str) -> None:
    async with program(tmp_path, bare_vhost_url, ready=False) as ingress:
        await eventually(lambda: ingress.lines("topology_trouble"), timeout_s=START_TIMEOUT_S)
        readiness = json.loads((await ingress.sender.internal("/readyz")).body)
        assert (
            readiness["checks"]["topology"] == "exchange usher.unrouted is missing on the broker: run `usher topology`"
        )
        assert (await ingress.sender.send()).status == 503

        async with await aio_pika.connect(bare_vhost_url) as connection:
            await declare(connection, topology.topology())

        await eventually(ingress.sender.ready)
        assert (await ingress.sender.send()).status == 202


async def test_a_relay_secret_alone_is_said_at_the_start(tmp_path: Path) -> None:
    secrets = {"CLERK_WEBHOOK_SIGNING_SECRET": "", "HOOKDECK_WEBHOOK_SECRET": "a secret of the relay"}
    async with program(tmp_path, "amqp://127.0.0.1:1/", ready=False, **secrets) as ingress:
        (hint,) = await eventually(lambda: ingress.lines("ingress_hint"), timeout_s=START_TIMEOUT_S)
    assert "relay's word" in hint["hint"]
    assert "a secret" not in ingress.log.read_text()


async def test_workers_share_the_port_and_their_figures_add_up(tmp_path: Path, amqp_url: str) -> None:
    async with program(tmp_path, amqp_url, "--workers", "2") as ingress:
        for _ in range(30):
            # A connection of its own each time: the kernel spreads connections.
            async with aiohttp.ClientSession() as session:
                await Sender(session, ingress.sender.port, 0).send()

        assert {line["worker"] for line in ingress.lines("webhook_received")} == {"worker-1", "worker-2"}
        labels = 'decision="published",mode="svix",problem="none",status="202",type="user.created"'
        assert await ingress.sender.metric(f"usher_webhooks_total{{{labels}}}") == 30
        assert await ingress.sender.metric("usher_publish_seconds_count") == 30
        assert await ingress.sender.metric("usher_broker_link_open") == 2
        ingress.stop()
        assert await ingress.ended() == 0


async def test_a_worker_that_is_killed_is_started_again_and_its_counts_stay(tmp_path: Path, amqp_url: str) -> None:
    async with program(tmp_path, amqp_url, "--workers", "2") as ingress:
        for _ in range(10):
            await ingress.sender.send()
        counted = await ingress.sender.metric("usher_publish_seconds_count")
        assert counted == 10
        busy = ingress.lines("webhook_received")[0]["worker"]
        pids = {line["worker"]: line["worker_pid"] for line in ingress.lines("worker_started")}

        psutil.Process(pids[busy]).kill()

        died = await eventually(lambda: ingress.lines("worker_died"))
        assert (died[0]["worker"], died[0]["exit_code"]) == (busy, -signal.SIGKILL)
        await eventually(lambda: len(ingress.lines("worker_started")) == 3)
        await eventually(ingress.sender.ready)
        assert await ingress.sender.metric("usher_publish_seconds_count") == 10
        await ingress.sender.send()
        assert await ingress.sender.metric("usher_publish_seconds_count") == 11


async def test_readiness_of_the_whole_names_the_worker_that_is_not_ready(tmp_path: Path) -> None:
    async with program(tmp_path, "amqp://127.0.0.1:1/", "--workers", "2", ready=False) as ingress:
        await eventually(lambda: len(ingress.lines("ingress_started")) == 2, timeout_s=START_TIMEOUT_S)
        answered = await ingress.sender.internal("/readyz")
        checks = json.loads(answered.body)["checks"]
        assert answered.status == 503
        assert set(checks) == {"worker-1", "worker-2"}
        assert all(trouble.startswith("broker: ") for trouble in checks.values())
        assert (await ingress.sender.internal("/livez")).status == 200


async def test_workers_do_not_outlive_a_parent_that_is_killed(tmp_path: Path, amqp_url: str) -> None:
    async with program(tmp_path, amqp_url, "--workers", "2") as ingress:
        workers = [psutil.Process(line["worker_pid"]) for line in ingress.lines("worker_started")]
        ingress.process.kill()
        await ingress.ended()
        await eventually(lambda: not any(worker.is_running() for worker in workers))
