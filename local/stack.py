"""The whole system on embedded servers: RabbitMQ, PostgreSQL, ingress, consumers, lookup; what `usher up` runs.

`start` returns when every process is ready, or raises; `stop` ends all of it in reverse, whatever had started.
State (messages, rows, secrets) stays in the folder.
"""

import contextlib
import signal
import sys
from collections.abc import Callable, Mapping, Sequence

import psutil

from local import env
from local.child import Child
from local.errors import InterruptedStartError, ServerError
from local.ledger import Entry, Ledger
from local.plan import USER, ChildPlan, Plan
from local.postgres import PostgresCluster
from local.processes import last_words, wait_until
from local.rabbitmq import RabbitNode

PROGRAM = (sys.executable, "-m", "cli.main")

_SERVER_TIMEOUT_S = 120.0
_CHILD_TIMEOUT_S = 60.0
_DRAIN_TIMEOUT_S = 30.0

# What ends first has the highest stage.
_STAGE_CHILDREN = 2
_STAGE_SERVERS = 1
_STAGE_EPMD = 0


class Stack:
    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        *,
        interrupted: Callable[[], bool],
        say: Callable[[str], None],
        program: Sequence[str] = PROGRAM,
    ) -> None:
        """`interrupted`: asked all the time; `say`: told each step; `program`: the `usher` command."""
        self.plan = plan
        self.children: list[Child] = []
        self._ledger = ledger
        self._interrupted = interrupted
        self._say = say
        self._program = program
        self._reported: set[str] = set()
        self._logs = plan.folder / "log"
        self._rabbit = RabbitNode(
            plan.folder / "rabbitmq",
            amqp_port=plan.amqp_port,
            management_port=plan.management_port,
            user=USER,
            password=plan.rabbitmq_password,
        )
        self._postgres = PostgresCluster(
            plan.folder / "postgres", port=plan.postgres_port, user=USER, password=plan.postgres_password
        )

    def start(self) -> None:
        """Raises: ServerError with the last words of what failed; InterruptedStartError."""
        self._logs.mkdir(exist_ok=True)
        env.write_env(self.plan.folder, self.plan.written)
        self._launch_servers()
        self._say("starting PostgreSQL")
        self._until(self._postgres.ready, "PostgreSQL", _SERVER_TIMEOUT_S)
        self._run_once("migrate", "applying migrations")
        self._say("starting RabbitMQ")
        self._until(self._rabbit.ready, "RabbitMQ", _SERVER_TIMEOUT_S)
        self._record_servers()
        self._run_once("topology", "declaring the topology")
        for child_plan in self.plan.children:
            self._start_child(child_plan)
            if child_plan.first:
                self._until(self.children[-1].ready, child_plan.name, _CHILD_TIMEOUT_S)
        for child in self.children:
            self._say(f"waiting until {child.name} is ready")
            self._until(child.ready, child.name, _CHILD_TIMEOUT_S)
        self._ledger.ready = True
        self._ledger.save()

    def deaths(self) -> list[str]:
        """What has ended since the last call, in words. The place where supervision would start it again."""
        gone = [child for child in self.children if child.exit_code is not None]
        self.children = [child for child in self.children if child not in gone]
        return [child.obituary() for child in gone] + self._dead_servers()

    def stop(self) -> None:
        """Children first, all at once, so that they settle what they hold; then the servers."""
        with contextlib.ExitStack() as last_first:
            last_first.callback(self._ledger.clear)
            last_first.callback(self._stop_server, "RabbitMQ", self._rabbit)
            last_first.callback(self._stop_server, "PostgreSQL", self._postgres)
            self._stop_children()

    def _stop_children(self) -> None:
        if self.children:
            self._say(f"stopping {', '.join(child.name for child in reversed(self.children))}")
        for child in reversed(self.children):
            child.terminate()
        for child in reversed(self.children):
            if not child.wait(_DRAIN_TIMEOUT_S):
                self._say(f"{child.name} did not stop within {_DRAIN_TIMEOUT_S:.0f} s and was killed")

    def _stop_server(self, name: str, server: RabbitNode | PostgresCluster) -> None:
        if server.running:
            self._say(f"stopping {name}")
        server.stop()

    def _launch_servers(self) -> None:
        """Both at once: RabbitMQ takes seconds, and migrations need PostgreSQL only."""
        self._rabbit.launch()
        self._record_servers()
        self._postgres.launch()
        self._record_servers()

    def _run_once(self, verb: str, what: str) -> None:
        self._say(what)
        child = self._child(verb, (verb,), {})
        self._record(child, child.start())
        try:
            self._until(child.done, child.name, _CHILD_TIMEOUT_S)
        finally:
            child.terminate()
            child.wait(_DRAIN_TIMEOUT_S)

    def _start_child(self, plan: ChildPlan) -> None:
        child = self._child(plan.name, plan.arguments, plan.environment, plan.internal_port)
        self.children.append(child)
        self._record(child, child.start())

    def _child(
        self, name: str, arguments: Sequence[str], environment: Mapping[str, str], port: int | None = None
    ) -> Child:
        command = [*self._program, *arguments]
        return Child(name, command, self._logs / f"{name}.log", {**self.plan.environment, **environment}, port)

    def _record(self, child: Child, process: psutil.Process) -> None:
        self._ledger.record(Entry.of(child.name, process, stage=_STAGE_CHILDREN))

    def _record_servers(self) -> None:
        mapper = self._rabbit.epmd_process
        entries = [Entry.of("RabbitMQ", process, stage=_STAGE_SERVERS) for process in self._rabbit.node_processes]
        entries += [
            Entry.of("PostgreSQL", process, stage=_STAGE_SERVERS, stop=signal.SIGINT)
            for process in self._postgres.processes
        ]
        entries += [Entry.of("epmd", mapper, stage=_STAGE_EPMD)] if mapper else []
        self._ledger.record(*entries)

    def _dead_servers(self) -> list[str]:
        servers: dict[str, RabbitNode | PostgresCluster] = {"RabbitMQ": self._rabbit, "PostgreSQL": self._postgres}
        dead = [name for name, server in servers.items() if name not in self._reported and not server.running]
        self._reported.update(dead)
        return [f"{name} has ended. Its last lines:\n{last_words(servers[name].log)}" for name in dead]

    def _until(self, condition: Callable[[], bool], name: str, timeout_s: float) -> None:
        if not wait_until(lambda: self._interrupted() or condition(), timeout_s):
            raise ServerError(f"{name} was not ready within {timeout_s:.0f} s; its log is in {self.plan.folder}.")
        if self._interrupted():
            raise InterruptedStartError("stopped before everything was up.")
