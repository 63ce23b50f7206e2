"""The ceiling of any consumer on aio-pika: takes messages and acknowledges a hundred at once; nothing else is done.

Listens on PORT once it consumes; closes that port when it has seen COUNT messages.
"""

import asyncio
import os

import aio_pika
import uvloop
from aio_pika.abc import AbstractIncomingMessage

PREFETCH = 1000
AT_ONCE = 100


async def _consume() -> None:
    left = int(os.environ["COUNT"])
    finished = asyncio.Event()

    async def take(message: AbstractIncomingMessage) -> None:
        nonlocal left
        left -= 1
        if left % AT_ONCE == 0 or not left:
            await message.ack(multiple=True)
        if not left:
            finished.set()

    connection = await aio_pika.connect(os.environ["AMQP_URL"])
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=PREFETCH)
    queue = await channel.get_queue(os.environ["QUEUE"], ensure=False)
    await queue.consume(take)
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", int(os.environ["PORT"]))
    await finished.wait()
    server.close()
    await asyncio.sleep(60)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_consume())
