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

PASSWORD: Final = "proof-password"
# Few, so that they can be used up.
MAX_CONNECTIONS: Final = 60


@asynccontextmanager
async def own_ground(folder: Path, *, users: int, mutation: str | None = None) -> AsyncIterator[Ground]:
    rabbit = RabbitNode(
        folder / "rabbitmq", amqp_port=free_port(), management_port=free_port(), user="usher", password=PASSWORD
    )
    postgres = PostgresCluster(
        folder / "postgres", port=free_port(), password=PASSWORD, fsync=False, max_connections=MAX_CONNECTIONS
    )
    try:
        await asyncio.gather(asyncio.to_thread(rabbit.start), asyncio.to_thread(postgres.start))
        yield Ground(rabbit, postgres, folder, users, mutation)
    finally:
        await asyncio.gather(asyncio.to_thread(rabbit.stop), asyncio.to_thread(postgres.stop))
