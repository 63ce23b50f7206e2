"""One ingress process: settings in, both ports served until it is told to stop.

Promise: a broker that is down is waited for; one that is set up otherwise ends the start with a clear sentence.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry

from ingress.amqp.link import PublisherLink
from ingress.country import country_lookup
from ingress.front import Server
from ingress.metrics import IngressMetrics
from ingress.publish import Publisher
from ingress.receive import Receiver
from ingress.settings import IngressSettings
from ingress.verify import Keys
from ingress.watch import TopologyWatch
from shared import health
from shared.errors import SettingsError

log = structlog.get_logger()

Close = Callable[[], Awaitable[None]]
ServeInternal = Callable[[web.Application], Awaitable[tuple[Close, int]]]


@dataclass(slots=True)
class Readiness:
    """Why this process is not ready, by name; None where all is well."""

    link: PublisherLink
    watch: TopologyWatch
    stopping: bool = field(default=False)

    def checks(self) -> dict[str, health.Check]:
        return {"broker": self._broker, "topology": lambda: self.watch.trouble, "running": self._running}

    def _broker(self) -> str | None:
        state = self.link.state
        return None if state.open else state.trouble or "connecting"

    def _running(self) -> str | None:
        return "stopping" if self.stopping else None


async def serve_until_stopped(
    settings: IngressSettings,
    serve_internal: ServeInternal,
    *,
    stop: asyncio.Event,
    shared_port: bool = False,
) -> None:
    """Serve until `stop` is set, then finish what is in flight.

    Raises:
        SettingsError: a file or a port cannot be used.
        TopologyError: the broker has something with other arguments.
    """
    registry = CollectorRegistry()
    metrics = IngressMetrics(registry)
    watch = TopologyWatch()
    link = PublisherLink(settings.amqp_addresses(), name="usher ingress", on_connection=watch.look)
    metrics.watch_link(lambda: link.state.open)
    readiness = Readiness(link, watch)
    server = _public_server(settings, link, metrics)
    stop_timeout_s = settings.stop_timeout.total_seconds()
    runner = web.ServerRunner(server, shutdown_timeout=stop_timeout_s)
    async with contextlib.AsyncExitStack() as stack:
        close_internal, internal_port = await serve_internal(health.internal_app(registry, readiness.checks()))
        stack.push_async_callback(close_internal)
        linking = asyncio.create_task(link.run())
        stack.push_async_callback(_end_link, link, linking)
        stack.push_async_callback(_stop_serving, runner, server, stop_timeout_s)
        port = await _open_public_port(runner, settings, shared_port=shared_port)
        _say_started(settings, port, internal_port)
        await _until(stop, watch.differs, linking)
        readiness.stopping = True
        log.info("ingress_stopping")
    log.info("ingress_stopped")


async def serve_on_tcp(settings: IngressSettings, app: web.Application) -> tuple[Close, int]:
    """Serve the internal application on its TCP port.

    Raises:
        SettingsError: the port cannot be used.
    """
    try:
        return await health.serve(app, settings.ingress_internal_host, settings.ingress_internal_port)
    except OSError as error:
        raise SettingsError(_port_problem("INGRESS_INTERNAL_PORT", error)) from error


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Event loops of uvloop where there is one."""
    try:
        import uvloop  # noqa: PLC0415 - not everywhere
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def stop_on_signals(stop: asyncio.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


def _public_server(settings: IngressSettings, link: PublisherLink, metrics: IngressMetrics) -> Server:
    receiver = Receiver(
        keys=Keys.of(
            svix_secrets=settings.svix_secrets(),
            hookdeck_secrets=settings.hookdeck_secrets(),
            relay_prefix=settings.hookdeck_header_prefix,
        ),
        publisher=Publisher(
            link,
            max_in_flight=settings.max_in_flight,
            timeout_s=settings.publish_timeout.total_seconds(),
            metrics=metrics,
        ),
        country_of=country_lookup(settings.country_database),
        region_key=settings.region_metadata_key,
        max_body_bytes=settings.max_body_bytes,
        metrics=metrics,
    )
    # For one path a router, its middlewares and signals would cost more than the check of a signature.
    return Server(receiver, access_log=None, auto_decompress=False, logger=_silent_logger())


async def _stop_serving(runner: web.ServerRunner, server: Server, timeout_s: float) -> None:
    """Accept nobody more, answer what is under way, then close the connections."""
    for site in tuple(runner.sites):
        await site.stop()
    await server.settled(timeout_s)
    await runner.cleanup()


def _silent_logger() -> logging.Logger:
    """For aiohttp's own complaints about what is not even HTTP: they quote the sender's address and what he sent."""
    logger = logging.getLogger("ingress.http")
    logger.setLevel(logging.CRITICAL + 1)
    return logger


async def _open_public_port(runner: web.ServerRunner, settings: IngressSettings, *, shared_port: bool) -> int:
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.ingress_host, settings.ingress_port, reuse_port=shared_port or None).start()
    except OSError as error:
        raise SettingsError(_port_problem("INGRESS_PORT", error)) from error
    port: int = runner.addresses[0][1]
    return port


def _port_problem(name: str, error: OSError) -> str:
    return f"{name}: cannot listen there ({error.strerror or error}): stop what does, or choose another port or host"


async def _until(stop: asyncio.Event, differs: asyncio.Future[None], linking: asyncio.Task[NoReturn]) -> None:
    """Wait for the order to stop. What ends on its own before that was an error, and is raised."""
    stopping = asyncio.create_task(stop.wait())
    ends: tuple[asyncio.Future[Any], ...] = (stopping, differs, linking)
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            if end.done():
                end.result()
    finally:
        stopping.cancel()


async def _end_link(link: PublisherLink, linking: asyncio.Task[NoReturn]) -> None:
    linking.cancel()
    await asyncio.wait({linking})
    await link.close()


def _say_started(settings: IngressSettings, port: int, internal_port: int) -> None:
    for hint in settings.hints():
        log.warning("ingress_hint", hint=hint)
    log.info(
        "ingress_started",
        host=settings.ingress_host,
        port=port,
        internal_port=internal_port or None,  # a worker has none of its own
        svix_secrets=len(settings.svix_secrets()),
        hookdeck_secrets=len(settings.hookdeck_secrets()),
    )
