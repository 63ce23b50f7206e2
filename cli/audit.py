"""What operators do is written down: who sent what back, took it away or replayed it, and how that ended.

Goes in: a verb and what was asked of it. Comes out: a log line here, and a record in the log stream on the broker,
confirmed, before anything is moved and again at the end. The stream is where it lies because these verbs need the
broker anyway: nothing more has to be set up, and it stands among the events that it is about.
"""

from __future__ import annotations

import getpass
import json
import socket
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import aio_pika
import structlog
from aio_pika import DeliveryMode

from cli import connections
from shared.errors import UsherError
from shared.events import CONTENT_TYPE, SPEC_VERSION, format_time
from shared.messages import APP_ID
from shared.topology import LOG_QUEUE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aio_pika.abc import AbstractConnection

log = structlog.get_logger()

OPERATOR_ACTED: Final = "operator.acted"
SOURCE: Final = "usher/operator"
CONFIRM_TIMEOUT_S: Final = 10.0
# A record must stay small; how many there were is in its figures.
MAX_IDS: Final = 1000


@dataclass(slots=True)
class Act:
    """One run of a verb. `outcome` and `event_ids` are filled while it runs."""

    verb: str
    asked: Mapping[str, Any]
    outcome: dict[str, Any] = field(default_factory=dict)
    event_ids: list[str] = field(default_factory=list)
    id: str = field(default_factory=lambda: f"act_{uuid.uuid4().hex}")

    def facts(self, phase: str) -> dict[str, Any]:
        return {
            "verb": self.verb,
            "phase": phase,
            "by": operator(),
            "asked": dict(self.asked),
            **({} if phase == "begun" else {"outcome": self.outcome, "event_ids": self.event_ids[:MAX_IDS]}),
        }


@asynccontextmanager
async def recorded(addresses: Sequence[str], act: Act) -> AsyncIterator[Act]:
    """Write down that it begins, and however it ends, how.

    Raises:
        UnreachableError, PublishError: the beginning cannot be written down, so it does not begin.
    """
    async with connections.broker(addresses) as connection:
        await _write(connection, act, "begun")
    try:
        yield act
    finally:
        try:
            # A connection of its own: the one that was worked with may be what broke.
            async with connections.broker(addresses) as connection:
                await _write(connection, act, "ended")
        except UsherError as error:
            log.warning("audit_not_stored", act=act.id, error=str(error))


async def _write(connection: AbstractConnection, act: Act, phase: str) -> None:
    facts = act.facts(phase)
    log.info("operator_acted", act=act.id, **{name: value for name, value in facts.items() if name != "event_ids"})
    await connections.publish_to_queue(
        connection, LOG_QUEUE, record_message(f"{act.id}.{phase}", facts), timeout_s=CONFIRM_TIMEOUT_S
    )


def record_message(record_id: str, facts: Mapping[str, Any]) -> aio_pika.Message:
    now = datetime.now(UTC)
    attributes = {
        "specversion": SPEC_VERSION,
        "id": record_id,
        "source": SOURCE,
        "type": OPERATOR_ACTED,
        "time": format_time(now),
        "datacontenttype": "application/json",
        "data": facts,
    }
    return aio_pika.Message(
        json.dumps(attributes, ensure_ascii=False, separators=(",", ":")).encode(),
        content_type=CONTENT_TYPE,
        delivery_mode=DeliveryMode.PERSISTENT,
        message_id=record_id,
        type=OPERATOR_ACTED,
        timestamp=now,
        app_id=APP_ID,
        headers={"attempt": 1},
    )


def operator() -> str:
    """Who is at the keyboard, as far as this machine knows."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # a container's user without a name
        return f"?@{socket.gethostname()}"
