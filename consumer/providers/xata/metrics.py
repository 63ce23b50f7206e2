"""What the provider tells Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class XataMetrics:
    """Registered nowhere when no registry is given."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._used = Gauge(
            "usher_xata_branches", "Branches in the pool's projects, reserved ones too.", registry=registry
        )
        self._room = Gauge(
            "usher_xata_branches_max", "Branches that the pool can take, projects to be made too.", registry=registry
        )
        self._nearly_full = Gauge(
            "usher_xata_pool_nearly_full", "1 when 80 % of the pool are used: make room.", registry=registry
        )
        self.faults = Counter("usher_xata_faults", "Branches that were seen in STATUS_TYPE_FAULT.", registry=registry)

    def pool(self, used: int, room: int, *, nearly_full: bool) -> None:
        self._used.set(used)
        self._room.set(room)
        self._nearly_full.set(float(nearly_full))
