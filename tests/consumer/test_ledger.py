"""Acknowledging several deliveries at once never acknowledges one that is not settled."""

import doctest

from hypothesis import given
from hypothesis import strategies as st

from consumer import ledger as module
from consumer.ledger import Acknowledgement, Ledger


class Channel:
    """What a broker makes of acknowledgements; an unknown tag closes the channel, as with RabbitMQ."""

    def __init__(self, deliveries: int) -> None:
        self.unacknowledged = set(range(1, deliveries + 1))

    def take(self, ack: Acknowledgement) -> None:
        assert ack.tag in self.unacknowledged, "unknown delivery tag"
        covered = {tag for tag in self.unacknowledged if tag <= ack.tag} if ack.multiple else {ack.tag}
        self.unacknowledged -= covered


@given(
    shares=st.lists(st.integers(0, 9), min_size=1, max_size=60),
    order=st.permutations(range(10)),
    never=st.sets(st.integers(0, 9), max_size=2),
)
def test_whatever_the_order_exactly_what_was_settled_is_acknowledged(
    shares: list[int], order: list[int], never: set[int]
) -> None:
    # Delivery number n is in the hands of worker shares[n - 1]; workers settle theirs in `order`, some never.
    ledger, channel, settled = Ledger(), Channel(len(shares)), set[int]()
    for worker in order:
        theirs = [] if worker in never else [tag for tag, other in enumerate(shares, 1) if other == worker]
        settled.update(theirs)
        for ack in ledger.settle(theirs):
            channel.take(ack)
        assert channel.unacknowledged == set(range(1, len(shares) + 1)) - settled


def test_deliveries_that_are_settled_in_their_order_take_one_acknowledgement() -> None:
    ledger = Ledger()
    assert ledger.settle(range(1, 201)) == [Acknowledgement(200, multiple=True)]
    assert ledger.settle(range(201, 401)) == [Acknowledgement(400, multiple=True)]


def test_a_delivery_that_was_never_seen_is_not_acknowledged_with_later_ones() -> None:
    ledger = Ledger()
    assert ledger.settle([2, 3]) == [Acknowledgement(2, multiple=False), Acknowledgement(3, multiple=False)]


def test_settling_twice_acknowledges_once() -> None:
    ledger = Ledger()
    ledger.settle([1, 3])
    assert ledger.settle([1, 3]) == []
    assert ledger.settle([2, 3]) == [Acknowledgement(2, multiple=True)]


def test_the_oldest_unsettled_delivery_is_known() -> None:
    ledger = Ledger()
    for tag, at in ((1, 10.0), (2, 11.0), (3, 12.0)):
        ledger.received(tag, at)
    ledger.settle([1, 3])
    assert ledger.held_since == 11.0
    ledger.settle([2])
    assert ledger.held_since is None


def test_the_examples_in_the_ledger_are_true() -> None:
    assert doctest.testmod(module).failed == 0
