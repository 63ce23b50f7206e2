"""`usher up` with everything real: each part is killed under webhooks, and all that was accepted is applied."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from local.env import read_env
from local.ledger import Ledger
from local.ports import free_port
from tests.support.broker import depth
from tests.support.eventually import eventually

USHER = (sys.executable, "-m", "cli.main")
ROOT = Path(__file__).parents[2]
PEOPLE = 30
WAIT_S = 90.0
PORTS = ("--port", "--amqp-port", "--management-port", "--postgres-port", "--lookup-port")


class Run:
    """One `usher up` in the foreground, and what it has said so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder.parent / "output"
        ports = [part for option in PORTS for part in (option, str(free_port()))]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*USHER, "up", "--folder", str(folder), *ports],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            )
        self.seen: set[psutil.Process] = set()

    def said(self, text: str) -> int:
        return self.output.read_text().count(text)

    async def until_said(self, *texts: str, times: int = 1) -> None:
        def all_said() -> bool:
            assert self.process.poll() is None, self.output.read_text()
            self.seen.update(self.alive())
            return all(self.said(text) >= times for text in texts)

        await eventually(all_said, timeout_s=WAIT_S, what=f"{texts} in {self.output.read_text()[-3000:]}")

    def alive(self, name: str | None = None) -> list[psutil.Process]:
        entries = Ledger.load(self.folder).entries
        found = [entry.process() for entry in entries if name in {None, entry.name}]
        return [process for process in found if process]

    def kill(self, *names: str) -> None:
        """Of RabbitMQ only the script around the Erlang machine: the supervisor has to end that."""
        for process in [process for name in names for process in self.alive(name)[:1]]:
            process.kill()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path / ".usher")
    yield run
    if run.process.poll() is None:
        run.process.terminate()
    run.process.wait(WAIT_S)


def _send(values: dict[str, str]) -> subprocess.Popen[str]:
    command = (*USHER, "send", "user.created", "--count", str(PEOPLE), "--rate", "2", "--retry", "60", "--json")
    environment = {**os.environ, **values, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)


async def _take_port(run: Run, name: str, port: int) -> socket.socket:
    """Kills `name` and has its port before it is started again."""
    taken: list[socket.socket] = []

    def kill_and_bind() -> bool:
        run.kill(name)
        with contextlib.suppress(OSError):
            taken.append(socket.create_server(("127.0.0.1", port)))
        return bool(taken)

    await eventually(kill_and_bind, timeout_s=WAIT_S)
    return taken[0]


@pytest.mark.timeout(400)
async def test_every_part_is_killed_under_webhooks_and_nothing_that_was_accepted_is_lost(run: Run) -> None:
    await run.until_said("try next")
    values = read_env(run.folder)
    lookup_port = int(values["LOOKUP_URL"].rpartition(":")[2])
    first = Ledger.load(run.folder).entries
    with _send(values) as sending, await _take_port(run, "lookup", lookup_port):
        await run.until_said("webhook_received")
        for names in [("PostgreSQL", "sync_user", "epmd"), ("RabbitMQ", "provision_database", "ingress")]:
            run.kill(*names)
            await run.until_said(*(f"{name} is ready again" for name in names))

        answers, _ = sending.communicate(timeout=WAIT_S)
        assert sending.returncode == 0, answers
        assert json.loads(answers.splitlines()[-1])["answers"] == {"202": PEOPLE}
        await _all_is_applied(values)

        # Its port was taken while it was dead.
        await run.until_said("lookup ended with exit code 2, 5 times in a row")
        assert "LOOKUP_PORT: cannot listen" in run.output.read_text().partition("5 times in a row")[2]
        assert read_env(run.folder) == values
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(WAIT_S) == 0

    assert run.said("stopped; data, ports and secrets are kept in") == 1
    for name in ("sync_user", "PostgreSQL", "provision_database", "RabbitMQ", "ingress", "epmd"):
        assert run.said(f"{name} was killed by SIGKILL; it is started again in") >= 1
    seen = run.seen | {process for entry in first if (process := entry.process())}
    assert [process for process in seen if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []
    assert not (run.folder / "state.json").exists()


async def _all_is_applied(values: dict[str, str]) -> None:
    connection = await asyncpg.connect(values["DATABASE_URL"])

    async def applied() -> bool:
        users = await connection.fetchval("select count(*) from users")
        ready = await connection.fetchval("select count(*) from databases where state = 'ready'")
        return (users, ready) == (PEOPLE, PEOPLE)

    try:
        await eventually(applied, timeout_s=WAIT_S, what="all webhooks are applied")
    finally:
        await connection.close()
    for effect in ("sync_user", "provision_database"):
        assert await depth(values["AMQP_URL"], f"usher.{effect}.dead") == 0
