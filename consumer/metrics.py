"""What a consumer tells Prometheus; one name per effect everywhere."""

from collections.abc import Callable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from consumer.breaker import State

# Seconds; from "at once" to what the retry ladder can take.
_CRITICAL_TIME_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 14400)


class ConsumerMetrics:
    """The metrics of one consumer process, labelled with its queue."""

    def __init__(self, registry: CollectorRegistry, effect: str, queue: str) -> None:
        self._effect, self._queue = effect, queue
        self._messages = Counter(
            "usher_messages",
            "Messages settled, by queue, outcome (Ack, Retry, DeadLetter) and reason.",
            ["queue", "outcome", "reason"],
            registry=registry,
        )
        # Looking a child up by its labels costs more than counting, and every event is counted.
        self._done = self._messages.labels(queue, "Ack", "")
        self._critical_time = Histogram(
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

        self._level = Gauge(
            "usher_health_level",
            "1 while the level of health is reached: process, connection, registered, progress.",
            ["effect", "level"],
            registry=registry,
        )
        self._dependency = Gauge(
            "usher_dependency_up",
            "0 while what the effect needs is down.",
            ["effect", "dependency"],
            registry=registry,
        )
        self._oldest_unsettled = Gauge(
            "usher_oldest_unsettled_seconds",
            "For how long the oldest unsettled event has been held; 0: none is.",
            ["effect"],
            registry=registry,
        ).labels(effect)

    def watch(
        self,
        *,
        levels: Callable[[], Mapping[str, bool]],
        dependencies: Callable[[], Mapping[str, bool]],
        oldest_unsettled_s: Callable[[], float],
    ) -> None:
        """Ask for the states of health whenever the metrics are read."""
        for gauge, states in ((self._level, levels), (self._dependency, dependencies)):
            for name in states():
                gauge.labels(self._effect, name).set_function(_asking(states, name))
        self._oldest_unsettled.set_function(oldest_unsettled_s)

    def done(self, critical_times_s: Sequence[float]) -> None:
        """So many events were applied, so long after they happened."""
        self._done.inc(len(critical_times_s))
        for seconds in critical_times_s:
            self._critical_time.observe(seconds)

    def failed(self, outcome: str, reason: str) -> None:
        self._messages.labels(self._queue, outcome, reason).inc()

    def breaker(self, state: State) -> None:
        self._breaker.set({State.CLOSED: 0.0, State.HALF_OPEN: 0.5, State.OPEN: 1.0}[state])


def _asking(states: Callable[[], Mapping[str, bool]], name: str) -> Callable[[], float]:
    return lambda: float(states()[name])
