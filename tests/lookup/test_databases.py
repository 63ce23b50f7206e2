"""The one SELECT over a connection that breaks."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

import pytest

from local.postgres import PostgresCluster
from lookup.databases import ANSWER_TIMEOUT_S, opened
from shared.errors import DependencyDown
from tests.lookup.asker import Table
from tests.support.tcp_proxy import TcpProxy


async def test_a_silent_postgres_is_given_up_in_the_promised_time_whatever_the_driver_still_waits_for(
    database_url: str, postgres: PostgresCluster, table: Table
) -> None:
    await table.put("user_1", "ready")
    parts = urlsplit(database_url)
    async with TcpProxy("127.0.0.1", postgres.port) as proxy:
        url = parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{proxy.port}").geturl()
        async with opened(url) as databases:
            assert set(await databases.find(["user_1", "user_2"])) == {"user_1"}
            proxy.black_hole()
            started = time.monotonic()
            with pytest.raises(DependencyDown, match="no answer within 2 s"):
                await databases.find(["user_1"])
            # Less than two of the driver's deadlines, one after the other.
            assert time.monotonic() - started < 1.75 * ANSWER_TIMEOUT_S
            assert databases.trouble == "no answer within 2 s"
            proxy.flow()
