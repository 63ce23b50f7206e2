"""Which exchanges and queues exist, and what is bound to what. Data only; `shared/declare` brings it to a broker.

The tables at the top are the whole of it, named so that the management UI reads like them. Everything lies in the
subset that means the same from RabbitMQ 3.10 to 4.x.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from shared.events import DATABASE_EVENT_TYPES, USER_EVENT_TYPES

EVENTS_EXCHANGE: Final = "usher.events"
UNROUTED: Final = "usher.unrouted"
LOG_QUEUE: Final = "usher.log"
INGRESS_DEAD_QUEUE: Final = "usher.ingress.dead"

# Which event types each effect's queue takes. One name per effect everywhere.
EFFECTS: Final[dict[str, tuple[str, ...]]] = {
    "sync_user": ("user.created", "user.updated", "user.deleted"),
    "provision_database": ("user.created", "user.deleted"),
}

RETRY_DELAYS_S: Final = (5, 30, 300, 1800, 7200)
LOG_MAX_AGE: Final = "7D"
LOG_SEGMENT_BYTES: Final = 64 * 1024 * 1024

# Backstop for a message that ends its consumer before Usher itself can set it aside (consumer/outcome does that first).
WORK_DELIVERY_LIMIT: Final = 20
# Looking at a message in the management UI counts as a delivery too; waiting and dead messages must survive any number.
KEEP_DELIVERY_LIMIT: Final = 1_000_000

Argument = str | int


@dataclass(frozen=True, slots=True)
class Exchange:
    name: str
    kind: str
    arguments: dict[str, Argument] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Queue:
    name: str
    arguments: dict[str, Argument]
    bindings: tuple[tuple[str, str], ...] = ()  # (exchange, routing key)


@dataclass(frozen=True, slots=True)
class Topology:
    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]


def queue_of(effect: str) -> str:
    return f"usher.{effect}"


def dead_queue_of(queue: str) -> str:
    return f"{queue}.dead"


def retry_queue_of(queue: str, delay_s: int) -> str:
    return f"{queue}.retry.{_delay_name(delay_s)}"


def topology() -> Topology:
    """All that Usher needs on a broker."""
    return Topology(
        exchanges=(
            Exchange(UNROUTED, "fanout"),
            Exchange(EVENTS_EXCHANGE, "topic", {"alternate-exchange": UNROUTED}),
        ),
        queues=(
            *(queue for effect, types in EFFECTS.items() for queue in effect_queues(effect, types)),
            Queue(LOG_QUEUE, _log_arguments(), _bound((*USER_EVENT_TYPES, *DATABASE_EVENT_TYPES))),
            Queue(UNROUTED, _keep(), ((UNROUTED, ""),)),
            Queue(INGRESS_DEAD_QUEUE, _keep()),
        ),
    )


def effect_queues(effect: str, types: tuple[str, ...]) -> Iterator[Queue]:
    """The queues of one effect, in the order of a message's way: work, the retry ladder, the dead letters."""
    work, dead = queue_of(effect), dead_queue_of(queue_of(effect))
    yield Queue(work, {**_quorum(WORK_DELIVERY_LIMIT), **_dead_letter_to(dead)}, _bound(types))
    for delay_s in RETRY_DELAYS_S:
        ttl = {"x-message-ttl": delay_s * 1000}
        yield Queue(retry_queue_of(work, delay_s), {**_keep(), **ttl, **_dead_letter_to(work)})
    yield Queue(dead, _keep())


def _bound(types: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((EVENTS_EXCHANGE, kind) for kind in types)


def _quorum(delivery_limit: int) -> dict[str, Argument]:
    return {"x-queue-type": "quorum", "x-delivery-limit": delivery_limit, "x-overflow": "reject-publish"}


def _keep() -> dict[str, Argument]:
    return _quorum(KEEP_DELIVERY_LIMIT)


def _dead_letter_to(queue: str) -> dict[str, Argument]:
    return {
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": queue,
        "x-dead-letter-strategy": "at-least-once",
    }


def _log_arguments() -> dict[str, Argument]:
    return {
        "x-queue-type": "stream",
        "x-max-age": LOG_MAX_AGE,
        "x-stream-max-segment-size-bytes": LOG_SEGMENT_BYTES,
    }


def _delay_name(delay_s: int) -> str:
    for unit, length_s in (("h", 3600), ("m", 60)):
        if delay_s % length_s == 0:
            return f"{delay_s // length_s}{unit}"
    return f"{delay_s}s"
