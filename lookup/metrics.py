"""What the lookup tells Prometheus. Label values come from closed sets: nobody can make up a new one."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

# Seconds; up to the longest wait that can be asked for.
_ANSWER_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25)


class LookupMetrics:
    """The metrics of one lookup process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._lookups = Counter(
            "usher_lookups",
            "Requests answered, by status and by the state of the database they asked about.",
            ["status", "state"],
            registry=registry,
        )
        self._seconds = Histogram(
            "usher_lookup_seconds",
            "From the request to its answer, waiting included when it was asked for.",
            ["waited"],
            registry=registry,
            buckets=_ANSWER_BUCKETS_S,
        )
        self._waiting = Gauge("usher_lookup_waiting", "Requests that wait for a database.", registry=registry)

    def answered(self, status: int, state: str | None, *, waited: bool, seconds: float) -> None:
        self._lookups.labels(str(status), state or "none").inc()
        self._seconds.labels(str(waited).lower()).observe(seconds)

    def watch(self, waiting: Callable[[], int]) -> None:
        self._waiting.set_function(lambda: float(waiting()))
