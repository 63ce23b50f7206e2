"""Servers of a run's own, in a folder of its own, for the long form."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from local.ports import free_port
from local.postgres import PostgresCluster
from local.rabbitmq import RabbitNode
from tests.chaos.world import Ground
from tests.support.cluster import RabbitCluster

PASSWORD: Final = "proof-password"
# Few, so that they can be used up.
MAX_CONNECTIONS: Final = 60


@asynccontextmanager
async def own_ground(
    folder: Path, *, users: int, clustered: bool = False, mutation: str | None = None
) -> AsyncIterator[Ground]:
    """One node, Postgres, and a cluster of three nodes where one is asked for."""
    rabbit = RabbitNode(
        folder / "rabbitmq", amqp_port=free_port(), management_port=free_port(), user="usher", password=PASSWORD
    )
    postgres = PostgresCluster(
        folder / "postgres", port=free_port(), password=PASSWORD, fsync=False, max_connections=MAX_CONNECTIONS
    )
    cluster = RabbitCluster(folder / "cluster", user="usher", password=PASSWORD) if clustered else None
    servers = tuple(server for server in (rabbit, postgres, cluster) if server is not None)
    try:
        await asyncio.gather(*(asyncio.to_thread(server.start) for server in servers))
        yield Ground(rabbit, postgres, folder, users, cluster, mutation)
    finally:
        await asyncio.gather(*(asyncio.to_thread(server.stop) for server in servers))
