"""The accounting itself: it has to see what is lost, or a proof by it proves nothing."""

from collections import Counter
from typing import Final

from cli.posting import Webhook
from tests.chaos.accounting import PROVISION_DEAD, SYNC_DEAD, Tables, differences, is_lost
from tests.chaos.model import key_of, model_of

CREATED: Final = Webhook("msg_1", "user_ada", "user.created", 1_763_650_000_000)
UPDATED: Final = Webhook("msg_2", "user_ada", "user.updated", 1_763_650_001_000)
DELETED: Final = Webhook("msg_3", "user_ada", "user.deleted", 1_763_650_002_000)
NOBODY_DEAD: Final[dict[str, set[str]]] = {SYNC_DEAD: set(), PROVISION_DEAD: set()}


def _tables(*applied: Webhook) -> Tables:
    """As they are when just these have been applied."""
    model = model_of(list(applied), list(applied))
    ready = [user for user, state in model.databases.items() if state == "ready"]
    return Tables(model.keys, model.rows, model.databases, Counter(ready))


def test_the_greatest_event_decides_in_whatever_order_they_were_accepted() -> None:
    for accepted in ([CREATED, UPDATED, DELETED], [DELETED, UPDATED, CREATED]):
        model = model_of(accepted, accepted)
        assert model.keys == {"user_ada": (True, 0, "msg_3")}
        assert (model.rows, model.databases) == ({}, {"user_ada": "deleted"})
    assert model_of([UPDATED, CREATED], [CREATED]).rows["user_ada"].updated_at_ms == UPDATED.at_ms
    assert key_of(CREATED) < key_of(UPDATED) < key_of(DELETED)


def test_what_reached_the_tables_or_was_superseded_is_not_lost() -> None:
    model = model_of([CREATED, UPDATED], [CREATED, UPDATED])
    tables = _tables(CREATED, UPDATED)
    assert [is_lost(webhook, tables, model, NOBODY_DEAD) for webhook in (CREATED, UPDATED)] == [False, False]
    assert differences(model, tables) == []


def test_what_is_nowhere_is_lost_and_the_tables_differ_from_the_model() -> None:
    model = model_of([CREATED, UPDATED], [CREATED, UPDATED])
    tables = _tables(CREATED)
    assert is_lost(UPDATED, tables, model, NOBODY_DEAD)
    assert {text.partition(" not")[0] for text in differences(model, tables)} == {"guard", "row"}


def test_an_event_that_only_one_effect_has_seen_is_lost() -> None:
    model = model_of([CREATED], [CREATED])
    without_database = Tables(model.keys, model.rows, {}, Counter())
    assert is_lost(CREATED, without_database, model, NOBODY_DEAD)
    assert not is_lost(CREATED, without_database, model, {**NOBODY_DEAD, PROVISION_DEAD: {"msg_1"}})


def test_a_second_database_and_one_that_is_left_are_noticed() -> None:
    model = model_of([CREATED], [CREATED])
    tables = _tables(CREATED)
    twice = Tables(tables.keys, tables.rows, tables.databases, Counter({"user_ada": 2}))
    assert differences(model, twice) != []
    gone = model_of([CREATED, DELETED], [CREATED, DELETED])
    left = Tables(gone.keys, gone.rows, gone.databases, Counter({"user_ada": 1}))
    assert differences(gone, left) != []
