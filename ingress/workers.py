"""Several ingress processes on one public port, looked after by a parent that serves the internal port for all.

The kernel spreads connections over the workers. Promise: a worker that dies is started again; ready means all are.
"""

import asyncio
import contextlib
import functools
import json
import multiprocessing
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Final

import aiohttp
import structlog
from aiohttp import web

from ingress.process import Close, loop_factory, serve_on_tcp, serve_until_stopped, stop_on_signals
from ingress.scrape import CONTENT_TYPE, Sums
from ingress.settings import IngressSettings
from shared import log as logging_setup
from shared.errors import SettingsError, UsherError

log = structlog.get_logger()

EXIT_CANNOT_RUN: Final = 3
RESTART_DELAY_S: Final = 1.0
ASK_TIMEOUT_S: Final = 2.0
KILL_AFTER_STOP_TIMEOUT_S: Final = 5.0


class WorkerError(UsherError):
    """A worker says that it cannot run at all; its reason stands in the log above."""


@dataclass(slots=True)
class Worker:
    """One worker: where it tells about itself, and its present process."""

    socket: Path
    process: SpawnProcess | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        return self.socket.name

    def start(self, settings: IngressSettings) -> None:
        self.socket.unlink(missing_ok=True)
        # spawn: a fork would take the parent's running event loop along.
        process = multiprocessing.get_context("spawn").Process(
            target=_work,
            args=(settings, self.socket),
            name=self.name,
        )
        process.start()
        self.process, self.ended = process, asyncio.Event()
        asyncio.get_running_loop().add_reader(process.sentinel, self._note_end)
        log.info("worker_started", worker=self.name, worker_pid=process.pid)

    def _note_end(self) -> None:
        if self.process is not None:
            asyncio.get_running_loop().remove_reader(self.process.sentinel)
            self.process.join()
        self.ended.set()

    async def stop(self, deadline_s: float) -> None:
        """SIGTERM, and SIGKILL when it has not ended by the deadline."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            await asyncio.wait_for(self.ended.wait(), deadline_s)
        except TimeoutError:
            log.error("worker_killed", worker=self.name, after_s=deadline_s)  # noqa: TRY400 - no bug, no traceback
            self.process.kill()
            await self.ended.wait()


class Workers:
    """All workers of one ingress, and what the parent says about them."""

    def __init__(self, settings: IngressSettings, port: int, folder: Path) -> None:
        self._settings = settings.model_copy(update={"ingress_port": port})
        self._workers = [Worker(folder / f"worker-{number}") for number in range(1, settings.ingress_workers + 1)]
        self._stopping = asyncio.Event()
        self._sums = Sums()

    async def keep_running(self) -> None:
        """Run all workers, each again when it dies, until cancelled.

        Raises:
            WorkerError: in a group; one of them cannot run.
        """
        async with asyncio.TaskGroup() as tasks:
            for worker in self._workers:
                tasks.create_task(self._keep_one(worker))

    async def stop(self) -> None:
        """Let all finish what they have in flight. They are not started again from now on."""
        self._stopping.set()
        deadline_s = self._settings.stop_timeout.total_seconds() + KILL_AFTER_STOP_TIMEOUT_S
        await asyncio.gather(*(worker.stop(deadline_s) for worker in self._workers))

    def internal_app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/livez", _livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        return app

    async def _keep_one(self, worker: Worker) -> None:
        while not self._stopping.is_set():
            worker.start(self._settings)
            await worker.ended.wait()
            exit_code = worker.process.exitcode if worker.process else None
            if self._stopping.is_set():
                return
            if exit_code == EXIT_CANNOT_RUN:
                raise WorkerError(f"{worker.name} cannot run: its reason stands in the log above")
            self._sums.retire(worker.name)
            log.error("worker_died", worker=worker.name, exit_code=exit_code, again_in_s=RESTART_DELAY_S)
            await asyncio.sleep(RESTART_DELAY_S)

    async def _readyz(self, _request: web.Request) -> web.Response:
        troubles = await asyncio.gather(*(_trouble(worker.socket) for worker in self._workers))
        ready = not self._stopping.is_set() and not any(troubles)
        checks = {worker.name: trouble or "ok" for worker, trouble in zip(self._workers, troubles, strict=True)}
        body = {"status": "ready" if ready else "not ready", "checks": checks}
        return web.json_response(body, status=HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)

    async def _metrics(self, _request: web.Request) -> web.Response:
        answers = await asyncio.gather(*(_ask(worker.socket, "/metrics") for worker in self._workers))
        for worker, answer in zip(self._workers, answers, strict=True):
            if answer is not None:
                self._sums.note(worker.name, answer.text)
        return web.Response(body=self._sums.exposition(), headers={"Content-Type": CONTENT_TYPE})


async def run(settings: IngressSettings) -> None:
    """Run all workers until SIGTERM or SIGINT.

    Raises:
        SettingsError: a port cannot be used.
        WorkerError: a worker cannot run.
    """
    stop = asyncio.Event()
    stop_on_signals(stop)
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="usher-ingress-")))
        port = stack.enter_context(_reserved_port(settings))
        workers = Workers(settings, port, folder)
        close, internal_port = await serve_on_tcp(settings, workers.internal_app())
        stack.push_async_callback(close)
        log.info("ingress_workers_started", workers=settings.ingress_workers, port=port, internal_port=internal_port)
        await stack.enter_async_context(_kept_running(workers, stop))
        await stop.wait()
        log.info("ingress_workers_stopping")


@contextlib.asynccontextmanager
async def _kept_running(workers: Workers, stop: asyncio.Event) -> AsyncIterator[None]:
    keeping = asyncio.create_task(workers.keep_running())
    keeping.add_done_callback(lambda _task: stop.set())
    try:
        yield
    finally:
        await workers.stop()
        keeping.cancel()
        await asyncio.wait({keeping})
    failure = None if keeping.cancelled() else keeping.exception()
    if failure is not None:
        raise _first(failure)


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


@contextlib.contextmanager
def _reserved_port(settings: IngressSettings) -> Iterator[int]:
    """A port that all workers may share, held without listening so that nobody else gets it between two of them."""
    address = (settings.ingress_host, settings.ingress_port)
    family = socket.AF_INET6 if ":" in settings.ingress_host else socket.AF_INET
    with socket.socket(family) as probe, socket.socket(family) as holder:
        for each in (probe, holder):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            # Without SO_REUSEPORT a port that somebody listens on is refused, that of another Usher as well.
            probe.bind(address)
            probe.close()
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind(address)
        except OSError as error:
            raise SettingsError(
                f"INGRESS_PORT: cannot listen on {address[0]}:{address[1]} ({error.strerror}): stop what does, "
                "or choose another port",
            ) from error
        yield holder.getsockname()[1]


def _work(settings: IngressSettings, path: Path) -> None:
    """One worker process, from its start to its end."""
    logging_setup.configure(level=settings.log_level, style=settings.log_format)
    structlog.contextvars.bind_contextvars(worker=path.name)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_serve(settings, path))
    except UsherError as error:
        for line in str(error).splitlines():
            log.error("ingress_cannot_run", error=line)  # noqa: TRY400 - a sentence for an operator, no bug
        sys.exit(EXIT_CANNOT_RUN)


async def _serve(settings: IngressSettings, path: Path) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    # A worker must not outlive a parent that was killed: nobody would look after it.
    parent = multiprocessing.parent_process()
    if parent is not None:
        asyncio.get_running_loop().add_reader(parent.sentinel, stop.set)
    await serve_until_stopped(settings, functools.partial(_serve_on_socket, path), stop=stop, shared_port=True)


async def _serve_on_socket(path: Path, app: web.Application) -> tuple[Close, int]:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.UnixSite(runner, str(path)).start()
    return runner.cleanup, 0


@dataclass(frozen=True, slots=True)
class _WorkersAnswer:
    status: int
    text: str


async def _ask(path: Path, what: str) -> _WorkersAnswer | None:
    """What the worker answers, or None when it does not."""
    timeout = aiohttp.ClientTimeout(total=ASK_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path)), timeout=timeout) as session,
            session.get(f"http://worker{what}") as response,
        ):
            return _WorkersAnswer(response.status, await response.text())
    except (aiohttp.ClientError, OSError):
        return None


async def _trouble(path: Path) -> str | None:
    answer = await _ask(path, "/readyz")
    if answer is None:
        return "does not answer"
    if answer.status == HTTPStatus.OK:
        return None
    checks = json.loads(answer.text)["checks"]
    return "; ".join(f"{name}: {trouble}" for name, trouble in checks.items() if trouble != "ok") or "not ready"


async def _livez(_request: web.Request) -> web.Response:
    return web.json_response({"status": "alive"})
