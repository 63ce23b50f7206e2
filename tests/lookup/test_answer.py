"""Which state is which answer. Pure."""

from dataclasses import replace
from datetime import timedelta
from http import HTTPStatus
from typing import Final

import pytest

from consumer.database_state import State
from lookup.answer import SLOW_AFTER_S, answer_about, is_enough
from lookup.row import Row
from tests.lookup import contract
from tests.support.events import MOMENT

ROW: Final = Row(
    user_id="user_1",
    state="creating",
    provider="postgres",
    project=None,
    name="user_1",
    region="local",
    host="db.example:5432",
    schema_version=0,
    requested_at=MOMENT,
    ready_at=None,
    erase_after=None,
    age_s=0.0,
    due=False,
)
READY: Final = replace(ROW, state="ready", ready_at=MOMENT)
HELD: Final = replace(READY, state="held", erase_after=MOMENT + timedelta(days=7))


def row_in(state: State) -> Row:
    return {State.READY: READY, State.HELD: HELD}.get(state, replace(ROW, state=state))


def test_every_state_of_the_consumer_has_its_answer() -> None:
    assert {state: int(answer_about(row_in(state)).status) for state in State} == {
        State.REQUESTED: 202,
        State.CREATING: 202,
        State.QUOTA_BLOCKED: 202,
        State.FAILED: 202,
        State.READY: 200,
        State.HELD: 200,
        State.DELETING: 410,
        State.DELETED: 410,
    }


def test_the_documented_states_are_those_that_the_answers_carry() -> None:
    told: dict[HTTPStatus, set[str]] = {}
    for state in State:
        told.setdefault(answer_about(row_in(state)).status, set()).add(state)
    schemas = {HTTPStatus.OK: "Location", HTTPStatus.ACCEPTED: "OnItsWay", HTTPStatus.GONE: "Gone"}
    assert told == {
        status: set(contract.SCHEMAS[name]["properties"]["state"]["enum"]) for status, name in schemas.items()
    }


def test_a_state_of_a_newer_usher_is_not_guessed_at() -> None:
    with pytest.raises(ValueError, match="sleeping"):
        answer_about(replace(ROW, state="sleeping"))


def test_a_held_database_can_be_used_until_its_time_has_come_and_is_gone_then() -> None:
    assert answer_about(HELD).body["erase_after"] == "2026-11-27T12:00:00.000Z"
    due = answer_about(replace(HELD, due=True))
    assert (due.status, due.state) == (HTTPStatus.GONE, "deleting")


@pytest.mark.parametrize(
    ("state", "age_s", "reason"),
    [
        ("requested", 0, None),
        ("creating", SLOW_AFTER_S - 1, None),
        ("requested", SLOW_AFTER_S, "slow"),
        ("creating", SLOW_AFTER_S, "slow"),
        ("quota_blocked", 0, "no_room"),
        ("failed", 0, "failed"),
        ("failed", 7200, "failed"),
    ],
)
def test_a_page_is_told_when_it_should_not_wait(state: str, age_s: float, reason: str | None) -> None:
    row = replace(ROW, state=state, age_s=age_s)
    assert answer_about(row).body["reason"] == reason
    assert is_enough(row) is (reason is not None)


@pytest.mark.parametrize(
    ("state", "age_s", "retry_after"),
    [
        *(("creating", age_s, after) for age_s, after in [(0, "1"), (14, "1"), (30, "3"), (600, "60"), (86400, "60")]),
        *(("failed", age_s, after) for age_s, after in [(0, "30"), (400, "40"), (86400, "60")]),
        ("quota_blocked", 0, "30"),
    ],
)
def test_who_asks_again_is_told_to_leave_time_in_proportion(state: str, age_s: float, retry_after: str) -> None:
    assert answer_about(replace(ROW, state=state, age_s=age_s)).headers == {"Retry-After": retry_after}


def test_waiting_is_over_when_it_is_there_or_gone_and_not_while_nothing_is_known() -> None:
    over = [is_enough(row_in(state)) for state in (State.READY, State.HELD, State.DELETING, State.DELETED)]
    assert over == [True] * 4
    assert not is_enough(None)


def test_only_that_it_is_there_tells_where() -> None:
    for state in set(State) - {State.READY, State.HELD}:
        assert "host" not in answer_about(row_in(state)).body
