"""TCP ports on the loopback address: the preferred one when it is free, else any free one."""

import random
import socket

LOOPBACK = "127.0.0.1"

# Below the range from which kernels take the ports of outgoing connections (32768 on Linux, 49152 on macOS):
# a server that binds seconds after the choice still finds its port free.
_CANDIDATES = range(20_000, 32_000)


def is_free(port: int, host: str = LOOPBACK) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    for port in random.SystemRandom().sample(_CANDIDATES, 200):
        if is_free(port):
            return port
    raise OSError("no free TCP port found on 127.0.0.1")


def preferred_or_free(port: int, *, taken: frozenset[int] = frozenset()) -> int:
    """`port` when nobody listens there and it is not among the already `taken`, else any free one."""
    if port not in taken and is_free(port):
        return port
    return next(other for other in iter(free_port, None) if other not in taken)
