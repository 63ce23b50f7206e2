"""Programs as child processes: Usher's own as an operator starts them, and the peers; what they cost in CPU and memory.

Promise: whatever was started has ended when the block is left, by Ctrl-C too.
"""

import asyncio
import contextlib
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from bench.servers import Servers
from bench.webhooks import SIGNING_SECRET
from local.child import Child
from local.errors import ServerError
from local.ports import LOOPBACK, free_port
from local.processes import family

_READY_TIMEOUT_S: Final = 60.0
_STOP_TIMEOUT_S: Final = 30.0
_KEPT: Final = ("PATH", "HOME", "LANG")


@dataclass(frozen=True, slots=True)
class Program:
    """What to start. `internal` programs are asked at /readyz; others are ready when they take connections."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    port: int
    internal_port: int | None = None


@dataclass(slots=True)
class Running:
    """One that runs."""

    program: Program
    process: psutil.Process
    ready_after_s: float

    @property
    def port(self) -> int:
        return self.program.port

    def cpu_s(self) -> float:
        """CPU seconds of the process and its children so far."""
        total = 0.0
        for member in family(self.process):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = member.cpu_times()
                total += times.user + times.system
        return total

    def rss_mb(self) -> list[float]:
        """Resident memory of each process of the family, the starter first."""
        found = []
        for member in family(self.process):
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(member.memory_info().rss / 1e6)
        return found


def usher(servers: Servers, *arguments: str, database_url: str | None = None, **settings: str) -> Program:
    """`usher …` with production's settings and ports of its own."""
    port, internal_port = free_port(), free_port()
    environment = {
        "AMQP_URL": servers.amqp_url,
        "DATABASE_URL": database_url or servers.postgres.url(),
        "CLERK_WEBHOOK_SIGNING_SECRET": SIGNING_SECRET,
        "INGRESS_PORT": str(port),
        "INGRESS_INTERNAL_PORT": str(internal_port),
        "CONSUMER_INTERNAL_PORT": str(internal_port),
        "LOG_FORMAT": "json",
        **settings,
    }
    command = (sys.executable, "-m", "cli.main", *arguments)
    return Program("-".join(arguments), command, environment, port, internal_port)


def peer(name: str, command: Sequence[str], servers: Servers, *, database_url: str = "", **settings: str) -> Program:
    port = free_port()
    environment = {
        "PORT": str(port),
        "AMQP_URL": servers.amqp_url,
        "DATABASE_URL": database_url,
        "SIGNING_SECRET": SIGNING_SECRET,
        **settings,
    }
    return Program(name, tuple(command), environment, port)


@asynccontextmanager
async def running(program: Program, folder: Path) -> AsyncIterator[Running]:
    """Started and ready.

    Raises:
        ServerError: it ended, or was not ready within a minute; with its last lines.
    """
    plain = {name: os.environ[name] for name in _KEPT if name in os.environ}
    log = folder / f"{program.name}-{program.port}.log"
    child = Child(program.name, program.command, log, {**plain, **program.environment}, program.internal_port)
    started = time.perf_counter()
    process = child.start()
    try:
        await _ready(child, program, started)
        yield Running(program, process, time.perf_counter() - started)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()
        child.terminate()
        child.wait(_STOP_TIMEOUT_S)


async def _ready(child: Child, program: Program, started: float) -> None:
    while not (child.ready() if program.internal_port else _listens(child, program.port)):
        if time.perf_counter() - started > _READY_TIMEOUT_S:
            raise ServerError(f"{program.name} was not ready within {_READY_TIMEOUT_S:.0f} s: see {child.log}")
        await asyncio.sleep(0.01)


async def closed(port: int) -> bool:
    """Whether nobody listens there any more."""
    return not _taken(port)


def _listens(child: Child, port: int) -> bool:
    if child.exit_code is not None:
        raise ServerError(child.obituary())
    return _taken(port)


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0
