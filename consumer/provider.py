"""Which provider makes the users' databases: the one place where it is put together from the settings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import asyncpg
import structlog
from prometheus_client import CollectorRegistry

from consumer.providers.postgres import PostgresProvider
from consumer.providers.protocol import DatabaseProvider
from consumer.providers.regions import RegionMap, Regions
from consumer.providers.xata.metrics import XataMetrics
from consumer.providers.xata.places import KNOWN_REGIONS, region_map
from consumer.providers.xata.provider import XataProvider
from consumer.settings import ConsumerSettings, ProviderName
from shared import postgres
from shared.errors import DependencyDown, NotYet
from shared.migrations import user_migrations

log = structlog.get_logger()

# Xata is waited for longer than Postgres: so many serve more workers than there are connections.
WARM_CONNECTIONS: Final = 4


@dataclass(frozen=True, slots=True)
class Chosen:
    """`warm` gets ready what a first creation would have to wait for; it may be left out."""

    provider: DatabaseProvider
    regions: Regions
    warm: Callable[[], Awaitable[None]]


@asynccontextmanager
async def _postgres(
    settings: ConsumerSettings, _pool: asyncpg.Pool[asyncpg.Record], _registry: CollectorRegistry | None
) -> AsyncIterator[Chosen]:
    region = settings.provider_postgres_region
    provider = PostgresProvider(settings.provider_address(), region=region, migrations=user_migrations())
    try:
        yield Chosen(provider, RegionMap.single(region), provider.warm)
    finally:
        await provider.close()


@asynccontextmanager
async def _xata(
    settings: ConsumerSettings, pool: asyncpg.Pool[asyncpg.Record], registry: CollectorRegistry | None
) -> AsyncIterator[Chosen]:
    """Raises SettingsError when the settings name regions that the organisation does not have."""
    configuration = settings.xata()
    # Until Xata has told: what is configured, or what is known. A provider is needed to ask.
    assumed = region_map(_assumed_regions(settings), replace(configuration.regions, only=()))
    provider = XataProvider(
        pool,
        configuration,
        default_region=assumed.default,
        migrations=user_migrations(),
        metrics=XataMetrics(registry),
    )
    try:
        yield Chosen(provider, await _asked(provider), partial(postgres.open_ahead, pool, WARM_CONNECTIONS))
    finally:
        await provider.close()


async def _asked(provider: XataProvider) -> Regions:
    try:
        await provider.regions.asked()
    except (DependencyDown, NotYet) as error:
        # It starts all the same: it asks again before the first region is chosen.
        log.warning("xata_regions_unverified", error=str(error))
    return provider.regions


def _assumed_regions(settings: ConsumerSettings) -> list[str]:
    named = [
        *settings.xata_regions,
        *filter(None, [settings.xata_default_region]),
        *settings.xata_templates,
        *settings.xata_region_by_country.values(),
        *settings.xata_region_by_continent.values(),
    ]
    return list(dict.fromkeys([*named, *(() if settings.xata_regions else KNOWN_REGIONS)]))


Factory = Callable[
    [ConsumerSettings, "asyncpg.Pool[asyncpg.Record]", CollectorRegistry | None], AbstractAsyncContextManager[Chosen]
]

PROVIDERS: Final[dict[ProviderName, Factory]] = {"postgres": _postgres, "xata": _xata}


def chosen_provider(
    settings: ConsumerSettings, pool: asyncpg.Pool[asyncpg.Record], registry: CollectorRegistry | None = None
) -> AbstractAsyncContextManager[Chosen]:
    """The provider of DATABASE_PROVIDER, open until the context ends; `pool` leads to Usher's own database."""
    return PROVIDERS[settings.database_provider](settings, pool, registry)
