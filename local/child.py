"""One of our own processes (ingress, consumer, migrate, topology): started, asked whether it is ready, ended."""

import http.client
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from local.errors import ServerError
from local.ports import LOOPBACK
from local.processes import how_it_ended, last_words, spawn

_ROOT = Path(__file__).resolve().parent.parent


class Child:
    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        internal_port: int | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._internal_port = internal_port
        # The program is found from any working folder, and its lines reach the log as they are written.
        paths = [str(_ROOT), *filter(None, [environment.get("PYTHONPATH")])]
        self._environment = {**environment, "PYTHONPATH": ":".join(paths), "PYTHONUNBUFFERED": "1"}
        self._popen: subprocess.Popen[bytes] | None = None
        # Where this run's lines begin in a log that earlier runs wrote to.
        self.log_start = 0

    def start(self) -> psutil.Process:
        self.log_start = self.log.stat().st_size if self.log.exists() else 0
        self._popen = spawn(self._command, self.log, env=self._environment)
        return psutil.Process(self._popen.pid)

    @property
    def process(self) -> psutil.Process | None:
        """The running process, for whoever has to find it again later."""
        return psutil.Process(self._popen.pid) if self._popen and self.exit_code is None else None

    @property
    def exit_code(self) -> int | None:
        """None while it runs; the negative number of the signal that killed it, as subprocess has it."""
        return self._popen.poll() if self._popen else None

    def ready(self) -> bool:
        """Whether /readyz says 200. Raises: ServerError with its last words when it has ended."""
        if self.exit_code is not None:
            raise ServerError(self.obituary())
        client = http.client.HTTPConnection(LOOPBACK, self._internal_port, timeout=2)
        try:
            client.request("GET", "/readyz")
            return client.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            client.close()

    def done(self) -> bool:
        """Whether it has run to its end, well. Raises: ServerError with its last words when it failed."""
        if self.exit_code:
            raise ServerError(self.obituary())
        return self.exit_code is not None

    def obituary(self) -> str:
        """How it ended, and the last lines that it wrote in this run."""
        return f"{self.name} {self.how_it_ended()}. Its last lines ({self.log}):\n{self.last_words() or '(none)'}"

    def how_it_ended(self) -> str:
        return how_it_ended(self.exit_code or 0)

    def last_words(self) -> str:
        return last_words(self.log, since=self.log_start)

    def terminate(self) -> None:
        if self._popen and self.exit_code is None:
            self._popen.send_signal(signal.SIGCONT)
            self._popen.terminate()

    def kill(self) -> None:
        """SIGKILL; nothing when it has ended, or was never started."""
        if self._popen:
            self._popen.kill()
            self._popen.wait()

    def wait(self, timeout_s: float) -> bool:
        """Waits for its end; kills it when the time is up and says whether it went by itself."""
        if not self._popen:
            return True
        try:
            self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        return True
