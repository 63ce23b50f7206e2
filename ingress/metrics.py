"""What the ingress tells Prometheus. Label values come from closed sets: no stranger can make up a new one."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

# Seconds; up to the longest deadline for a confirm.
_PUBLISH_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15)


class IngressMetrics:
    """The metrics of one ingress process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._webhooks = Counter(
            "usher_webhooks",
            "Webhooks answered, by status, decision, event type, mode of verification and problem.",
            ["status", "decision", "type", "mode", "problem"],
            registry=registry,
        )
        self._counters: dict[tuple[str, ...], Counter] = {}
        self._refused = Counter(
            "usher_http_refused",
            "Requests that are no webhooks: wrong path or method.",
            ["status"],
            registry=registry,
        )
        self.publish_seconds = Histogram(
            "usher_publish_seconds",
            "From handing an event to the broker until its confirm, or until giving up.",
            registry=registry,
            buckets=_PUBLISH_BUCKETS_S,
        )
        self._in_flight = Gauge("usher_publish_in_flight", "Publishes that wait for their confirm.", registry=registry)
        self._link_open = Gauge("usher_broker_link_open", "1 while the broker can be written to.", registry=registry)

    def webhook(self, status: int, decision: str, kind: str, mode: str, problem: str) -> None:
        labels = (str(status), decision, kind, mode, problem)
        counter = self._counters.get(labels)
        if counter is None:
            # Looking labels up costs more than counting; there are a few dozen of them.
            counter = self._counters[labels] = self._webhooks.labels(*labels)
        counter.inc()

    def refused(self, status: int) -> None:
        self._refused.labels(str(status)).inc()

    def watch_in_flight(self, count: Callable[[], int]) -> None:
        self._in_flight.set_function(count)

    def watch_link(self, is_open: Callable[[], bool]) -> None:
        self._link_open.set_function(lambda: float(is_open()))
