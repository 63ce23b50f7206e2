"""A consumer in the test's own process, with effects that fail on command."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry

from consumer.breaker import Probe
from consumer.consume import Consumer, Effect, Limits
from consumer.metrics import ConsumerMetrics
from consumer.subscription import Subscription
from shared.broker import BrokerLink
from tests.support.eventually import eventually


async def healthy() -> None:
    """A probe of something that is never down."""


def make_consumer(
    effect: Effect,
    addresses: Sequence[str],
    *,
    name: str = "sync_user",
    probe: Probe = healthy,
    limits: Limits | None = None,
    registry: CollectorRegistry | None = None,
) -> Consumer:
    limits = limits or Limits()
    subscription = Subscription(name, addresses=addresses, prefetch=limits.prefetch)
    return Consumer(
        name,
        effect,
        subscription=subscription,
        outbound=BrokerLink(addresses, name="tests out"),
        probes={"dependency": probe},
        limits=limits,
        metrics=ConsumerMetrics(registry or CollectorRegistry(), name, subscription.queue),
    )


@asynccontextmanager
async def running(consumer: Consumer, *, stop_s: float = 5) -> AsyncIterator[Consumer]:
    """Run `consumer`; on leaving stop it as the process does."""
    task = asyncio.create_task(consumer.run())
    try:
        await eventually(lambda: task.done() or consumer.subscription.registered, what="registered")
        yield consumer
        await consumer.stop(stop_s)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await consumer.close()
