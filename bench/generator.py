"""The load generator as this side sees it: a child process that takes orders and gives answers."""

import asyncio
import itertools
import json
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from bench.load import Answers, Order

_ROOT: Final = Path(__file__).resolve().parent.parent
_GRACE_S: Final = 60.0
_LINE_BYTES: Final = 64 * 1024 * 1024


class Generator:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        # Another run's users are other users.
        self._tags = (f"{secrets.token_hex(3)}{number:x}g" for number in itertools.count(1))

    async def send(self, port: int, connections: int, seconds: float, **details: Any) -> Answers:
        """Carry out one order; it is over `seconds` (and a little) later, come what may."""
        order = Order(port=port, connections=connections, seconds=seconds, tag=next(self._tags), **details)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(order)).encode() + b"\n")
        async with asyncio.timeout(seconds + _GRACE_S):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("the load generator ended: see what it has written above")
        return Answers(**json.loads(line))


@asynccontextmanager
async def generator() -> AsyncIterator[Generator]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.load",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
        start_new_session=True,
        limit=_LINE_BYTES,
    )
    try:
        yield Generator(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
