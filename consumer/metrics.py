"""What a consumer tells Prometheus; one name per effect everywhere."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from consumer.breaker import State

# Seconds; from "at once" to what the retry ladder can take.
_CRITICAL_TIME_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 14400)


class ConsumerMetrics:
    """The metrics of one consumer process, labelled with its queue."""

    def __init__(self, registry: CollectorRegistry, effect: str, queue: str) -> None:
        self._queue = queue
        self._of_outcome: dict[tuple[str, str], Counter] = {}
        self._messages = Counter(
            "usher_messages",
            "Messages settled, by queue, outcome (Ack, Retry, DeadLetter) and reason.",
            ["queue", "outcome", "reason"],
            registry=registry,
        )
        self.critical_time = Histogram(
            "usher_critical_time_seconds",
            "From the event's time at Clerk to its effect being done.",
            ["effect"],
            registry=registry,
            buckets=_CRITICAL_TIME_BUCKETS_S,
        ).labels(effect)
        self.in_flight = Gauge(
            "usher_in_flight", "Events an effect is at work on.", ["effect"], registry=registry
        ).labels(
            effect,
        )
        self._breaker = Gauge(
            "usher_breaker_open",
            "1 while the effect's dependency is down and no events are taken, 0.5 while one is tried.",
            ["effect"],
            registry=registry,
        ).labels(effect)

    def settled(self, outcome: str, reason: str) -> None:
        # Looking a child up by its labels costs more than counting, and every event is counted.
        counter = self._of_outcome.get((outcome, reason))
        if counter is None:
            counter = self._of_outcome[outcome, reason] = self._messages.labels(self._queue, outcome, reason)
        counter.inc()

    def breaker(self, state: State) -> None:
        self._breaker.set({State.CLOSED: 0.0, State.HALF_OPEN: 0.5, State.OPEN: 1.0}[state])
