"""A private RabbitMQ node: everything it reads, writes and listens on is its own folder's or loopback.

In: a folder, ports, a login. Out: AMQP and the management API, answering before `start` returns.
What was stored survives `stop`, `kill` and a change of ports, as long as folder and node name stay.
"""

import base64
import contextlib
import http.client
import re
import secrets
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import psutil

from local import programs
from local.epmd import Epmd
from local.errors import MissingServerError, ServerError
from local.ports import LOOPBACK, free_port
from local.processes import family, how_it_ended, last_words, run, spawn, wait_until
from local.settings import inherited

_PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
_METHOD_FRAME = b"\x01"
_ON_LOOPBACK = "-kernel inet_dist_use_interface {127,0,0,1}"
_STOP_TIMEOUT_S = 30.0
# Erlang reports a failed start at length, after the line that says why.
_LAST_WORDS_LINES = 60
_KILLED = 128
_FOREIGN = ("RABBITMQ_", "ERL_")
_PLAIN = re.compile(r"\w[\w-]*", re.ASCII)


class RabbitNode:
    def __init__(  # noqa: PLR0913 - a server has as many settings as it has
        self,
        folder: Path,
        *,
        amqp_port: int,
        management_port: int,
        user: str,
        password: str,
        server: Path | None = None,
        node_name: str = "usher@localhost",
        cookie: str | None = None,
        epmd_port: int | None = None,
        plugins: Sequence[str] = ("rabbitmq_management",),
        extra_config: Sequence[str] = (),
    ) -> None:
        """`epmd_port`: a port mapper that the caller runs, shared by the nodes of a cluster; else one of our own.

        `cookie`: the same for all nodes of a cluster; else generated once per folder.
        """
        if not (_PLAIN.fullmatch(user) and _PLAIN.fullmatch(password)):
            raise ValueError("user and password may hold letters, digits, _ and - only: rabbitmq.conf has no quotes.")
        self.folder = folder.absolute()
        self.amqp_port = amqp_port
        self.management_port = management_port
        self.user = user
        self.password = password
        self.node_name = node_name
        self._server = server
        self._cookie = cookie
        self._epmd_port = epmd_port
        self._plugins = plugins
        self._extra_config = extra_config
        self._epmd: Epmd | None = None
        self._script: subprocess.Popen[bytes] | None = None
        self._beam: psutil.Process | None = None

    @property
    def amqp_url(self) -> str:
        return f"amqp://{quote(self.user)}:{quote(self.password)}@{LOOPBACK}:{self.amqp_port}/"

    @property
    def management_url(self) -> str:
        return f"http://{LOOPBACK}:{self.management_port}"

    @property
    def log(self) -> Path:
        return self.folder / "log" / f"{self.node_name}.log"

    @property
    def pid(self) -> int:
        """The pid of the Erlang machine, not of the shell script around it."""
        return self._machine().pid

    @property
    def node_processes(self) -> list[psutil.Process]:
        """The running node, for whoever has to find it again later: the Erlang machine and the script around it."""
        script = [psutil.Process(self._script.pid)] if self._script and self.running else []
        return [*script, *([self._beam] if self._beam else [])]

    @property
    def epmd_process(self) -> psutil.Process | None:
        return psutil.Process(self._epmd.process.pid) if self._epmd and self._epmd.process else None

    @property
    def epmd(self) -> Epmd | None:
        """Our own port mapper, from the launch on; a shared one is its owner's business."""
        return self._epmd

    @property
    def running(self) -> bool:
        return self._script is not None and self._script.poll() is None

    def how_it_ended(self) -> str:
        """When the machine was killed, the script around it ends with 0, and its shell says so on the console.

        From 4.x on it ends as a shell does instead: with 128 and the signal.
        """
        code = self._script.poll() if self._script else None
        if code and code > _KILLED:
            return how_it_ended(_KILLED - code)
        last_line = last_words(self._console, lines=1)
        killer = next((number for number in signal.Signals if (signal.strsignal(number) or "?") in last_line), 0)
        return how_it_ended(code or -killer)

    def start(self, timeout_s: float = 60) -> None:
        """Returns when AMQP and the management API answer.

        Raises: MissingServerError, ServerError with the node's last log lines.
        """
        if self.running:
            return
        self.launch()
        self.wait_ready(timeout_s)

    def launch(self) -> None:
        """Starts the processes without waiting for an answer."""
        script = programs.rabbitmq_server(self._server)
        self._refuse_second_node()
        self._write_configuration()
        self._start_epmd(script)
        (self.folder / "log").mkdir(exist_ok=True)
        self._script = spawn([script], self._console, env=self._environment(), cwd=self.folder)

    def wait_ready(self, timeout_s: float = 60) -> None:
        try:
            answered = wait_until(self.ready, timeout_s)
        except ServerError:
            self.kill()
            raise
        if not answered:
            self.kill()
            raise ServerError(f"RabbitMQ did not answer within {timeout_s:.0f} s.\n{self.last_words()}")

    def ready(self) -> bool:
        """Whether AMQP and the management API answer already. Raises: ServerError when the node has ended."""
        if not self.running:
            raise ServerError(f"RabbitMQ ended while starting.\n{self.last_words()}")
        if self._beam is None and self._answers():
            self._beam = self._find_machine()
        return self._beam is not None

    def stop(self) -> None:
        """A clean shutdown; after 30 s without one, SIGKILL."""
        machine = self._find_machine()
        if self._script and machine:
            # A paused process would take its SIGTERM only once it is continued.
            with contextlib.suppress(psutil.NoSuchProcess, subprocess.TimeoutExpired):
                machine.resume()
                machine.terminate()
                self._script.wait(_STOP_TIMEOUT_S)
        self.kill()

    def kill(self) -> None:
        """SIGKILL, as a crash would have it."""
        if self._script:
            if self.running:
                _kill_below(self._script)
            self._script.wait()
        if self._beam:
            _end_orphan(self._beam)
        self._script = None
        self._beam = None
        if self._epmd:
            self._epmd.stop()
            self._epmd = None

    def pause(self) -> None:
        """SIGSTOP: alive for the kernel, silent for everybody else."""
        self._machine().suspend()

    def resume(self) -> None:
        self._machine().resume()

    def restart(self, timeout_s: float = 60) -> None:
        self.stop()
        self.start(timeout_s)

    def ctl(self, *arguments: str, timeout_s: float = 60) -> str:
        """Runs rabbitmqctl against this node and gives back what it printed.

        Raises: ServerError when it fails.
        """
        program = programs.rabbitmq_server(self._server).parent / "rabbitmqctl"
        if not program.is_file():
            raise MissingServerError(
                f"rabbitmqctl has to stand beside the rabbitmq-server script, in {program.parent}."
            )
        command: list[str | Path] = [program, "-q", "-n", self.node_name, *arguments]
        done = run(command, env=self._environment(), timeout_s=timeout_s)
        if done.returncode != 0:
            raise ServerError(f"rabbitmqctl {arguments[0]} failed.\n{done.stdout}")
        return done.stdout

    @property
    def _data(self) -> Path:
        return self.folder / "mnesia"

    @property
    def _console(self) -> Path:
        return self.folder / "log" / "console.log"

    def last_words(self) -> str:
        return "\n".join(filter(None, (last_words(log, lines=_LAST_WORDS_LINES) for log in (self.log, self._console))))

    def _machine(self) -> psutil.Process:
        if self._beam is None:
            raise ServerError(f"the RabbitMQ node in {self.folder} is not running.")
        return self._beam

    def _find_machine(self) -> psutil.Process | None:
        if not self._script or not self.running:
            return None
        members = family(psutil.Process(self._script.pid))
        return next((process for process in members if process.name().startswith("beam")), None)

    def _refuse_second_node(self) -> None:
        """Two nodes on one folder, each with its own epmd, would not notice each other and destroy the data."""
        for process in psutil.process_iter(["name"]):
            if (process.info["name"] or "").startswith("beam") and _serves(process, self._data):
                raise ServerError(f"process {process.pid} already serves the RabbitMQ node in {self.folder}.")

    def _start_epmd(self, script: Path) -> None:
        if self._epmd_port is None and self._epmd is None:
            self._epmd = Epmd(programs.epmd(script), self.folder / "epmd.log")
            self._epmd.start()

    def _write_configuration(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        self._write_cookie()
        plugins = ",".join(self._plugins)
        (self.folder / "enabled_plugins").write_text(f"[{plugins}].\n")
        (self.folder / "env.conf").write_text("")
        lines = [
            f"listeners.tcp.default = {LOOPBACK}:{self.amqp_port}",
            f"management.tcp.ip = {LOOPBACK}",
            f"management.tcp.port = {self.management_port}",
            f"default_user = {self.user}",
            f"default_pass = {self.password}",
            "log.console = false",
            *self._extra_config,
        ]
        (self.folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n")

    def _write_cookie(self) -> None:
        path = self.folder / ".erlang.cookie"
        if path.exists() and self._cookie in {None, path.read_text() if path.exists() else None}:
            return
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text(self._cookie or secrets.token_hex(20))
        path.chmod(0o400)

    def _environment(self) -> dict[str, str]:
        """Ours alone: a RABBITMQ_… or ERL_… variable of the caller may belong to another node."""
        epmd_port = self._epmd_port or (self._epmd.port if self._epmd else 0)
        return inherited(without=_FOREIGN) | {
            "HOME": str(self.folder),
            "RABBITMQ_NODENAME": self.node_name,
            "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
            "RABBITMQ_NODE_PORT": str(self.amqp_port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(self._data),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "none"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ON_LOOPBACK,
            "RABBITMQ_CTL_ERL_ARGS": _ON_LOOPBACK,
            "ERL_EPMD_PORT": str(epmd_port),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ELIXIR_ERL_OPTIONS": "+fnu",
        }

    def _answers(self) -> bool:
        if not self._speaks_amqp():
            return False
        status = self._management_status()
        if status == http.HTTPStatus.UNAUTHORIZED:
            self._reset_login()
        return status == http.HTTPStatus.OK

    def _reset_login(self) -> None:
        """The folder is older than the password: default_user counts on a blank node only."""
        if self.user not in {line.split("\t")[0] for line in self.ctl("list_users").splitlines()}:
            self.ctl("add_user", self.user, self.password)
        # As an argument: rabbitmqctl 4.0 waits for ever for a password on its standard input.
        self.ctl("change_password", self.user, self.password)
        self.ctl("set_user_tags", self.user, "administrator")
        self.ctl("set_permissions", self.user, ".*", ".*", ".*")

    def _speaks_amqp(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.amqp_port), 1) as connection:
                connection.sendall(_PROTOCOL_HEADER)
                return connection.recv(1) == _METHOD_FRAME
        except OSError:
            return False

    def _management_status(self) -> int:
        login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        client = http.client.HTTPConnection(LOOPBACK, self.management_port, timeout=5)
        try:
            client.request("GET", "/api/whoami", headers={"Authorization": f"Basic {login}"})
            return client.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            client.close()


def _serves(process: psutil.Process, data: Path) -> bool:
    try:
        return process.environ().get("RABBITMQ_MNESIA_BASE") == str(data) and process.is_running()
    except psutil.Error:
        return False


def _end_orphan(machine: psutil.Process) -> None:
    """The machine goes on when only the script around it was killed."""
    with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
        machine.kill()
        machine.wait(5)


def _kill_below(script: subprocess.Popen[bytes]) -> None:
    """Kills the Erlang machine and leaves the shell script a moment to bury it, else it stays as a zombie."""
    for process in family(psutil.Process(script.pid))[1:]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    try:
        script.wait(5)
    except subprocess.TimeoutExpired:
        script.kill()
