"""The figures of several workers in, their sums out, in Prometheus' text format.

A worker that died keeps its last figures in the sums, so that no counter ever falls.
"""

from collections.abc import Iterator
from typing import Final

from prometheus_client import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

_Key = tuple[str, tuple[tuple[str, str], ...]]

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_GROWING: Final = frozenset({"counter", "histogram", "summary"})


class Sums(Collector):
    """The last figures of every worker, living and dead."""

    def __init__(self) -> None:
        self._latest: dict[str, list[Metric]] = {}
        self._retired: list[Metric] = []

    def note(self, worker: str, exposition: str) -> None:
        """Take a worker's figures in place of its earlier ones."""
        families = text_string_to_metric_families(exposition)
        # When a series began has no sum.
        self._latest[worker] = [family for family in families if not family.name.endswith("_created")]

    def retire(self, worker: str) -> None:
        """Keep what a dead worker had counted; what it only measured went with it."""
        families = self._latest.pop(worker, [])
        self._retired += [family for family in families if family.type in _GROWING]

    def exposition(self) -> bytes:
        self._retired = list(_summed(self._retired))
        return generate_latest(self)

    def collect(self) -> Iterator[Metric]:
        yield from _summed([*self._retired, *(family for families in self._latest.values() for family in families)])


def _summed(families: list[Metric]) -> Iterator[Metric]:
    for name, members in _by_name(families).items():
        total = Metric(name, members[0].documentation, members[0].type)
        values: dict[_Key, float] = {}
        for sample in (sample for member in members for sample in member.samples):
            key = (sample.name, tuple(sorted(sample.labels.items())))
            values[key] = values.get(key, 0.0) + sample.value
        total.samples = [Sample(sample_name, dict(labels), value) for (sample_name, labels), value in values.items()]
        yield total


def _by_name(families: list[Metric]) -> dict[str, list[Metric]]:
    groups: dict[str, list[Metric]] = {}
    for family in families:
        groups.setdefault(family.name, []).append(family)
    return groups
