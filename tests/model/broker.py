"""The broker's promises that Usher builds on, in memory and without any input or output.

| promise | source |
|---|---|
| a message is confirmed when every queue it was routed to has stored it | Confirms |
| a refused message (nack) may be in some of its queues, an unanswered one in none, some or all | Confirms |
| what no queue takes is returned, then confirmed | Publishers, mandatory |
| what is not acknowledged is handed out again; what a lost channel held counts one delivery more | Consumers |
| up to 4.2 a message that is given back (nack, requeue) counts as well | Quorum queues, 4.3 notes |
| what was handed out more than `x-delivery-limit` times again goes to the dead-letter queue | Quorum queues |
| after `x-message-ttl` a message goes to the dead-letter queue, at least once: a second copy is possible | TTL, DLX |
| acknowledging several covers every unsettled delivery of the channel up to that tag | AMQP 0.9.1, basic.ack |
| settling what is not unsettled closes the channel (406) | AMQP 0.9.1, basic.ack |
| a consumer holds at most its prefetch of unsettled messages | Consumer prefetch |

test_conformance.py asks a real RabbitMQ for what one script can provoke. Left out: order (Usher does not need it),
replication (the promise of a confirm stands for it), disks that lose what was synced, and what a dead-lettered message
is counted as at its new place (none up to 3.x, that of its old queue from 4.0 on: Usher does not read it there).
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pamqp import commands as spec

from shared.topology import Queue as Declared
from shared.topology import Topology

Properties = spec.Basic.Properties
DELIVERY_COUNT: Final = "x-delivery-count"


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it lies in a queue; `deliveries` were in vain so far."""

    body: bytes
    properties: dict[str, Any]
    deliveries: int = 0

    @property
    def headers(self) -> dict[str, Any]:
        return {**(self.properties.get("headers") or {}), DELIVERY_COUNT: self.deliveries}

    @property
    def id(self) -> str:
        return str(self.properties.get("message_id"))


@dataclass(slots=True)
class Queue:
    """One queue; `takers` are the consumers that the broker hands its messages to in turn."""

    declared: Declared
    ready: deque[Message] = field(default_factory=deque)
    takers: deque["Taker"] = field(default_factory=deque)

    @property
    def name(self) -> str:
        return self.declared.name


@dataclass(slots=True)
class Taker:
    """A consumer on a channel."""

    tag: str
    queue: Queue
    prefetch: int
    deliver: Callable[[str, int, Message], None]
    channel: "Channel"

    @property
    def has_room(self) -> bool:
        return not self.prefetch or sum(held.taker is self for held in self.channel.unacked.values()) < self.prefetch


@dataclass(slots=True)
class Unacked:
    message: Message
    queue: Queue
    taker: Taker


class Broker:
    """Exchanges and queues of `topology`. `counts_requeues` is what RabbitMQ does up to 4.2."""

    def __init__(self, topology: Topology, *, counts_requeues: bool = True) -> None:
        self.counts_requeues = counts_requeues
        self.queues = {queue.name: Queue(queue) for queue in topology.queues}
        self._alternates = {
            exchange.name: str(exchange.arguments.get("alternate-exchange", "")) for exchange in topology.exchanges
        }

    def route(self, exchange: str, key: str) -> list[Queue]:
        if not exchange:
            return [self.queues[key]] if key in self.queues else []
        bound = [
            queue
            for queue in self.queues.values()
            if any(binding in {(exchange, key), (exchange, "")} for binding in queue.declared.bindings)
        ]
        alternate = self._alternates.get(exchange)
        return self.route(alternate, key) if not bound and alternate else bound

    def store(self, message: Message, queues: list[Queue]) -> None:
        for queue in queues:
            queue.ready.append(message)
            self.hand_out(queue)

    def expire(self, queue: Queue, *, twice: bool = False) -> None:
        """The oldest message's time is over."""
        message = queue.ready.popleft()
        for _ in range(1 + twice):
            self._dead_letter(queue, message, "expired")

    def give_back(self, unacked: Unacked, *, counted: bool) -> None:
        message = replace(unacked.message, deliveries=unacked.message.deliveries + counted)
        if message.deliveries > int(unacked.queue.declared.arguments["x-delivery-limit"]):
            self._dead_letter(unacked.queue, message, "delivery_limit")
        else:
            unacked.queue.ready.appendleft(message)

    def hand_out(self, queue: Queue) -> None:
        while queue.ready and any(taker.has_room for taker in queue.takers):
            queue.takers.rotate(-1)
            if queue.takers[0].has_room:
                queue.takers[0].channel.hand_out(queue.takers[0], queue.ready.popleft())

    def _dead_letter(self, queue: Queue, message: Message, reason: str) -> None:
        target = self.queues[str(queue.declared.arguments["x-dead-letter-routing-key"])]
        death = {"queue": queue.name, "reason": reason, "count": 1}
        headers = {**(message.properties.get("headers") or {}), "x-death": [death]}
        self.store(Message(message.body, message.properties | {"headers": headers}), [target])


@dataclass(slots=True)
class Channel:
    """What the broker knows of one channel: who consumes on it, and what it holds unsettled."""

    broker: Broker
    unacked: dict[int, Unacked] = field(default_factory=dict)
    takers: dict[str, Taker] = field(default_factory=dict)
    prefetch: int = 0
    deliveries: int = 0
    published: int = 0

    def consume(self, name: str, tag: str, deliver: Callable[[str, int, Message], None]) -> None:
        taker = Taker(tag, self.broker.queues[name], self.prefetch, deliver, self)
        self.takers[tag] = taker
        taker.queue.takers.append(taker)
        self.broker.hand_out(taker.queue)

    def cancel(self, tag: str) -> None:
        if taker := self.takers.pop(tag, None):
            taker.queue.takers.remove(taker)

    def hand_out(self, taker: Taker, message: Message) -> None:
        self.deliveries += 1
        self.unacked[self.deliveries] = Unacked(message, taker.queue, taker)
        taker.deliver(taker.tag, self.deliveries, message)

    def covered(self, tag: int, *, multiple: bool) -> list[int]:
        """The unsettled tags that a settling of `tag` is about; none is an error on the channel."""
        if multiple:
            return sorted(held for held in self.unacked if held <= tag or not tag)
        return [tag] if tag in self.unacked else []

    def ack(self, tag: int, *, multiple: bool) -> bool:
        settled = [self.unacked.pop(held) for held in self.covered(tag, multiple=multiple)]
        self._refill(settled)
        return bool(settled)

    def requeue(self, tag: int, *, multiple: bool) -> bool:
        given = [self.unacked.pop(held) for held in self.covered(tag, multiple=multiple)]
        self._back(given, counted=self.broker.counts_requeues)
        return bool(given)

    def lost(self) -> None:
        """The channel is gone: its consumers, too, and what it held goes back."""
        for tag in list(self.takers):
            self.cancel(tag)
        held, self.unacked = list(self.unacked.values()), {}
        self._back(held, counted=True)

    def _back(self, given: list[Unacked], *, counted: bool) -> None:
        for unacked in reversed(given):
            self.broker.give_back(unacked, counted=counted)
        self._refill(given)

    def _refill(self, settled: list[Unacked]) -> None:
        for name in dict.fromkeys(unacked.queue.name for unacked in settled):
            self.broker.hand_out(self.broker.queues[name])


def held(broker: Broker, channels: list[Channel], queues: list[str]) -> Iterator[Message]:
    """All messages that the broker still has in `queues`: ready, or handed out and not settled."""
    for name in queues:
        yield from broker.queues[name].ready
    for channel in channels:
        yield from (unacked.message for unacked in channel.unacked.values() if unacked.queue.name in queues)
