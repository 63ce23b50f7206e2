"""The contract: what is on the wire, and that only what keeps to it is read."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import DecodeError
from shared.events import DatabaseData, DatabaseEvent, UserData, UserEvent, decode, encode
from tests.support.events import user_event

_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1)
_MAYBE = st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
_NUMBER = st.integers(-(2**63), 2**63 - 1)
_TIME = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001 - hypothesis wants naive bounds
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000),
)
_DATA = st.builds(
    UserData,
    version=_NUMBER,
    external_id=_MAYBE,
    email=_MAYBE,
    username=_MAYBE,
    first_name=_MAYBE,
    last_name=_MAYBE,
    photo_url=_MAYBE,
    phone_number=_MAYBE,
    created_at=st.none() | _NUMBER,
    country=_MAYBE,
    region=_MAYBE,
)
_EVENTS = st.builds(
    UserEvent,
    id=_TEXT,
    source=_TEXT,
    type=st.sampled_from(["user.created", "user.updated", "user.deleted"]),
    subject=_TEXT,
    time=_TIME,
    data=_DATA,
    traceparent=_MAYBE,
)


@given(_EVENTS)
def test_what_was_encoded_is_decoded_as_it_was(event: UserEvent) -> None:
    assert decode(encode(event)) == event


def test_a_database_event_is_decoded_as_it_was() -> None:
    data = DatabaseData(provider="postgres", name="user_2abc", region="local", host="127.0.0.1:5432", schema_version=1)
    event = DatabaseEvent(
        "id", "usher/postgres", "database.ready", "user_2abc", datetime(2026, 11, 20, tzinfo=UTC), data
    )
    assert decode(encode(event)) == event


def test_the_wire_has_the_cloudevents_names() -> None:
    assert json.loads(encode(user_event(event_id="msg_1"))) == {
        "specversion": "1.0",
        "id": "msg_1",
        "source": "clerk/ins_1",
        "type": "user.created",
        "subject": "user_2abc",
        "time": "2026-11-20T12:00:00.000Z",
        "datacontenttype": "application/json",
        "data": {
            "version": 1_763_650_000_000,
            "external_id": None,
            "email": "ada@example.org",
            "username": "ada",
            "first_name": "Ada",
            "last_name": None,
            "photo_url": None,
            "phone_number": None,
            "created_at": 1_763_650_000_000,
            "country": "GB",
            "region": None,
        },
    }


def test_times_are_written_in_utc() -> None:
    east = replace(user_event(), time=datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))))
    assert json.loads(encode(east))["time"] == "2026-01-01T00:00:00.000Z"


def test_what_a_newer_producer_adds_is_passed_over() -> None:
    attributes = json.loads(encode(user_event(event_id="msg_1")))
    attributes["dataschema"] = "x"
    attributes["data"]["shoe_size"] = 43
    assert decode(json.dumps(attributes).encode()) == user_event(event_id="msg_1")


def _without(*path: str) -> bytes:
    attributes = json.loads(encode(user_event()))
    inner: Any = attributes
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return json.dumps(attributes).encode()


def _with(value: Any, *path: str) -> bytes:
    attributes = json.loads(encode(user_event()))
    inner: Any = attributes
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return json.dumps(attributes).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b"[" * 100_000,
        b'{"specversion":"0.3"}',
        *(_without(name) for name in ("specversion", "id", "source", "type", "subject", "time", "data")),
        _without("data", "version"),
        _with("user.banned", "type"),
        _with("yesterday", "time"),
        _with("2026-11-20T12:00:00", "time"),
        _with("0001-01-01T00:00:00+14:00", "time"),
        _with(7, "subject"),
        _with("", "id"),
        _with("a\x00b", "data", "email"),
        _with("\ud800", "data", "first_name"),
        _with(True, "data", "version"),
        _with(1.5, "data", "version"),
        _with(2**63, "data", "version"),
        _with([], "data"),
        _with({}, "data", "email"),
    ],
)
def test_what_is_no_event_is_refused_as_such(body: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(body)


@given(
    st.binary()
    | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(json.dumps).map(str.encode)
)
def test_decoding_raises_nothing_else(body: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(body)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_FIELDS = ["specversion", "id", "source", "type", "subject", "time", "data", "traceparent"]


@given(st.sampled_from(_FIELDS), _JSON)
def test_any_value_in_any_attribute_is_an_event_or_refused(name: str, value: Any) -> None:
    try:
        event = decode(_with(value, name))
    except DecodeError:
        return
    assert decode(encode(event)) == event
