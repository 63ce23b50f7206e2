"""Clerk's JSON → our event: the golden pairs, what is refused, and what must hold for anything Clerk-shaped."""

import json
import string
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.country import country_lookup
from ingress.normalize import MAX_TEXT_CHARS, MAX_URL_CHARS, Ignored, normalize
from ingress.webhook import Mode, VerifiedWebhook
from shared.errors import PayloadError
from shared.events import UserEvent, decode, encode

GOLDEN = sorted(Path(__file__).parent.parent.joinpath("golden").glob("*.json"))
SENT_AT = datetime(2025, 11, 20, 14, 46, 41, tzinfo=UTC)
REGION_KEY = "public_metadata.region"


def webhook(body: bytes) -> VerifiedWebhook:
    return VerifiedWebhook(id="msg_1", body=body, mode=Mode.SVIX, sent_at=SENT_AT)


def nowhere(_address: str) -> str | None:
    return None


def event_of(envelope: object) -> UserEvent:
    event = normalize(webhook(json.dumps(envelope).encode()), nowhere, REGION_KEY)
    assert isinstance(event, UserEvent)
    return event


def created(**data: object) -> dict[str, Any]:
    return {"type": "user.created", "timestamp": 1763650000123, "data": {"id": "user_1", **data}}


def test_there_are_golden_pairs() -> None:
    assert len(GOLDEN) >= 20


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_pairs_stay_as_they_are(path: Path) -> None:
    pair = json.loads(path.read_text())
    verified = VerifiedWebhook(
        id=pair["webhook"]["id"],
        body=json.dumps(pair["payload"]).encode(),
        mode=Mode.SVIX,
        sent_at=datetime.fromisoformat(pair["webhook"]["sent_at"]),
    )

    event = normalize(verified, country_lookup(None), pair.get("region_key", REGION_KEY))

    assert isinstance(event, UserEvent)
    assert json.loads(encode(event)) == pair["event"]


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", b"{", b"[]", b"null", b'"x"', b"{}", '{"type":"x"}'.encode("utf-16"), b'{"type":7}'],
)
def test_what_is_no_clerk_event_is_unreadable(body: bytes) -> None:
    with pytest.raises(PayloadError):
        normalize(webhook(body), nowhere, REGION_KEY)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_nesting_beyond_reason_is_unreadable(opening: str) -> None:
    with pytest.raises(PayloadError):
        normalize(webhook(opening.encode() * 100_000), nowhere, REGION_KEY)


def test_a_number_beyond_reason_is_unreadable() -> None:
    with pytest.raises(PayloadError):
        normalize(webhook(b'{"type":"user.created","timestamp":' + b"9" * 5000 + b"}"), nowhere, REGION_KEY)


@pytest.mark.parametrize(
    "user_id",
    [None, "", 7, True, [], "user_\x00", "user_\ud800", "user_\n", "user_\x7f", "u" * 256],
)
@pytest.mark.parametrize("kind", ["user.created", "user.updated", "user.deleted"])
def test_a_user_without_a_usable_id_is_unreadable(kind: str, user_id: object) -> None:
    envelope = {"type": kind, "data": {"id": user_id}}
    with pytest.raises(PayloadError):
        event_of(envelope)


@pytest.mark.parametrize("data", [None, [], "user", 7])
def test_data_that_is_no_object_is_unreadable(data: object) -> None:
    with pytest.raises(PayloadError):
        event_of({"type": "user.deleted", "data": data})


def test_the_error_does_not_quote_the_body() -> None:
    with pytest.raises(PayloadError) as caught:
        normalize(webhook(b'{"secret": marker}'), nowhere, REGION_KEY)

    assert "marker" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("kind", ["session.created", "email.created", "user.createdAtEdge", "x"])
def test_other_types_are_ignored(kind: str) -> None:
    assert normalize(webhook(json.dumps({"type": kind}).encode()), nowhere, REGION_KEY) == Ignored(kind)


@pytest.mark.parametrize("kind", ["", "a b", "x" * 65, "\x1b[31m", "ä", "1"])
def test_a_type_unfit_for_a_log_is_called_other(kind: str) -> None:
    assert normalize(webhook(json.dumps({"type": kind}).encode()), nowhere, REGION_KEY) == Ignored("other")


def test_the_client_address_is_looked_up_and_goes_no_further() -> None:
    asked: list[str] = []

    def country_of(address: str) -> str | None:
        asked.append(address)
        return "NZ"

    envelope = created() | {"event_attributes": {"http_request": {"client_ip": "203.0.113.9"}}}
    event = normalize(webhook(json.dumps(envelope).encode()), country_of, REGION_KEY)

    assert asked == ["203.0.113.9"]
    assert isinstance(event, UserEvent)
    assert event.data.country == "NZ"
    assert b"203.0.113.9" not in encode(event)


def test_two_users_with_one_local_part_get_two_usernames() -> None:
    emails = {"primary_email_address_id": "e", "email_addresses": [{"id": "e", "email_address": "info@example.org"}]}

    names = {event_of(created(**(emails | {"id": user_id}))).data.username for user_id in ("user_1", "user_2")}

    assert len(names) == 2
    assert all(name is not None and name.startswith("info-") for name in names)


def test_what_identifies_is_never_cut() -> None:
    long = "x" * (MAX_TEXT_CHARS + 1)
    emails = {"primary_email_address_id": "e", "email_addresses": [{"id": "e", "email_address": long}]}

    data = event_of(created(external_id=long, username=long, image_url="x" * (MAX_URL_CHARS + 1), **emails)).data

    assert (data.external_id, data.email, data.photo_url) == (None, None, None)
    assert data.username is not None
    assert data.username.startswith("user_1-")


def test_what_people_read_is_cut() -> None:
    assert event_of(created(first_name="ä" * 5000)).data.first_name == "ä" * MAX_TEXT_CHARS


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (1763650000123, 1763650000123),
        (1763650000, 1763650000000),
        (1763650000.5, 1763650000500),
        (253402300799999, 253402300799999),
        (253402300800000, None),
        (10**400, None),
        (-1, None),
        (0, None),
        (True, None),
        ("1763650000123", None),
        (float("nan"), None),
        (float("inf"), None),
    ],
)
def test_times_are_milliseconds_or_seconds_or_null(number: object, expected: int | None) -> None:
    assert event_of(created(created_at=number)).data.created_at == expected


def test_the_last_millisecond_that_there_is_makes_a_time() -> None:
    assert event_of(created() | {"timestamp": 253402300799999}).time.year == 9999


_awkward = st.text(st.characters(codec=None), max_size=40) | st.sampled_from(["\x00", "\ud800", "", "x" * 3000])
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _awkward,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "region", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
_id = st.sampled_from(["idn_1", "idn_2"]) | _json
_contact = st.fixed_dictionaries(
    {}, optional={"id": _id, "email_address": _awkward | _json, "phone_number": _awkward | _json}
)
_user = st.fixed_dictionaries(
    {"id": st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=40)},
    optional={
        name: strategy | _json
        for name, strategy in {
            "primary_email_address_id": _id,
            "primary_phone_number_id": _id,
            "email_addresses": st.lists(_contact | _json, max_size=3),
            "phone_numbers": st.lists(_contact | _json, max_size=3),
            "username": _awkward,
            "first_name": _awkward,
            "last_name": _awkward,
            "external_id": _awkward,
            "image_url": _awkward,
            "public_metadata": st.fixed_dictionaries({"region": _awkward}),
            "created_at": st.integers(0, 2 * 10**12),
            "updated_at": st.integers(0, 2 * 10**12),
        }.items()
    },
)
_envelope = st.fixed_dictionaries(
    {"type": st.sampled_from(["user.created", "user.updated", "user.deleted"]), "data": _user},
    optional={"timestamp": st.integers() | _json, "instance_id": _awkward | _json, "event_attributes": _json},
)


@given(_envelope)
def test_anything_clerk_shaped_with_an_id_becomes_an_event_that_every_consumer_can_read(
    envelope: dict[str, Any],
) -> None:
    event = event_of(envelope)

    assert decode(encode(event)) == event
    assert event.subject == envelope["data"]["id"]
    assert (event.data.version is None) == (event.type == "user.deleted")
    assert event.type == "user.deleted" or event.data.username
    assert event_of(envelope) == event
    for text in (event.data.email, event.data.username, event.data.external_id, event.source):
        assert len((text or "").encode()) < 2600


@given(_json)
def test_anything_json_ends_in_an_event_or_is_unreadable(body: object) -> None:
    try:
        normalize(webhook(json.dumps(body).encode()), nowhere, REGION_KEY)
    except PayloadError:
        return


@given(st.binary(max_size=200))
def test_any_bytes_end_in_an_event_or_are_unreadable(body: bytes) -> None:
    try:
        normalize(webhook(body), nowhere, REGION_KEY)
    except PayloadError:
        return
