"""The consumer loop that one would write first: take a message, write guard and row in one statement, acknowledge.

Listens on PORT once it consumes.
"""

import asyncio
import json
import os
from datetime import UTC, datetime

import aio_pika
import asyncpg
import uvloop

PREFETCH = 100
UPSERT = """
with won as (
    insert into user_guards as guard (user_id, deleted, version, event_id, event_time)
    values ($1, false, $2, $3, $4)
    on conflict (user_id) do update
        set version = excluded.version, event_id = excluded.event_id, event_time = excluded.event_time
        where (excluded.deleted, excluded.version, excluded.event_id) > (guard.deleted, guard.version, guard.event_id)
    returning user_id
)
insert into users (user_id, email, username, first_name, last_name, photo_url, created_at, updated_at)
select user_id, $5, $6, $7, $8, $9, $10, $11 from won
on conflict (user_id) do update
    set email = excluded.email, username = excluded.username, first_name = excluded.first_name,
        last_name = excluded.last_name, photo_url = excluded.photo_url, updated_at = excluded.updated_at
"""


async def _consume() -> None:
    database = await asyncpg.connect(os.environ["DATABASE_URL"])
    connection = await aio_pika.connect(os.environ["AMQP_URL"])
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=PREFETCH)
    queue = await channel.get_queue(os.environ["QUEUE"], ensure=False)
    async with queue.iterator() as messages:
        await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", int(os.environ["PORT"]))
        async for message in messages:
            await _write(database, message.body)
            await message.ack()


async def _write(database: "asyncpg.Connection[asyncpg.Record]", body: bytes) -> None:
    event = json.loads(body)
    data = event["data"]
    await database.execute(
        UPSERT,
        event["subject"],
        data["version"],
        event["id"],
        datetime.fromisoformat(event["time"]),
        data["email"],
        data["username"],
        data["first_name"],
        data["last_name"],
        data["photo_url"],
        datetime.fromtimestamp(data["created_at"] / 1000, UTC),
        datetime.fromtimestamp(data["version"] / 1000, UTC),
    )


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_consume())
