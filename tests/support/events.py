"""Events as tests need them: short to write, complete on the wire."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final

import aio_pika

from shared.events import UserData, UserEvent, UserEventType
from shared.messages import event_message
from shared.topology import EVENTS_EXCHANGE

MOMENT: Final = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
_numbers: Final = count(1)


def user_event(
    kind: UserEventType = "user.created",
    user: str = "user_2abc",
    *,
    version: int = 1_763_650_000_000,
    event_id: str | None = None,
    **data: Any,
) -> UserEvent:
    """A complete event of `user`; `data` overrides fields of the normalized user."""
    full = UserData(
        version=None if kind == "user.deleted" else version,
        email="ada@example.org",
        username="ada",
        first_name="Ada",
        created_at=1_763_650_000_000,
        country="GB",
    )
    return UserEvent(
        id=event_id or f"msg_{next(_numbers)}",
        source="clerk/ins_1",
        type=kind,
        subject=user,
        time=MOMENT,
        data=UserData() if kind == "user.deleted" else replace(full, **data),
    )


async def publish(amqp_url: str, *events: UserEvent) -> None:
    """Publish as the ingress does: persistent, mandatory, confirmed."""
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel(on_return_raises=True)
        exchange = await channel.get_exchange(EVENTS_EXCHANGE, ensure=False)
        for event in events:
            await exchange.publish(event_message(event), event.type)
