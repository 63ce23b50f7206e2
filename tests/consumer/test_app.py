"""A consumer process as a whole: what ends its start."""

import socket

import pytest

from consumer import app
from consumer.settings import ConsumerSettings
from shared.errors import SettingsError


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
