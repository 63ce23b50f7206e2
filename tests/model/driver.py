"""A small world around the model of the broker: processes of Usher, a sender, a table, and what may happen next.

The processes are the product's own code on a virtual loop. Everything that can go one way or another waits in
`happenings`, so that whoever drives the world decides: between any two of them a process can be killed, which is at
every await of its work.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry

from consumer.app import _run_until
from consumer.consume import Limits
from consumer.outcome import CRASH_DELIVERIES
from consumer.users import rank
from ingress.amqp.link import PublisherLink
from ingress.metrics import IngressMetrics
from ingress.publish import Publisher
from shared import topology
from shared.errors import DependencyDown, NotYet, PermanentError, PublishError, ThrottledError, TransientError
from shared.events import UserEvent
from shared.messages import REASON
from tests.model.broker import Broker, Channel, Message, held
from tests.model.loop import OWNER, VirtualLoop
from tests.model.wire import Delivered, Gone, Pipe, Server, Session
from tests.support.consumers import make_consumer

ADDRESS: Final = "amqp://model/?heartbeat=0"
WORK: Final = "usher.sync_user"
DEAD: Final = topology.dead_queue_of(WORK)
LADDER: Final = tuple(topology.retry_queue_of(WORK, delay_s) for delay_s in topology.RETRY_DELAYS_S)
STOP_DEADLINE_S: Final = 5.0

# How an effect can go. The first is the good way.
ERRORS: Final[dict[str, Exception | None]] = {
    "done": None,
    "done, answer lost": TransientError("no answer"),
    "transient": TransientError("busy"),
    "throttled": ThrottledError("slower", 20),
    "bug": ValueError("a bug"),
    "not yet": NotYet("later", 60),
    "permanent": PermanentError("never"),
    "down": DependencyDown("away"),
}
BLAMED: Final = frozenset({"done, answer lost", "transient", "throttled", "bug"})


@dataclass(frozen=True, slots=True)
class Happening:
    """What may happen next, in one of several ways; the first way is the good one."""

    what: str
    ways: Mapping[str, Callable[[], None]]


@dataclass(slots=True)
class Ledger:
    """What is true of the events, kept beside the system: for the properties to compare with."""

    sent: dict[str, UserEvent] = field(default_factory=dict)
    accepted: set[str] = field(default_factory=set)
    applied: set[str] = field(default_factory=set)
    condemned: set[str] = field(default_factory=set)
    confirmed: set[str] = field(default_factory=set)
    copied: Counter[str] = field(default_factory=Counter)
    copied_before: dict[Delivered, int] = field(default_factory=dict)
    blamed: Counter[str] = field(default_factory=Counter)
    crash_suspected: Counter[str] = field(default_factory=Counter)
    unjustified: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Call:
    """An effect at work on `events`."""

    events: Sequence[UserEvent]
    ended: asyncio.Future[str]


class World(Server):
    """One broker, one ingress, and consumers `sync_user` 0 … `copies` - 1, each killed and started at will."""

    def __init__(self, *, copies: int = 2, limits: Limits | None = None, counts_requeues: bool = True) -> None:
        super().__init__(Broker(topology.topology(), counts_requeues=counts_requeues), gated=True)
        self.loop = VirtualLoop(self.dial)
        self.ledger = Ledger()
        self.table: dict[str, tuple[bool, int, str]] = {}
        self.cursed: set[str] = set()
        self.down = False
        self.calls: list[Call] = []
        self.limits = limits or Limits(workers=2, max_attempts=3)
        self._stops: dict[str, asyncio.Event] = {}
        self._ends: dict[str, asyncio.Task[None]] = {}
        self.consumers = [f"consumer {number}" for number in range(copies)]
        self._start_ingress()
        for name in self.consumers:
            self._start_consumer(name)
        self.loop.run_ready()

    # The sender.

    def webhook(self, event: UserEvent, *, stored: bool = False) -> None:
        """It comes in; if `stored`, the broker takes at once what the ingress publishes."""
        self.ledger.sent[event.id] = event
        with self._as("ingress"):
            self.loop.create_task(self._answer(event))
        self.loop.run_ready()
        for session in [session for session in self.sessions if stored and session.owner == "ingress"]:
            while session.inbox:
                _take(session, "confirm")
        self.loop.run_ready()

    async def _answer(self, event: UserEvent) -> None:
        try:
            await self._publisher.publish(event)
        except PublishError:
            return
        self.ledger.accepted.add(event.id)

    # The effect, on a table that merges as the real one does.

    async def _effect(self, events: Sequence[UserEvent]) -> list[Exception | None]:
        call = Call(list(events), asyncio.get_running_loop().create_future())
        self.calls.append(call)
        try:
            way = await call.ended
        finally:
            self.calls.remove(call)
        return [self._apply(event, way if number == 0 else "done") for number, event in enumerate(events)]

    def _apply(self, event: UserEvent, way: str) -> Exception | None:
        """Several events: the first takes the chosen way, the others go well."""
        if self.down or way == "down":
            return ERRORS["down"]
        if event.id in self.cursed:
            way = "transient"
        if way.startswith("done"):
            self.ledger.applied.add(event.id)
            self.table[event.subject] = max(rank(event), self.table.get(event.subject, rank(event)))
        if way in BLAMED:
            self.ledger.blamed[event.id] += 1
        if way == "permanent":
            self.ledger.condemned.add(event.id)
        return ERRORS[way]

    async def _probe(self) -> None:
        if self.down:
            raise DependencyDown("away")

    # What may happen.

    def happenings(self) -> list[Happening]:
        return [*self._on_the_wire(), *self._at_work(), *self._expiring(), *self._unnoticed()]

    def let(self, happening: Happening, way: str | None = None) -> None:
        happening.ways[way or next(iter(happening.ways))]()
        self.loop.run_ready()

    def _on_the_wire(self) -> Iterator[Happening]:
        for session in self.sessions:
            if session.inbox:
                first = session.inbox[0]
                what = (
                    "the end"
                    if isinstance(first, Gone)
                    else f"{first.method.name} {first.message and first.message.id}"
                )
                answers = ("confirm", "hold", "nack", "nack_some") if what.startswith("Basic.Publish") else ("take",)
                ways: dict[str, Callable[[], None]] = {answer: partial(_take, session, answer) for answer in answers}
                if any(isinstance(arrived, Gone) for arrived in session.inbox):
                    ways["lost"] = session.lost
                yield Happening(f"connection {session.number}: {what}", ways)
            for late in session.unconfirmed:
                yield Happening(f"confirm of {late.message.id}", {"arrives": partial(session.confirm, late)})

    def _at_work(self) -> Iterator[Happening]:
        for call in self.calls:
            ways = {way: partial(_end, call, way) for way in ERRORS}
            yield Happening(f"effect on {[event.id for event in call.events]}", ways)

    def _expiring(self) -> Iterator[Happening]:
        for name in LADDER:
            queue = self.broker.queues[name]
            if queue.ready:
                once = partial(self.broker.expire, queue)
                yield Happening(f"{name} lets go", {"once": once, "twice": partial(once, twice=True)})

    def _unnoticed(self) -> Iterator[Happening]:
        for pipe in self.unaware:
            yield Happening("a client notices its loss", {"now": partial(self._notice, pipe)})

    def _notice(self, pipe: Pipe) -> None:
        self.unaware.remove(pipe)
        pipe.reset()

    # Processes.

    def kill(self, name: str) -> None:
        """As kill -9: nothing more comes from it, though what it had written may still arrive."""
        self._end(name)
        self._start_ingress() if name == "ingress" else self._start_consumer(name)
        self.loop.run_ready()

    def _end(self, name: str) -> None:
        for session in [session for session in self.sessions if session.owner == name]:
            session.pipe.severed = True
            session.ended()
        self.loop.kill(name)

    def die_again_and_again(self, times: int) -> None:
        """Every consumer is killed; before they come back, `times` others take what is there, and die over it."""
        for name in self.consumers:
            self._end(name)
        for session in [session for session in self.sessions if session.owner in self.consumers]:
            session.lost()
        for _ in range(times):
            mayfly = Channel(self.broker)
            mayfly.consume(WORK, "mayfly", lambda *_delivery: None)
            mayfly.lost()
        for name in self.consumers:
            self._start_consumer(name)
        self.loop.run_ready()

    def stop(self, name: str) -> None:
        """As SIGTERM; it is started again when it has ended."""
        self._stops[name].set()
        self.loop.run_ready()

    def pass_time(self, seconds: float) -> None:
        self.loop.pass_time(seconds)
        for name in [name for name, task in self._ends.items() if task.done()]:
            self._ends[name].result()
            self._start_consumer(name)
        self.loop.run_ready()

    def close(self) -> None:
        self.gated = False
        self.loop.kill(None)
        self.loop.close()

    def _start_ingress(self) -> None:
        with self._as("ingress"):
            link = PublisherLink([ADDRESS], name="ingress")
            metrics = IngressMetrics(CollectorRegistry())
            self._publisher = Publisher(link, max_in_flight=10, timeout_s=5, metrics=metrics)
            self._ingress = self.loop.create_task(link.run())

    def _start_consumer(self, name: str) -> None:
        with self._as(name):
            consumer = make_consumer(self._effect, [ADDRESS], probe=self._probe, limits=self.limits)
            stop = self._stops[name] = asyncio.Event()
            self._ends[name] = self.loop.create_task(_run_until(stop.wait, consumer, STOP_DEADLINE_S))

    @contextmanager
    def _as(self, name: str) -> Iterator[None]:
        token = OWNER.set(name)
        try:
            yield
        finally:
            OWNER.reset(token)

    # The ledger.

    def confirmed(self, message: Message) -> None:
        if REASON in message.headers:
            self.ledger.copied[message.id] += 1
        else:
            self.ledger.confirmed.add(message.id)

    def handed_out(self, delivery: Delivered, message: Message) -> None:
        self.ledger.copied_before[delivery] = self.ledger.copied[message.id]
        if message.deliveries >= CRASH_DELIVERIES:
            self.ledger.crash_suspected[message.id] += 1

    def settling(self, delivery: Delivered, message: Message) -> None:
        """A message may go when its event is applied, or when a copy was confirmed after it was handed out."""
        copied = self.ledger.copied[message.id] > self.ledger.copied_before[delivery]
        if message.id not in self.ledger.applied and not copied:
            self.ledger.unjustified.append(message.id)

    def ended_by_themselves(self) -> list[str]:
        """Processes that nobody killed or stopped."""
        consumers = [name for name, task in self._ends.items() if task.done() and not self._stops[name].is_set()]
        return [*consumers, *(["ingress"] if self._ingress.done() else [])]

    def tally(self) -> Counter[str]:
        ledger = self.ledger
        return Counter(
            accepted=len(ledger.accepted),
            refused=len(ledger.sent.keys() - ledger.accepted),
            applied=len(ledger.applied),
            copied=ledger.copied.total(),
            failed=ledger.blamed.total(),
            taken_for_a_killer=ledger.crash_suspected.total(),
            dead=len(self.stored(DEAD)),
        )

    def stored(self, *queues: str) -> list[Message]:
        return list(held(self.broker, self.channels(), list(queues)))


def _take(session: Session, answer: str) -> None:
    session.take(answer)
    session.go_on()


def _end(call: Call, way: str) -> None:
    call.ended.set_result(way)
