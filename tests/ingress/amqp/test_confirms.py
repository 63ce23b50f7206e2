"""Every publish gets its own outcome, in whatever order and grouping the broker says it."""

import asyncio

import pytest
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from ingress.amqp.confirms import REFUSED, Confirms
from ingress.amqp.wire import Confirm, WireError

NO_ROUTE = "returned: no queue takes 'k' from exchange 'e'"

Outcomes = list[asyncio.Future[str | None]]


def published(confirms: Confirms, count: int, *, deadline: float = 1.0) -> Outcomes:
    outcomes: Outcomes = [asyncio.get_running_loop().create_future() for _ in range(count)]
    for outcome in outcomes:
        confirms.expect(outcome, deadline)
    return outcomes


def told(outcomes: Outcomes) -> list[str | None]:
    """Each outcome, or "waits"."""
    return [outcome.result() if outcome.done() else "waits" for outcome in outcomes]


def ack(tag: int, *, multiple: bool = False) -> Confirm:
    return Confirm(tag, multiple, stored=True)


def nack(tag: int, *, multiple: bool = False) -> Confirm:
    return Confirm(tag, multiple, stored=False)


def send_back(confirms: Confirms, tag: int) -> None:
    confirms.take_return(commands.Basic.Return(312, "NO_ROUTE", "e", "k"))
    confirms.take_return(ContentHeader(0, 2, commands.Basic.Properties(correlation_id=str(tag))))
    confirms.take_return(ContentBody(b"{}"))


async def test_tags_count_from_one() -> None:
    confirms = Confirms()
    outcome: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
    assert [confirms.expect(outcome, 1.0) for _ in range(3)] == [1, 2, 3]


async def test_single_confirms_come_in_any_order() -> None:
    confirms = Confirms()
    outcomes = published(confirms, 4)
    for each in (ack(3), nack(1), ack(4)):
        confirms.settle(each)
    assert told(outcomes) == [REFUSED, "waits", None, None]


async def test_a_range_settles_what_is_still_open_up_to_it() -> None:
    confirms = Confirms()
    outcomes = published(confirms, 6)
    for each in (nack(2), ack(4, multiple=True), nack(5, multiple=True)):
        confirms.settle(each)
    assert told(outcomes) == [None, REFUSED, None, None, REFUSED, "waits"]
    assert len(confirms) == 1


async def test_a_range_of_zero_is_everything() -> None:
    confirms = Confirms()
    outcomes = published(confirms, 3)
    confirms.settle(ack(0, multiple=True))
    assert told(outcomes) == [None, None, None]


async def test_a_returned_one_between_stored_ones_is_told_apart_within_one_range() -> None:
    confirms = Confirms()
    outcomes = published(confirms, 5)
    send_back(confirms, 2)
    send_back(confirms, 4)
    confirms.settle(ack(5, multiple=True))
    assert told(outcomes) == [None, NO_ROUTE, None, NO_ROUTE, None]


async def test_a_return_alone_settles_nothing() -> None:
    confirms = Confirms()
    outcomes = published(confirms, 1)
    send_back(confirms, 1)
    assert told(outcomes) == ["waits"]


async def test_a_late_word_on_what_was_given_up_changes_nothing() -> None:
    confirms = Confirms()
    outcomes = published(confirms, 2)
    (late, _) = confirms.expire(now=2.0)
    late.end("too late")
    send_back(confirms, 1)
    confirms.settle(ack(1))
    confirms.settle(ack(1))
    assert told(outcomes) == ["too late", "waits"]


async def test_only_what_is_due_expires() -> None:
    confirms = Confirms()
    published(confirms, 2, deadline=5.0)
    published(confirms, 1, deadline=4.0)
    assert confirms.next_deadline() == 4.0
    assert len(confirms.expire(now=4.5)) == 1
    confirms.hurry(4.6)
    assert confirms.next_deadline() == 4.6
    assert len(confirms.expire(now=4.6)) == 2
    assert confirms.next_deadline() is None


async def test_somebody_who_no_longer_waits_disturbs_nobody() -> None:
    confirms = Confirms()
    outcomes = published(confirms, 2)
    outcomes[0].cancel()
    confirms.settle(ack(2, multiple=True))
    assert outcomes[1].result() is None


@pytest.mark.parametrize("made_up", [ack(3), nack(2**63, multiple=True), ack(0)], ids=["next", "far", "none"])
async def test_a_confirm_for_what_was_never_published_is_an_error(made_up: Confirm) -> None:
    confirms = Confirms()
    published(confirms, 2)
    with pytest.raises(WireError):
        confirms.settle(made_up)


async def test_when_nothing_more_will_come_everybody_hears_of_it() -> None:
    confirms = Confirms()
    outcomes = published(confirms, 3)
    confirms.settle(ack(2))
    confirms.fail("gone")
    assert told(outcomes) == ["gone", None, "gone"]
    assert len(confirms) == 0
