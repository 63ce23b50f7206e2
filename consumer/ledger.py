"""Which deliveries of one channel are settled, and which acknowledgements say so to the broker. Pure.

Goes in: the tags of settled deliveries. Comes out: the fewest acknowledgements for them. Promise: none of these covers
a delivery that was not settled, known here or not: the broker counts a channel's deliveries 1, 2, 3 without gaps.
"""

from collections.abc import Iterable
from typing import NamedTuple


class Acknowledgement(NamedTuple):
    """`multiple`: everything up to `tag`."""

    tag: int
    multiple: bool


class Ledger:
    """The books of one channel, from its first delivery to its end."""

    def __init__(self) -> None:
        self._settled_up_to = 0
        self._settled_beyond: set[int] = set()
        self._held: dict[int, float] = {}

    @property
    def held_since(self) -> float | None:
        """When the delivery came that is unsettled for longest; None: there is none."""
        return next(iter(self._held.values()), None)

    @property
    def held(self) -> int:
        return len(self._held)

    def received(self, tag: int, at: float) -> None:
        self._held[tag] = at

    def settle(self, tags: Iterable[int]) -> list[Acknowledgement]:
        """Book `tags` as settled; what was settled before is left out.

        >>> ledger = Ledger()
        >>> ledger.settle([1, 2, 4, 5])
        [Acknowledgement(tag=2, multiple=True), Acknowledgement(tag=4, multiple=False), Acknowledgement(tag=5, multiple=False)]
        >>> ledger.settle([3, 6])  # 4 and 5 are settled: everything up to 6 may go at once
        [Acknowledgement(tag=6, multiple=True)]
        """  # noqa: E501 - a doctest's answer stands on one line
        fresh = sorted(tag for tag in set(tags) if tag > self._settled_up_to and tag not in self._settled_beyond)
        self._settled_beyond.update(fresh)
        while self._settled_up_to + 1 in self._settled_beyond:
            self._settled_up_to += 1
            self._settled_beyond.discard(self._settled_up_to)
        for tag in fresh:
            self._held.pop(tag, None)
        return _acknowledgements(fresh, self._settled_up_to)


def _acknowledgements(tags: list[int], settled_up_to: int) -> list[Acknowledgement]:
    within = [tag for tag in tags if tag <= settled_up_to]
    # The highest of these tags, not the highest that is settled: the broker closes the channel over a tag that it has
    # seen acknowledged before.
    together = [Acknowledgement(within[-1], multiple=True)] if within else []
    return together + [Acknowledgement(tag, multiple=False) for tag in tags[len(within) :]]
