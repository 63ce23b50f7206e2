"""The broker seen from outside: depths and contents of queues, vhosts of one's own."""

import asyncio
import json
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from local.ports import free_port
from local.rabbitmq import RabbitNode


@contextmanager
def running_node(folder: Path) -> Iterator[RabbitNode]:
    node = RabbitNode(
        folder, amqp_port=free_port(), management_port=free_port(), user="usher", password="test-password"
    )
    node.start()
    yield node
    node.stop()


@dataclass(frozen=True, slots=True)
class Stored:
    """One message as it lies in a queue."""

    body: bytes
    headers: dict[str, Any]
    properties: dict[str, Any]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def depth(amqp_url: str, queue: str) -> int:
    """Messages that are ready in `queue`."""
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        channel = await connection.channel()
        declared = await channel.declare_queue(queue, passive=True)
        return declared.declaration_result.message_count or 0


async def drain(amqp_url: str, queue: str) -> list[Stored]:
    """Take everything that is ready out of `queue`."""
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        channel = await connection.channel()
        declared = await channel.get_queue(queue, ensure=False)
        taken: list[Stored] = []
        while (message := await declared.get(fail=False)) is not None:
            taken.append(stored(message))
            await message.ack()
        return taken


async def read_log(amqp_url: str, *, count: int, timeout_s: float = 20) -> list[Stored]:
    """The first `count` entries of the log stream."""
    connection = await aio_pika.connect(amqp_url)
    found: list[Stored] = []
    complete = asyncio.Event()

    async def take(message: AbstractIncomingMessage) -> None:
        found.append(stored(message))
        await message.ack()
        if len(found) >= count:
            complete.set()

    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=500)
        queue = await channel.get_queue("usher.log", ensure=False)
        await queue.consume(take, arguments={"x-stream-offset": "first"})
        async with asyncio.timeout(timeout_s):
            await complete.wait()
    return found[:count]


def stored(message: AbstractIncomingMessage) -> Stored:
    properties = {
        "content_type": message.content_type,
        "message_id": message.message_id,
        "type": message.type,
        "app_id": message.app_id,
        "timestamp": message.timestamp,
        "delivery_mode": message.delivery_mode,
        "expiration": message.expiration,
    }
    return Stored(message.body, dict(message.headers), properties)


def management(node: RabbitNode, method: str, path: str, body: object = None) -> Any:
    """One call of the management API; `path` without /api/."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{node.management_port}/api/{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Authorization": "Basic " + b64encode(f"{node.user}:{node.password}".encode()).decode(),
            "Content-Type": "application/json",
        },
    )
    with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310 - as above
        text = response.read()
    return json.loads(text) if text else None


def add_vhost(node: RabbitNode, name: str) -> str:
    """A vhost of one's own; returns its AMQP address."""
    quoted = urllib.parse.quote(name, safe="")
    management(node, "PUT", f"vhosts/{quoted}", {})
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    management(node, "PUT", f"permissions/{quoted}/{node.user}", everything)
    return f"amqp://{node.user}:{node.password}@127.0.0.1:{node.amqp_port}/{quoted}"


def delete_vhost(node: RabbitNode, name: str) -> None:
    management(node, "DELETE", f"vhosts/{urllib.parse.quote(name, safe='')}")
