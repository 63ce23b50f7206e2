"""A private PostgreSQL cluster: its own folder, loopback TCP only, a password, no Unix socket.

In: a folder, a port, a login. Out: a server that asks for that login before `start` returns.
Rows survive `stop`, `kill`, a change of port and a change of password. Runs as root too, under an ordinary user.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil

from local import programs
from local.errors import ServerError
from local.ports import LOOPBACK
from local.processes import family, how_it_ended, last_words, run, spawn, wait_until
from local.settings import inherited

_PROTOCOL_VERSION = 3 << 16
_ASKS_FOR_PASSWORD = b"R"
_STOP_TIMEOUT_S = 30.0
# Texts are in the order of their code points either way; as collation, C alone compares them without the system's help.
_LOCALE = "C.UTF-8" if sys.platform == "linux" else "C"
# Variables of the caller that may point at another server.
_FOREIGN = ("PG",)
# A place that every account can stand in; the caller's own folder may be closed to it.
_ROOT = Path("/")


class PostgresCluster:
    def __init__(  # noqa: PLR0913 - a server has as many settings as it has
        self,
        folder: Path,
        *,
        port: int,
        password: str,
        user: str = "usher",
        database: str = "usher",
        bin: Path | None = None,  # noqa: A002 - the field's own term for this folder
        fsync: bool = True,
        max_connections: int = 200,
        settings: Sequence[str] = (),
    ) -> None:
        """`fsync=False`: quicker, loses rows when the *machine* stops; for tests. `settings`: more `name=value`s."""
        self.folder = folder.absolute()
        self.port = port
        self.user = user
        self.password = password
        self.database = database
        self._bin = bin
        self._settings = [
            f"listen_addresses={LOOPBACK}",
            "unix_socket_directories=",
            f"max_connections={max_connections}",
            # synchronous_commit stays on: without it a kill of the server, too, takes committed rows along.
            *([] if fsync else ["fsync=off", "full_page_writes=off"]),
            *settings,
        ]
        self._fsync = fsync
        self._postmaster: subprocess.Popen[bytes] | None = None

    def url(self, database: str | None = None) -> str:
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        return f"postgresql://{login}@{LOOPBACK}:{self.port}/{quote(database or self.database, safe='')}"

    @property
    def log(self) -> Path:
        return self.folder / "postgres.log"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def pid(self) -> int:
        if self._postmaster is None:
            raise ServerError(f"the PostgreSQL cluster in {self.folder} is not running.")
        return self._postmaster.pid

    @property
    def processes(self) -> list[psutil.Process]:
        """What has to be found again later; the postmaster takes the rest of its family with it."""
        return [psutil.Process(self.pid)] if self.running else []

    @property
    def running(self) -> bool:
        return self._postmaster is not None and self._postmaster.poll() is None

    def how_it_ended(self) -> str:
        return how_it_ended((self._postmaster.poll() if self._postmaster else None) or 0)

    def start(self, timeout_s: float = 60) -> None:
        """Returns when the server asks for a password. The first start makes the cluster and its database.

        Raises: MissingServerError, ServerError with the server's last log lines.
        """
        if self.running:
            return
        self.launch()
        self.wait_ready(timeout_s)

    def launch(self) -> None:
        """Prepares the cluster and starts the server without waiting for an answer."""
        programs_folder = programs.postgres_bin(self._bin)
        account = _account()
        self._make_folder(account)
        with _reachable(self.folder, account) as (folder, fds):
            cluster = _Tools(programs_folder, account, folder, fds)
            if not self.data.exists():
                self._initialize(cluster)
            self._refuse_or_clear_lock()
            if self._password_file.read_text() != self.password:
                self._change_password(cluster)
            settings = [part for setting in (f"port={self.port}", *self._settings) for part in ("-c", setting)]
            self._postmaster = cluster.serve(self.log, settings)

    def wait_ready(self, timeout_s: float = 60) -> None:
        try:
            answered = wait_until(self.ready, timeout_s)
        except ServerError:
            self.kill()
            raise
        if not answered:
            self.kill()
            raise ServerError(f"PostgreSQL did not answer within {timeout_s:.0f} s.\n{last_words(self.log)}")

    def ready(self) -> bool:
        """Whether it answers already. Raises: ServerError when it has ended."""
        if not self.running:
            raise ServerError(f"PostgreSQL ended while starting.\n{last_words(self.log)}")
        return self._asks_for_password()

    def stop(self) -> None:
        """A fast shutdown: open transactions are rolled back; after 30 s SIGKILL."""
        if self._postmaster is None:
            return
        self.resume()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._postmaster.send_signal(signal.SIGINT)
            self._postmaster.wait(_STOP_TIMEOUT_S)
        self.kill()

    def kill(self) -> None:
        """SIGKILL of every process, as a crash would have it."""
        if self._postmaster is None:
            return
        # The postmaster first, and stopped before the list is taken: it would answer a dead child with a new one.
        self._postmaster.send_signal(signal.SIGSTOP)
        self._signal_family(signal.SIGKILL)
        self._postmaster.wait()
        self._postmaster = None

    def pause(self) -> None:
        """SIGSTOP for the postmaster and every backend: connections stay open and silent."""
        self._signal_family(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_family(signal.SIGCONT)

    def restart(self, timeout_s: float = 60) -> None:
        self.stop()
        self.start(timeout_s)

    @property
    def _password_file(self) -> Path:
        return self.folder / "password"

    def _signal_family(self, number: signal.Signals) -> None:
        for process in family(psutil.Process(self.pid)) if self.running else []:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _make_folder(self, account: str | None) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        if account:
            shutil.chown(self.folder, account, pwd.getpwnam(account).pw_gid)

    def _initialize(self, cluster: "_Tools") -> None:
        """Under another name until it is complete: a kill on the way leaves nothing that looks like a cluster."""
        unfinished = self.folder / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        self._write_password(cluster.account)
        sync = [] if self._fsync else ["--no-sync"]
        cluster.run(
            "initdb", "-D", cluster.folder / "data.new", "-U", self.user, "--auth=scram-sha-256",
            f"--pwfile={cluster.folder / 'password'}", "--encoding=UTF8", f"--locale={_LOCALE}", "--lc-collate=C",
            *sync,
        )  # fmt: skip
        cluster.single_user("data.new", f"CREATE DATABASE {_identifier(self.database)}")
        unfinished.rename(self.data)

    def _change_password(self, cluster: "_Tools") -> None:
        cluster.single_user("data", f"ALTER USER {_identifier(self.user)} PASSWORD {_literal(self.password)}")
        self._write_password(cluster.account)

    def _write_password(self, account: str | None) -> None:
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(self.password)
        if account:
            shutil.chown(self._password_file, account)

    def _refuse_or_clear_lock(self) -> None:
        """The server itself takes any live process that has got the old pid for its own earlier self."""
        lock = self.data / "postmaster.pid"
        if not lock.exists():
            return
        pid = int(lock.read_text().split()[0])
        if _serves(pid, self.data):
            raise ServerError(f"process {pid} already serves the PostgreSQL cluster in {self.folder}.")
        lock.unlink()

    def _asks_for_password(self) -> bool:
        fields = ("user", self.user, "database", self.database)
        body = struct.pack("!i", _PROTOCOL_VERSION) + b"".join(field.encode() + b"\0" for field in fields) + b"\0"
        try:
            with socket.create_connection((LOOPBACK, self.port), 1) as connection:
                connection.sendall(struct.pack("!i", len(body) + 4) + body)
                return connection.recv(1) == _ASKS_FOR_PASSWORD
        except OSError:
            return False


@dataclass(frozen=True)
class _Tools:
    """PostgreSQL's programs, run by `account` on a folder, as that account can reach it."""

    programs: Path
    account: str | None
    folder: Path
    fds: tuple[int, ...]

    def run(self, program: str, *arguments: str | Path, stdin: str = "") -> None:
        command = [self.programs / program, *arguments]
        done = run(
            command, cwd=_ROOT, env=inherited(without=_FOREIGN), user=self.account, pass_fds=self.fds, stdin=stdin
        )
        if done.returncode != 0:
            raise ServerError(f"{program} failed.\n{done.stdout}")

    def single_user(self, data: str, statement: str) -> None:
        self.run("postgres", "--single", "-D", self.folder / data, "postgres", stdin=f"{statement};\n")

    def serve(self, log: Path, settings: list[str]) -> subprocess.Popen[bytes]:
        command: list[str | Path] = [self.programs / "postgres", "-D", self.folder / "data", *settings]
        return spawn(command, log, cwd=_ROOT, env=inherited(without=_FOREIGN), user=self.account, pass_fds=self.fds)


def _account() -> str | None:
    """PostgreSQL refuses to run as root: the account to take instead, or None when we are somebody ordinary."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@contextlib.contextmanager
def _reachable(folder: Path, account: str | None) -> Iterator[tuple[Path, tuple[int, ...]]]:
    """A path by which `account` gets into `folder`, and the descriptors to hand down for it.

    Below a folder that is closed to it, such as /root, the account inherits the folder as an open descriptor and
    goes in through /proc/self/fd: no capability is granted and no permission on the way is changed.
    """
    probe: list[str | Path] = ["test", "-w", folder, "-a", "-x", folder]
    if account is None or run(probe, cwd=_ROOT, user=account).returncode == 0:
        yield folder, ()
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield Path(f"/proc/self/fd/{descriptor}"), (descriptor,)
    finally:
        os.close(descriptor)


def _serves(pid: int, data: Path) -> bool:
    try:
        process = psutil.Process(pid)
        return process.name().startswith("postgres") and Path(process.cwd()) == data
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _identifier(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def _literal(text: str) -> str:
    escaped = text.replace("'", "''")
    return f"'{escaped}'"
