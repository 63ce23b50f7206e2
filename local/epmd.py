"""Erlang's port mapper on a port of its own, in the foreground, so that it can be ended by its pid.

Left to itself a RabbitMQ node starts a daemon on 4369 that outlives it and that every node of the machine shares.
"""

import socket
from pathlib import Path
from typing import TYPE_CHECKING

from local.errors import ServerError
from local.ports import LOOPBACK, free_port
from local.processes import how_it_ended, last_words, spawn, wait_until
from local.settings import inherited

if TYPE_CHECKING:
    import subprocess


class Epmd:
    def __init__(self, program: Path, log: Path, port: int | None = None) -> None:
        self._program = program
        self.log = log
        self._wanted_port = port
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, timeout_s: float = 10) -> None:
        """Once more on the same port after its end: a running node finds it there and registers again."""
        self.port = self._wanted_port or self.port or free_port()
        command: list[str | Path] = [self._program, "-address", LOOPBACK, "-port", str(self.port)]
        self.process = spawn(command, self.log, env=inherited())
        if not wait_until(self._answers_or_is_gone, timeout_s) or self.process.poll() is not None:
            self.stop()
            raise ServerError(f"epmd did not start on port {self.port}.\n{last_words(self.log)}")

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def how_it_ended(self) -> str:
        return how_it_ended((self.process.poll() if self.process else None) or 0)

    def last_words(self) -> str:
        return last_words(self.log)

    def _answers_or_is_gone(self) -> bool:
        if self.process and self.process.poll() is not None:
            return True
        try:
            socket.create_connection((LOOPBACK, self.port), 1).close()
        except OSError:
            return False
        return True
