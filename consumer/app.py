"""A consumer process: settings in, one effect running on its queue until it is told to stop.

The only place where a consumer's parts are put together.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import asyncpg
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry

from consumer import readiness, users
from consumer.breaker import Probe
from consumer.consume import Consumer, Effect, Limits, one_by_one
from consumer.metrics import ConsumerMetrics
from consumer.provider import Chosen, chosen_provider
from consumer.provision_database import ProvisionDatabase
from consumer.settings import ConsumerSettings
from consumer.subscription import Subscription
from consumer.sync_user import SyncUser
from shared import health, messages, postgres
from shared.broker import BrokerLink
from shared.errors import SettingsError, UsherError
from shared.events import DatabaseEvent
from shared.topology import EVENTS_EXCHANGE

log = structlog.get_logger()

ANNOUNCE_TIMEOUT_S: Final = 5.0
CLOSE_TIMEOUT_S: Final = 3.0
POSTGRES: Final = "postgres"
# As many events as one statement takes at once: less cost Postgres and the broker more for each; of more, more wait for
# a row that somebody holds locked.
SYNC_BATCH: Final = 200
# A user's row that somebody holds locked costs the other users of its batch no more than this.
LOCK_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What an effect brings along: itself, how to see whether what it needs is there, and how much it takes at once."""

    effect: Effect
    probes: Mapping[str, Probe]
    limits: Limits


@asynccontextmanager
async def _sync_user(
    settings: ConsumerSettings, _outbound: BrokerLink, _registry: CollectorRegistry
) -> AsyncIterator[Parts]:
    async with _pool(
        settings, "usher sync_user", lock_timeout_s=LOCK_TIMEOUT_S, connection_class=postgres.Stateless
    ) as pool:
        # Two workers: while Postgres commits for one, the other one prepares its batch. More bring nothing, and what is
        # settled out of its order costs acknowledgements.
        limits = Limits(workers=2, batch=SYNC_BATCH, max_attempts=settings.max_attempts)
        yield Parts(SyncUser(pool, settings.consumer_concurrency), {POSTGRES: lambda: users.check(pool)}, limits)


@asynccontextmanager
async def _provision_database(
    settings: ConsumerSettings, outbound: BrokerLink, registry: CollectorRegistry
) -> AsyncIterator[Parts]:
    async def announce(event: DatabaseEvent) -> None:
        await outbound.publish(
            messages.event_message(event),
            EVENTS_EXCHANGE,
            event.type,
            timeout_s=ANNOUNCE_TIMEOUT_S,
        )

    # The provider has connections of its own: an event keeps one for the user's lock while it is at work.
    async with (
        _pool(settings, "usher provider", connection_class=postgres.Stateless) as shared,
        chosen_provider(settings, shared, registry) as chosen,
        _pool(settings, "usher provision_database", connection_class=postgres.Locking) as pool,
    ):
        effect = ProvisionDatabase(
            pool,
            chosen.provider,
            chosen.regions,
            settings.deletion_holdback,
            announce,
        )
        limits = Limits(workers=settings.consumer_concurrency, max_attempts=settings.max_attempts)
        probes = {POSTGRES: lambda: postgres.ping(pool), "provider": chosen.provider.check}
        warming = asyncio.create_task(_warm(chosen, pool, limits.workers))
        try:
            yield Parts(one_by_one(effect), probes, limits)
        finally:
            warming.cancel()
            await asyncio.wait([warming])


async def _warm(chosen: Chosen, pool: asyncpg.Pool[asyncpg.Record], workers: int) -> None:
    """What is down now is the events' to meet."""
    with contextlib.suppress(UsherError):
        await chosen.warm()
        await postgres.open_ahead(pool, workers)


# Effect → its parts. One name per effect everywhere.
EFFECTS: Final[
    dict[
        str,
        Callable[[ConsumerSettings, BrokerLink, CollectorRegistry], contextlib.AbstractAsyncContextManager[Parts]],
    ]
] = {
    "sync_user": _sync_user,
    "provision_database": _provision_database,
}


async def run(name: str, settings: ConsumerSettings, *, ready: Callable[[int], None] | None = None) -> None:
    """Run the effect `name` until SIGTERM or SIGINT; `ready` is told the internal port."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    outbound = BrokerLink(settings.amqp_addresses(), name=f"usher {name} out")
    registry = CollectorRegistry()
    async with EFFECTS[name](settings, outbound, registry) as parts:
        consumer = _consumer(name, settings, outbound, parts, registry)
        app = health.internal_app(registry, readiness.checks(consumer), lambda: readiness.details(consumer))
        close, port = await _serve(app, settings)
        log.info("consumer_started", effect=name, internal_port=port)
        if ready is not None:
            ready(port)
        try:
            await _run_until(stop.wait, consumer, settings.stop_timeout.total_seconds())
        finally:
            await close()
    log.info("consumer_stopped", effect=name)


async def _serve(app: web.Application, settings: ConsumerSettings) -> tuple[Callable[[], Awaitable[None]], int]:
    try:
        return await health.serve(app, settings.consumer_internal_host, settings.consumer_internal_port)
    except OSError as error:
        raise SettingsError(
            f"CONSUMER_INTERNAL_PORT: cannot listen there ({error.strerror or error}): every consumer on a machine "
            "needs its own; 0 takes any free one",
        ) from error


async def _run_until(stopped: Callable[[], Awaitable[object]], consumer: Consumer, deadline_s: float) -> None:
    running = asyncio.create_task(consumer.run())
    stopping = asyncio.ensure_future(stopped())
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not running.done():
        log.info("consumer_stopping", effect=consumer.name, in_flight=consumer.in_flight)
        await consumer.stop(deadline_s)
        running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await consumer.close()


def _consumer(
    name: str,
    settings: ConsumerSettings,
    outbound: BrokerLink,
    parts: Parts,
    registry: CollectorRegistry,
) -> Consumer:
    subscription = Subscription(name, addresses=settings.amqp_addresses(), prefetch=parts.limits.prefetch)
    metrics = ConsumerMetrics(registry, name, subscription.queue)
    consumer = Consumer(
        name,
        parts.effect,
        subscription=subscription,
        outbound=outbound,
        probes=parts.probes,
        limits=parts.limits,
        metrics=metrics,
    )
    metrics.watch(
        levels=lambda: readiness.levels(consumer),
        dependencies=lambda: {name: found.up for name, found in readiness.dependencies(consumer).items()},
        oldest_unsettled_s=lambda: consumer.presence.held_s,
    )
    return consumer


@asynccontextmanager
async def _pool(
    settings: ConsumerSettings,
    name: str,
    *,
    lock_timeout_s: float = 0,
    connection_class: type[asyncpg.Connection[asyncpg.Record]] = asyncpg.Connection,
) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    pool = await postgres.create_pool(
        settings.database_url.get_secret_value(),
        max_size=settings.consumer_concurrency + 2,
        name=name,
        lock_timeout_s=lock_timeout_s,
        connection_class=connection_class,
    )
    try:
        yield pool
    finally:
        # A graceful close waits for queries under way; what hangs is cut.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await pool.close()
        pool.terminate()
