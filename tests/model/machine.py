"""The state machine: rules that let things happen or go wrong, and the properties that hold at every step.

At the end of every run all faults stop, and the system must come to rest with every event applied or dead-lettered.
"""

from collections import Counter
from collections.abc import Iterable
from typing import ClassVar, Final

from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from consumer.breaker import PROBE_MAX_S
from consumer.consume import Limits
from consumer.users import greatest, rank
from shared.events import USER_EVENT_TYPES, UserEvent, UserEventType
from shared.messages import ATTEMPT, REASON
from tests.model.driver import DEAD, LADDER, STOP_DEADLINE_S, WORK, World
from tests.support.events import user_event

QUEUES: Final = (WORK, *LADDER, DEAD)
STEPS: Final = 40
# Far more than what any run leaves to do: at most a few events, each with a few attempts.
REST_ROUNDS: Final = 300
# Longer than the longest pause between two probes of an open breaker.
A_WHILE_S: Final = PROBE_MAX_S + 1


class Settling(RuleBasedStateMachine):
    """Webhooks come in, are confirmed, applied, copied and acknowledged, and everything breaks now and then."""

    world: World
    down_at_first: ClassVar[bool] = False
    # What all runs together have seen: a machine in which nothing happens would hold, too.
    seen: ClassVar[Counter[str]] = Counter()

    @initialize(
        copies=st.integers(1, 2),
        workers=st.integers(1, 2),
        batch=st.sampled_from([1, 3]),
        counts=st.booleans(),
        events=st.integers(1, 4),
    )
    def start(self, copies: int, workers: int, batch: int, counts: bool, events: int) -> None:  # noqa: FBT001 - drawn
        limits = Limits(workers=workers, batch=batch, max_attempts=3)
        self.world = World(copies=copies, limits=limits, counts_requeues=counts)
        self.world.down = self.down_at_first
        for number in range(events):
            self._send(USER_EVENT_TYPES[number % len(USER_EVENT_TYPES)], 1, stored=True)

    @rule(kind=st.sampled_from(USER_EVENT_TYPES), user=st.integers(1, 2), cursed=st.booleans(), stored=st.booleans())
    def a_webhook_comes(self, kind: UserEventType, user: int, cursed: bool, stored: bool) -> None:  # noqa: FBT001 - drawn
        event_id = self._send(kind, user, stored=stored)
        if cursed:
            self.world.cursed.add(event_id)

    def _send(self, kind: UserEventType, user: int, *, stored: bool) -> str:
        number = len(self.world.ledger.sent)
        event = user_event(kind, f"user_{user}", version=number, event_id=f"msg_{number}")
        self.world.webhook(event, stored=stored)
        return event.id

    @precondition(lambda self: self.world.ledger.sent)
    @rule(which=st.integers(0, 9))
    def a_webhook_comes_again(self, which: int) -> None:
        sent = list(self.world.ledger.sent.values())
        self.world.webhook(sent[which % len(sent)])

    @rule(which=st.integers(0, 9), way=st.integers(0, 9))
    def something_happens(self, which: int, way: int) -> None:
        if happenings := self.world.happenings():
            happening = happenings[which % len(happenings)]
            ways = list(happening.ways)
            note(f"{happening.what}: {ways[way % len(ways)]}")
            self.world.let(happening, ways[way % len(ways)])

    @rule(times=st.integers(1, 8))
    def all_goes_well_for_a_while(self, times: int) -> None:
        for _ in range(times):
            if happenings := self.world.happenings():
                note(happenings[0].what)
                self.world.let(happenings[0])

    @rule(seconds=st.sampled_from([0.2, 1.0, 6.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule(which=st.integers(0, 2))
    def a_process_is_killed(self, which: int) -> None:
        names = [*self.world.consumers, "ingress"]
        self.world.kill(names[which % len(names)])

    @rule(times=st.sampled_from([1, 5, 25]))
    def the_consumers_die_again_and_again(self, times: int) -> None:
        self.world.die_again_and_again(times)

    @precondition(lambda self: self.world.calls)
    @rule(which=st.integers(0, 1), deadline_passes=st.booleans())
    def a_consumer_is_stopped(self, which: int, deadline_passes: bool) -> None:  # noqa: FBT001 - drawn
        self.world.stop(self.world.consumers[which % len(self.world.consumers)])
        if deadline_passes:
            self.world.pass_time(STOP_DEADLINE_S + 1)

    @precondition(lambda self: self.world.sessions)
    @rule(which=st.integers(0, 9), noticed=st.booleans())
    def a_connection_breaks(self, which: int, noticed: bool) -> None:  # noqa: FBT001 - drawn
        self.world.sessions[which % len(self.world.sessions)].cut(noticed=noticed)
        self.world.loop.run_ready()

    @rule()
    def the_broker_restarts(self) -> None:
        for session in list(self.world.sessions):
            session.cut(noticed=True)
        self.world.loop.run_ready()

    @rule(down=st.booleans())
    def the_dependency_goes_or_comes(self, down: bool) -> None:  # noqa: FBT001 - drawn
        self.world.down = down

    @invariant()
    def nothing_accepted_is_lost(self) -> None:
        there = {message.id for message in self.world.stored(*QUEUES)}
        assert self.world.ledger.accepted - self.world.ledger.applied - there == set()

    @invariant()
    def accepted_means_confirmed(self) -> None:
        assert self.world.ledger.accepted <= self.world.ledger.confirmed

    @invariant()
    def nothing_is_acknowledged_before_it_is_applied_or_copied(self) -> None:
        assert self.world.ledger.unjustified == []

    @invariant()
    def no_process_ends_by_itself(self) -> None:
        assert self.world.ended_by_themselves() == []

    @invariant()
    def the_protocol_is_kept(self) -> None:
        assert self.world.errors == []

    @invariant()
    def attempts_are_bounded_and_only_failures_count(self) -> None:
        ledger = self.world.ledger
        for message in self.world.stored(*QUEUES):
            attempt = int(message.headers[ATTEMPT])
            assert attempt <= self.world.limits.max_attempts
            assert attempt <= 1 + ledger.blamed[message.id] + ledger.crash_suspected[message.id], message

    @invariant()
    def nothing_is_given_up_without_its_reason(self) -> None:
        ledger = self.world.ledger
        for message in self.world.stored(DEAD):
            match message.headers.get(REASON):
                case "permanent":
                    assert message.id in ledger.condemned
                case "attempts_exhausted":
                    assert ledger.blamed[message.id]
                case "crashed_consumer":
                    assert ledger.crash_suspected[message.id]
                case _:
                    assert message.headers["x-death"][0]["reason"] == "delivery_limit", message

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self._come_to_rest()
        finally:
            self.world.close()

    def _come_to_rest(self) -> None:
        world, ledger = self.world, self.world.ledger
        world.down = False
        for _ in range(REST_ROUNDS):
            if happenings := world.happenings():
                world.let(happenings[0])
            elif world.stored(WORK, *LADDER):
                world.pass_time(A_WHILE_S)
            else:
                break
        else:
            raise AssertionError(f"does not come to rest: {world.stored(WORK, *LADDER)}, {world.happenings()}")
        dead = {message.id for message in world.stored(DEAD)}
        assert ledger.accepted <= ledger.applied | dead
        assert world.table == merged(event for event in ledger.sent.values() if event.id in ledger.applied)
        self.seen.update(world.tally())


def merged(events: Iterable[UserEvent]) -> dict[str, tuple[bool, int, str]]:
    """What the table must say once these are applied, in whatever order: of each user the greatest."""
    return {user: rank(event) for user, event in greatest(events).items()}


class Calm(Settling):
    """Processes are stopped and dependencies go; nothing is killed, and no connection breaks."""

    a_process_is_killed = None  # type: ignore[assignment] # no rule here
    the_consumers_die_again_and_again = None  # type: ignore[assignment] # no rule here
    a_connection_breaks = None  # type: ignore[assignment] # no rule here
    the_broker_restarts = None  # type: ignore[assignment] # no rule here


class Outage(Calm):
    """The dependency is down when the first events come."""

    down_at_first = True


def check(machine: type[Settling] = Settling, *, examples: int, shrink: bool = True, fixed: bool = True) -> None:
    """Run the machine; the same runs each time, unless not `fixed`.

    Raises:
        AssertionError: a property does not hold.
    """
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=fixed,
            database=None,
            phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
