"""The lookup process: settings in, both ports served until it is told to stop.

The only place where its parts are put together. Promise: a Postgres that is down is waited for.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry

from lookup.databases import Databases, opened
from lookup.endpoint import Endpoint, Tokens, public_app
from lookup.metrics import LookupMetrics
from lookup.settings import LookupSettings
from lookup.watch import Watch
from shared import health
from shared.errors import SettingsError

log = structlog.get_logger()

# Above the idle timeout of common load balancers (60 s), so that they close first; it bounds slow headers, too.
KEEPALIVE_TIMEOUT_S: Final = 75.0

Ports = Callable[[int, int], None]


@dataclass(slots=True)
class Readiness:
    """Why this process is not ready, by name; None where all is well."""

    databases: Databases
    stopping: bool = field(default=False)

    def checks(self) -> dict[str, health.Check]:
        return {
            "postgres": lambda: self.databases.trouble,
            "running": lambda: "stopping" if self.stopping else None,
        }


async def run(
    settings: LookupSettings, *, stop: asyncio.Event | None = None, listening: Ports = lambda _port, _internal: None
) -> None:
    """Serve until `stop` is set (SIGTERM and SIGINT, where none is given); `listening` is told both ports.

    Raises:
        SettingsError: a port cannot be used.
    """
    stop = stop or _stop_on_signals()
    async with opened(settings.database_url.get_secret_value()) as databases, contextlib.AsyncExitStack() as stack:
        watch, readiness, registry = Watch(databases), Readiness(databases), CollectorRegistry()
        runner = _runner(settings, watch, LookupMetrics(registry))
        close_internal, internal_port = await _serve_internal(settings, registry, readiness)
        stack.push_async_callback(close_internal)
        looking = asyncio.create_task(watch.run())
        stack.push_async_callback(_ended, looking)
        stack.push_async_callback(runner.cleanup)
        port = await _open_port(runner, settings)
        log.info("lookup_started", host=settings.lookup_host, port=port, internal_port=internal_port)
        listening(port, internal_port)
        await stop.wait()
        readiness.stopping = True
        log.info("lookup_stopping", waiting=watch.waiting)
        # Those who wait are told how far it is, and ask again: another copy, or the next one.
        watch.end()
    log.info("lookup_stopped")


def _runner(settings: LookupSettings, watch: Watch, metrics: LookupMetrics) -> web.AppRunner:
    metrics.watch(lambda: watch.waiting)
    return web.AppRunner(
        public_app(Endpoint(Tokens.of(settings.tokens()), watch, metrics)),
        access_log=None,
        keepalive_timeout=KEEPALIVE_TIMEOUT_S,
        shutdown_timeout=settings.stop_timeout.total_seconds(),
        # Who hangs up waits no more.
        handler_cancellation=True,
        logger=_silent_logger(),
    )


def _silent_logger() -> logging.Logger:
    """For aiohttp's own complaints about what is not even HTTP: they quote what was sent."""
    logger = logging.getLogger("lookup.http")
    logger.setLevel(logging.CRITICAL + 1)
    return logger


async def _serve_internal(
    settings: LookupSettings, registry: CollectorRegistry, readiness: Readiness
) -> tuple[Callable[[], Awaitable[None]], int]:
    app = health.internal_app(registry, readiness.checks())
    try:
        return await health.serve(app, settings.lookup_internal_host, settings.lookup_internal_port)
    except OSError as error:
        raise SettingsError(_port_problem("LOOKUP_INTERNAL_PORT", error)) from error


async def _open_port(runner: web.AppRunner, settings: LookupSettings) -> int:
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.lookup_host, settings.lookup_port).start()
    except OSError as error:
        raise SettingsError(_port_problem("LOOKUP_PORT", error)) from error
    port: int = runner.addresses[0][1]
    return port


def _port_problem(name: str, error: OSError) -> str:
    return f"{name}: cannot listen there ({error.strerror or error}): stop what does, or choose another port or host"


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
