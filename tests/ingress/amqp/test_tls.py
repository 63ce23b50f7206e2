"""The same over TLS: the certificate is checked, and what is published arrives."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import aio_pika
import pytest

from ingress.amqp.address import Address
from ingress.amqp.handshake import connect
from local.rabbitmq import RabbitNode
from tests.ingress.amqp.conftest import connected, publish
from tests.support.broker import drain

# A certificate of its own for 127.0.0.1, with its key: for these tests, and of no value to anybody.
CERTIFICATE = Path(__file__).with_name("loopback.pem")


@pytest.fixture
async def tls_url(bare_vhost_url: str, rabbit: RabbitNode) -> AsyncIterator[str]:
    """The broker behind TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)
    tasks: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", rabbit.amqp_port)
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.get_running_loop().create_task(serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    yield bare_vhost_url.replace("amqp://", "amqps://").replace(f":{rabbit.amqp_port}/", f":{port}/")
    server.close()
    await asyncio.gather(*tasks)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def test_what_is_published_over_tls_is_stored(tls_url: str, bare_vhost_url: str) -> None:
    async with await aio_pika.connect(bare_vhost_url) as helper:
        await (await helper.channel()).declare_queue("stored", durable=True)
    async with connected(f"{tls_url}?cafile={CERTIFICATE}") as connection:
        outcomes = await asyncio.gather(*(publish(connection, "stored", body=bytes(10_000)) for _ in range(100)))
    assert set(outcomes) == {None}
    assert len(await drain(bare_vhost_url, "stored")) == 100


async def test_a_certificate_that_nobody_vouches_for_is_refused(tls_url: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await connect(Address.of(tls_url, heartbeat_s=10, name="tests"), lambda: None)
