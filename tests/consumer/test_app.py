"""A consumer process as a whole: what ends its start, and what is there before the first event."""

from __future__ import annotations

import socket

import asyncpg
import pytest
from prometheus_client import CollectorRegistry

from consumer import app
from consumer.providers.postgres import MAX_SESSIONS
from consumer.settings import ConsumerSettings
from shared.broker import BrokerLink
from shared.errors import SettingsError
from tests.support.eventually import eventually

_CONNECTED = """
select application_name, count(*) from pg_stat_activity
where datname = current_database() and application_name like 'usher%' group by application_name
"""


@pytest.mark.parametrize("effect", list(app.EFFECTS))
async def test_a_taken_internal_port_ends_the_start_with_a_sentence(effect: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = ConsumerSettings.read(
            amqp_url="amqp://127.0.0.1:1/",
            database_url="postgresql://127.0.0.1:1/usher",
            consumer_internal_port=taken.getsockname()[1],
        )
        with pytest.raises(SettingsError, match=r"^CONSUMER_INTERNAL_PORT: .*every consumer"):
            await app.run(effect, settings)


async def test_workers_and_provider_have_their_connections_before_the_first_event(
    database_url: str, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    settings = ConsumerSettings.read(amqp_url="amqp://x", database_url=database_url, consumer_concurrency=3)
    outbound = BrokerLink([], name="tests")

    async with app.EFFECTS["provision_database"](settings, outbound, CollectorRegistry()):

        async def connected() -> bool:
            there = {row["application_name"]: row["count"] for row in await pool.fetch(_CONNECTED)}
            return there == {"usher provision_database": 3, "usher provider": MAX_SESSIONS}

        await eventually(connected, timeout_s=40)
