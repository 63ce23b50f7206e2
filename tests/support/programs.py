"""Usher's own programs as processes, the way an operator starts them."""

import asyncio
import base64
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

from cli.posting import Order, Secrets, Tally, post_all
from local.ports import free_port
from tests.support.eventually import eventually

SIGNING_SECRET: Final = "whsec_" + base64.b64encode(b"24 bytes for the tests..").decode()
HOOKDECK_SECRET: Final = "hookdeck-test-secret"
STOP_TIMEOUT_S: Final = 60


@dataclass(slots=True)
class Program:
    """One `usher …` process; its log is in `log`."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    internal_port: int
    module: str = "cli.main"
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module, *self.arguments],
                env={**_plain_environment(), **self.environment},
                stdout=log,
                stderr=log,
            )

    async def ready(self, timeout_s: float = 60) -> None:
        async def answers() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.arguments} ended:\n{self.log.read_text()[-3000:]}")
            return (await self.readiness())[0] == 200

        await eventually(answers, timeout_s=timeout_s, what=f"{self.arguments} ready")

    async def readiness(self) -> tuple[int, str]:
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{self.internal_port}/readyz") as response,
            ):
                return response.status, await response.text()
        except aiohttp.ClientError as error:
            return 0, str(error)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return None if self.process is None else self.process.poll()

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    async def stop(self) -> int:
        """SIGTERM, and its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, STOP_TIMEOUT_S)


@dataclass(slots=True)
class System:
    """An ingress and consumers over one vhost and one database."""

    ingress: Program
    consumers: list[Program]
    public_port: int
    programs: list[Program] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.public_port}/webhooks/clerk"

    def order(self, *types: str, **details: object) -> Order:
        secrets = Secrets(clerk=SIGNING_SECRET, hookdeck=HOOKDECK_SECRET)
        return Order(url=self.url, types=types, secrets=secrets, **details)  # type: ignore[arg-type] # as the test says

    async def send(self, *types: str, **details: object) -> Tally:
        """Send webhooks as `usher send` does; returns the answers."""
        tally = Tally()
        await post_all(self.order(*types, **details), tally, lambda: None)
        return tally


@asynccontextmanager
async def system(
    folder: Path,
    *,
    amqp_url: str,
    database_url: str,
    copies: int = 1,
    environment: Mapping[str, str] | None = None,
    module: str = "cli.main",
) -> AsyncIterator[System]:
    """The whole of Usher: one ingress and `copies` of each consumer, ready; stopped cleanly on leaving.

    `module` stands for the `usher` command: it takes its arguments.
    """
    public_port = free_port()
    shared = {
        "AMQP_URL": amqp_url,
        "DATABASE_URL": database_url,
        "CLERK_WEBHOOK_SIGNING_SECRET": SIGNING_SECRET,
        "HOOKDECK_WEBHOOK_SECRET": HOOKDECK_SECRET,
        "DELETION_HOLDBACK": "0",
        "LOG_FORMAT": "json",
        **(environment or {}),
    }
    ingress = _program(folder, ("ingress",), {**shared, "INGRESS_PORT": str(public_port)}, "INGRESS_INTERNAL_PORT")
    consumers = [
        _program(folder, ("consumer", effect), shared, "CONSUMER_INTERNAL_PORT", number)
        for effect in ("sync_user", "provision_database")
        for number in range(copies)
    ]
    programs = [ingress, *consumers]
    for program in programs:
        program.module = module
        program.start()
    try:
        for program in programs:
            await program.ready()
        yield System(ingress, consumers, public_port, programs)
        codes = [await program.stop() for program in programs if program.alive]
        assert codes == [0] * len(codes), [program.log.read_text()[-2000:] for program in programs]
    finally:
        for program in programs:
            if program.alive:
                program.kill()


def _program(
    folder: Path,
    arguments: tuple[str, ...],
    environment: Mapping[str, str],
    port_name: str,
    number: int = 0,
) -> Program:
    port = free_port()
    log = folder / f"{'-'.join(arguments)}-{number}.log"
    return Program(arguments, {**environment, port_name: str(port)}, log, port)


def _plain_environment() -> dict[str, str]:
    """What a program needs to run at all, and nothing that could point it at another system."""
    kept = ("PATH", "HOME", "LANG", "PYTHONPATH", "COVERAGE_PROCESS_START", "COVERAGE_FILE", "USHER_FREE_PORTS")
    return {name: os.environ[name] for name in kept if name in os.environ}
