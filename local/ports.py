"""TCP ports on the loopback address: the preferred one when it is free, else any free one."""

import random
import socket
from collections import deque
from urllib.parse import urlsplit

from local.settings import free_port_range

LOOPBACK = "127.0.0.1"

# Handed out lately by this process, and perhaps not listened on yet. Fewer than the smallest range has.
_given: deque[int] = deque(maxlen=500)


def is_free(port: int, host: str = LOOPBACK) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """One that this process has not been handed lately: a server may listen long after its port was chosen."""
    left = sorted(set(free_port_range()).difference(_given))
    for port in random.SystemRandom().sample(left, 200):
        if is_free(port):
            return _handed_out(port)
    raise OSError("no free TCP port found on 127.0.0.1")


def preferred_or_free(port: int, *, taken: frozenset[int] = frozenset()) -> int:
    """`port` when nobody listens there and it is not among the already `taken`, else any free one."""
    if port not in taken and is_free(port):
        return _handed_out(port)
    return next(other for other in iter(free_port, None) if other not in taken)


class Ports:
    """Chooses ports for one run, none twice; `notes` says which are other than expected."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._taken: set[int] = set()

    def choose(self, what: str, wished: int | None, last_url: str | None, default: int, host: str = LOOPBACK) -> int:
        preferred = wished or (urlsplit(last_url).port if last_url else None) or default
        if preferred not in self._taken and is_free(preferred, host):
            self._taken.add(preferred)
            return _handed_out(preferred)
        port = self.another()
        self.notes.append(f"port {preferred} is taken: {what} listens on {port}")
        return port

    def again(self, last_url: str | None) -> int:
        """The last run's, when it is to be had; nobody has to be told of another."""
        port = urlsplit(last_url).port if last_url else None
        if port is None or port in self._taken or not is_free(port):
            return self.another()
        self._taken.add(port)
        return _handed_out(port)

    def another(self) -> int:
        port = next(port for port in iter(free_port, None) if port not in self._taken)
        self._taken.add(port)
        return port


def _handed_out(port: int) -> int:
    _given.append(port)
    return port
