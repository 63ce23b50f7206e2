"""The whole system on embedded servers: RabbitMQ, PostgreSQL, ingress, consumers, lookup; what `usher up` runs.

`start` returns when every process is ready, or raises; from then on `supervise` starts again what has ended; `stop`
ends all of it in reverse, whatever had started. State (messages, rows, secrets) stays in the folder.
"""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from local import env
from local.child import Child
from local.errors import InterruptedStartError, ServerError
from local.ledger import Deaths, Entry, Ledger
from local.parts import child_part, epmd_part, postgres_part, rabbitmq_part
from local.plan import USER, ChildPlan, Plan
from local.postgres import PostgresCluster
from local.processes import wait_until
from local.rabbitmq import RabbitNode
from local.supervisor import Death, Supervisor

PROGRAM = (sys.executable, "-m", "cli.main")

_SERVER_TIMEOUT_S = 120.0
_CHILD_TIMEOUT_S = 60.0
_DRAIN_TIMEOUT_S = 30.0
_WRITE_TIMEOUT_S = 10.0

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
        self._supervisor: Supervisor | None = None
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
        self._write_registrations()
        for child in self.children:
            self._say(f"waiting until {child.name} is ready")
            self._until(child.ready, child.name, _CHILD_TIMEOUT_S)
        self._supervisor = self._supervision()
        self._ledger.ready = True
        self._ledger.save()

    def supervise(self) -> list[str]:
        """Starts again what has ended, when it is time; says what has happened since the last call. Never waits."""
        return self._supervisor.look() if self._supervisor else []

    def stop(self) -> None:
        """Children first, all at once, so that they settle what they hold; then the servers."""
        with contextlib.ExitStack() as last_first:
            last_first.callback(self._ledger.clear)
            last_first.callback(self._stop_server, "RabbitMQ", self._rabbit)
            last_first.callback(self._stop_server, "PostgreSQL", self._postgres)
            self._stop_children()

    def _stop_children(self) -> None:
        running = [child.name for child in reversed(self.children) if child.exit_code is None]
        if running:
            self._say(f"stopping {', '.join(running)}")
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
        self._ledger.record(Entry.of(child.name, child.start(), stage=_STAGE_CHILDREN))
        try:
            self._until(child.done, child.name, _CHILD_TIMEOUT_S)
        finally:
            child.terminate()
            child.wait(_DRAIN_TIMEOUT_S)

    def _start_child(self, plan: ChildPlan) -> None:
        child = self._child(plan.name, plan.arguments, plan.environment, plan.internal_port)
        self.children.append(child)
        self._ledger.record(Entry.of(child.name, child.start(), stage=_STAGE_CHILDREN))

    def _child(
        self, name: str, arguments: Sequence[str], environment: Mapping[str, str], port: int | None = None
    ) -> Child:
        command = [*self._program, *arguments]
        return Child(name, command, self._logs / f"{name}.log", {**self.plan.environment, **environment}, port)

    def _record_servers(self) -> None:
        self._ledger.record(*self._server_entries())

    def _record_all(self) -> None:
        self._ledger.record(*self._server_entries(), *self._child_entries())

    def _server_entries(self) -> list[Entry]:
        mapper = self._rabbit.epmd_process
        entries = [Entry.of("RabbitMQ", process, stage=_STAGE_SERVERS) for process in self._rabbit.node_processes]
        entries += [
            Entry.of("PostgreSQL", process, stage=_STAGE_SERVERS, stop=signal.SIGINT)
            for process in self._postgres.processes
        ]
        return entries + ([Entry.of("epmd", mapper, stage=_STAGE_EPMD)] if mapper else [])

    def _child_entries(self) -> list[Entry]:
        running = [(child.name, process) for child in self.children if (process := child.process)]
        return [Entry.of(name, process, stage=_STAGE_CHILDREN) for name, process in running]

    def _supervision(self) -> Supervisor:
        servers = [postgres_part(self._postgres), rabbitmq_part(self._rabbit), epmd_part(self._rabbit)]
        children = [child_part(child) for child in self.children]
        return Supervisor([*servers, *children], record=self._record_all, died=self._note_death)

    def _note_death(self, death: Death) -> None:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        self._ledger.deaths[death.part] = Deaths(death.total, death.how, at)
        # A full disk is no reason to leave the part dead.
        with contextlib.suppress(OSError):
            self._ledger.save()

    def _write_registrations(self) -> None:
        """RabbitMQ writes where a new quorum queue lies within a second, not before it answers.

        A kill -9 in between leaves the queue without a leader for good (3.10, 4.0), with all that was stored in it.
        """
        # A node that does not know the table, or is too busy to answer, writes it by itself a moment later.
        with contextlib.suppress(ServerError, subprocess.TimeoutExpired):
            self._rabbit.ctl("eval", "dets:sync(ra_directory_reverse).", timeout_s=_WRITE_TIMEOUT_S)

    def _until(self, condition: Callable[[], bool], name: str, timeout_s: float) -> None:
        if not wait_until(lambda: self._interrupted() or condition(), timeout_s):
            raise ServerError(f"{name} was not ready within {timeout_s:.0f} s; its log is in {self.plan.folder}.")
        if self._interrupted():
            raise InterruptedStartError("stopped before everything was up.")
