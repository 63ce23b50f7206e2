"""The provider's list against the table: what differs, and what only looks so while it is under way. Pure."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

from consumer.database_state import State
from consumer.databases import Database
from consumer.drift import Drift, Kind, compare
from consumer.providers.protocol import Found
from tests.support.events import MOMENT

ROW: Final = Database(
    user_id="user_1",
    provider="postgres",
    project="prj_1",
    name="user_1",
    provider_id="17",
    region="local",
    host="127.0.0.1:5432",
    state=State.READY,
    reason=None,
    attempts=1,
    schema_version=1,
    event_id="msg_1",
    requested_at=MOMENT,
    ready_at=MOMENT,
    announced_at=MOMENT,
    erase_after=None,
    cancelled_at=None,
    deleted_at=None,
    changed_at=MOMENT,
    erase_in_s=None,
)
FOUND: Final = Found("user_1", "17", "local", "prj_1", "user_1")
UNDER_WAY: Final = sorted(set(State) - {State.READY, State.HELD, State.DELETED})


def differences(row: Database | None, *found: Found, before: Database | None = None) -> list[Drift]:
    rows = [row] if row else []
    return compare([before] if before else rows, found, rows, provider="postgres")


def kinds(row: Database | None, *found: Found, before: Database | None = None) -> list[str]:
    return [each.kind for each in differences(row, *found, before=before)]


@pytest.mark.parametrize("state", [State.READY, State.HELD])
def test_one_that_is_where_the_table_says_is_no_difference(state: State) -> None:
    assert kinds(replace(ROW, state=state), FOUND) == []


@pytest.mark.parametrize("state", [State.READY, State.HELD])
def test_one_that_is_not_there_is_missing(state: State) -> None:
    (drift,) = differences(replace(ROW, state=state))
    assert (drift.kind, drift.user_id, drift.provider_id) == (Kind.MISSING, "user_1", "17")


@pytest.mark.parametrize("state", UNDER_WAY)
@pytest.mark.parametrize("found", [(), (FOUND,), (replace(FOUND, provider_id="99", region=None),)])
def test_what_is_under_way_is_no_difference(state: State, found: tuple[Found, ...]) -> None:
    assert kinds(replace(ROW, state=state, provider_id=None), *found) == []


@pytest.mark.parametrize(
    ("change", "kind", "table", "has"),
    [
        ({"provider_id": "99"}, Kind.WRONG_PROVIDER_ID, "17", "99"),
        ({"project": "prj_2"}, Kind.WRONG_PROJECT, "prj_1", "prj_2"),
        ({"region": "elsewhere"}, Kind.WRONG_REGION, "local", "elsewhere"),
        ({"user_id": "user_2"}, Kind.WRONG_USER, "user_1", "user_2"),
    ],
)
def test_one_that_is_not_as_the_table_says_is_named_with_both(
    change: dict[str, Any], kind: Kind, table: str, has: str
) -> None:
    (drift,) = differences(ROW, replace(FOUND, **change))
    assert (drift.kind, drift.table, drift.has) == (kind, table, has)


def test_a_provider_that_does_not_keep_whose_it_is_is_believed() -> None:
    assert kinds(ROW, replace(FOUND, user_id=None)) == []


def test_one_that_no_row_knows_is_an_orphan() -> None:
    assert kinds(None, FOUND) == [Kind.ORPHAN]


def test_one_that_was_put_aside_under_another_name_is_an_orphan() -> None:
    assert kinds(ROW, FOUND, replace(FOUND, name="user_1-fault-1", provider_id="3")) == [Kind.ORPHAN]


def test_a_deleted_one_that_is_still_there_is_not_deleted() -> None:
    assert kinds(replace(ROW, state=State.DELETED), FOUND) == [Kind.NOT_DELETED]
    assert kinds(replace(ROW, state=State.DELETED)) == []


def test_two_of_one_name_are_one_too_many() -> None:
    (drift,) = differences(ROW, replace(FOUND, provider_id="99", project="prj_2"), FOUND)
    assert (drift.kind, drift.provider_id, drift.project) == (Kind.DUPLICATE, "99", "prj_2")


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        # Made, deleted, and asked for while the provider was listing.
        (State.CREATING, State.READY, ()),
        (State.READY, State.DELETED, (FOUND,)),
        (State.DELETING, State.DELETED, (FOUND,)),
        (None, State.READY, ()),
        (None, State.REQUESTED, (FOUND,)),
    ],
)
def test_what_changed_while_the_provider_was_asked_is_no_difference(
    before: State | None, after: State, found: tuple[Found, ...]
) -> None:
    later = replace(ROW, state=after, changed_at=MOMENT + timedelta(seconds=1))
    earlier = [replace(ROW, state=before)] if before else []
    assert compare(earlier, found, [later], provider="postgres") == []


def test_rows_of_another_provider_are_not_looked_at() -> None:
    assert kinds(replace(ROW, provider="xata")) == []


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (State.READY, Kind.PUT_ASIDE),
        (State.CREATING, Kind.PUT_ASIDE),
        (State.DELETED, Kind.NOT_DELETED),
        (None, Kind.ORPHAN),
    ],
)
def test_a_broken_one_that_was_put_aside_is_its_users(state: State | None, kind: Kind) -> None:
    aside = Found("user_1-fault-1", "9", "local", "prj_1", "user_1", put_aside_from="user_1")
    row = replace(ROW, state=state) if state else None
    beside = [FOUND] if state is State.READY else []

    (drift,) = differences(row, aside, *beside)

    assert (drift.kind, drift.name, drift.user_id) == (kind, "user_1-fault-1", "user_1")
