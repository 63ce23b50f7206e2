"""What a scenario breaks: a running Usher of its own on real servers, under a load that it starts.

How it comes about is in tests/chaos/setup.py.
"""

import asyncio
import contextlib
import signal
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import asyncpg

from local.ports import free_port
from local.postgres import PostgresCluster
from local.rabbitmq import RabbitNode
from local.xata import XataStandIn
from tests.chaos.broker import BrokerWatch
from tests.chaos.load import Load, make_load
from tests.support.cluster import RabbitCluster
from tests.support.eventually import eventually
from tests.support.programs import Program, System
from tests.support.tcp_proxy import TcpProxy

PATH: Final = "/webhooks/clerk"
LOAD_WITHIN_S: Final = 120.0
LOAD_LASTS_S: Final = 3.0

CleanUp = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Setting:
    """How the system of a scenario is set up. `proxied`: a TCP proxy between the programs and that server.

    `patience_s`: what takes long by design, beyond the patience that a run has with all.
    """

    copies: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    broker_proxied: bool = False
    postgres_proxied: bool = False
    amqp_query: str = ""
    on_xata: bool = False
    patience_s: float = 0.0
    clustered: bool = False


@dataclass(frozen=True, slots=True)
class Ground:
    """What all scenarios of a run stand on; `users` is the size of a load, `lives` how often a program is killed."""

    rabbit: RabbitNode
    postgres: PostgresCluster
    folder: Path
    users: int
    cluster: RabbitCluster | None = None
    mutation: str | None = None
    patience_s: float = 90.0
    lives: int = 3


@dataclass(slots=True)
class World:
    """One scenario's system, and what it has sent. `repaired` marks the moment from which recovery is counted."""

    name: str
    ground: Ground
    setting: Setting
    amqp_url: str
    database_url: str
    usher: System
    broker_proxy: TcpProxy | None = None
    postgres_proxy: TcpProxy | None = None
    loads: list[Load] = field(default_factory=list)
    expected_dead: dict[str, set[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    may_blame: bool = False
    cleanups: list[CleanUp] = field(default_factory=list)
    xata: XataStandIn | None = None
    repaired_at: float = 0.0
    watch: BrokerWatch | None = None

    @property
    def rabbit(self) -> RabbitNode:
        return self.ground.rabbit

    @property
    def cluster(self) -> RabbitCluster:
        assert self.ground.cluster is not None
        return self.ground.cluster

    @property
    def postgres(self) -> PostgresCluster:
        return self.ground.postgres

    @property
    def consumers(self) -> list[Program]:
        return self.usher.consumers

    @asynccontextmanager
    async def load(
        self, *, users: int | None = None, lasts_s: float = LOAD_LASTS_S, url: str | None = None, skew_s: int = 0
    ) -> AsyncIterator[Load]:
        """Webhooks are sent while the block runs; on leaving it all of them have been accepted."""
        seed = zlib.crc32(f"{self.name} {len(self.loads)}".encode())
        order = self.usher.order() if url is None else replace(self.usher.order(), url=url)
        load = make_load(order, users=users or self.ground.users, rate=1, seed=seed)
        load.rate, load.skew_s = len(load.webhooks) / lasts_s, skew_s
        self.loads.append(load)
        async with load.under_way(LOAD_WITHIN_S):
            yield load

    def repaired(self) -> None:
        """Now nothing is broken any more; what is left to do the system does by itself."""
        self.repaired_at = time.monotonic()
        if self.watch is not None:
            self.watch.cancel()
        expected = self.setting.copies
        self.watch = BrokerWatch(self.amqp_url, consumers=expected, since=self.repaired_at)

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Any]:
        """A connection of our own to the control database."""
        connection = await asyncpg.connect(self.database_url, timeout=10)
        try:
            yield connection
        finally:
            with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await connection.close(timeout=5)

    async def existing(self, users: Mapping[str, str]) -> Counter[str]:
        """How many databases each user has at the provider; `users` by the database's name."""
        if self.xata is not None:
            return Counter(users[branch.name] for branch in self.xata.live_branches() if branch.name in users)
        async with self.database() as connection:
            statement = "select datname from pg_database where datname = any($1) and datallowconn"
            return Counter(users[row["datname"]] for row in await connection.fetch(statement, list(users)))

    def mend(self) -> None:
        """Servers and programs as they were, whatever has been done to them."""
        for server in (self.postgres, self.rabbit, *(self.ground.cluster.nodes if self.ground.cluster else ())):
            server.start()
        self.rabbit.ctl("set_vm_memory_high_watermark", "0.4")
        self.rabbit.ctl("set_disk_free_limit", "50MB")
        for program in self.usher.programs:
            if not program.alive:
                program.start()
            program.signal(signal.SIGCONT)

    def expect(self, that: object, problem: str) -> None:
        """What a scenario sees on the way and the accounting cannot see afterwards."""
        if not that:
            self.problems.append(problem)

    async def second_ingress(self, **environment: str) -> tuple[Program, str]:
        """Another one at a port of its own, and where it takes webhooks; it is stopped with the others."""
        port, internal = free_port(), free_port()
        first = self.usher.ingress
        ports = {"INGRESS_PORT": str(port), "INGRESS_INTERNAL_PORT": str(internal)}
        log = first.log.with_name("second-ingress.log")
        ingress = Program(first.arguments, {**first.environment, **ports, **environment}, log, internal, first.module)
        ingress.start()
        self.usher.programs.append(ingress)
        return ingress, f"http://127.0.0.1:{port}{PATH}"

    async def command(self, *arguments: str, **environment: str) -> int:
        """The exit code of a verb that ends by itself."""
        ingress = self.usher.ingress
        log = ingress.log.with_name(f"{arguments[0]}.log")
        verb = Program(arguments, {**ingress.environment, **environment}, log, 0, ingress.module)
        verb.start()
        assert verb.process is not None
        return await asyncio.to_thread(verb.process.wait, 60)

    @asynccontextmanager
    async def supervised(self) -> AsyncIterator[None]:
        """Programs that end are started again while the block runs, as a process manager would."""

        async def watch() -> None:
            while True:
                for program in self.usher.programs:
                    if not program.alive:
                        program.start()
                await asyncio.sleep(0.1)

        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            watching.cancel()

    async def applied(self, users: int = 1) -> None:
        """Returns when so many users have a row."""

        async def enough() -> bool:
            async with self.database() as connection:
                return bool(await connection.fetchval("select count(*) from user_guards") >= users)

        await eventually(enough, timeout_s=60, what=f"{users} users are in the table")

    async def again(self, program: Program, **environment: str) -> None:
        """Kill -9 if need be, and start again, with `environment` added for this life only."""
        if program.alive:
            program.kill()
        usual = program.environment
        program.environment = {**usual, **environment}
        program.start()
        program.environment = usual
