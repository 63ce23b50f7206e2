"""What is taken past the codec is what the codec says, for headers as they are written and as they should never be."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from consumer import properties
from consumer.properties import Properties
from ingress.amqp.message import Envelope, Message
from shared.messages import event_message
from tests.support.events import user_event

_texts = st.text(max_size=12)
_tables = st.dictionaries(
    _texts, st.integers(-(2**31), 2**31 - 1) | _texts | st.booleans() | st.binary(max_size=4).map(bytearray), max_size=3
)
_times = st.integers(0, 2**32 - 1).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
_of_each = {"message_id": _texts, "timestamp": _times}
# Few of each, so that kinds come again.
_alike: dict[str, st.SearchStrategy[Any]] = {
    "content_type": st.sampled_from(["application/json", "ä"]),
    "headers": st.sampled_from([{"attempt": 1}, {"attempt": 2, "reason": "bug"}]) | _tables.filter(bool),
    "delivery_mode": st.sampled_from([1, 2]),
    "message_type": st.sampled_from(["user.created", "user.deleted"]),
    "app_id": st.just("usher"),
}
_rare: dict[str, st.SearchStrategy[Any]] = {
    "priority": st.integers(0, 9),
    "correlation_id": _texts,
    "content_encoding": _texts,
    "expiration": _texts,
    "user_id": _texts,
}
_usual = st.fixed_dictionaries(
    _of_each | _alike, optional={name: _rare[name] for name in ("priority", "correlation_id")}
)
_any = st.fixed_dictionaries({}, optional=_of_each | _alike | _rare)


def _written(values: dict[str, Any]) -> bytes:
    return ContentHeader(0, 7, Basic.Properties(**values)).marshal()


def _by_the_codec(payload: bytes) -> Properties | None:
    header = ContentHeader()
    try:
        header.unmarshal(payload)
        return properties.of(header.properties)
    except Exception:  # noqa: BLE001 - whatever it raises, it has not read it
        return None


@given(st.lists(_usual | _any, max_size=8))
def test_a_header_reads_as_the_codec_reads_it_whatever_was_read_before(headers: list[dict[str, Any]]) -> None:
    properties._kinds.clear()
    for payload in map(_written, headers + headers):
        assert properties.read(payload) == _by_the_codec(payload)


@given(_usual, st.integers(0, 200), st.binary(max_size=3), st.integers(0, 3))
def test_a_header_that_is_spoilt_anywhere_reads_as_the_codec_reads_it(
    header: dict[str, Any], place: int, other: bytes, lost: int
) -> None:
    properties._kinds.clear()
    sound = _written(header)
    place = 12 + place % (len(sound) - 12)
    spoilt = sound[:place] + other + sound[place + lost :]
    for payload in (sound, spoilt, sound, spoilt, spoilt[:place]):
        assert properties.read(payload) == _by_the_codec(payload)


def test_a_value_that_reaches_beyond_its_table_is_no_part_of_a_kind() -> None:
    properties._kinds.clear()
    text, longer = b"S\x00\x00\x00\x02xy", b"S\x00\x00\x00\x09xy"  # the last of seven bytes too many is the id's
    read = []
    for message_id in ("msg_1", "msg_2"):
        payload = _written(_like(message_id, {"reason": "xy"})).replace(text, longer)
        read.append(properties.read(payload))
        assert read[-1] == _by_the_codec(payload)
    assert [found.kind.headers["reason"] for found in read if found] == ["xy\x02\x05msg_1", "xy\x02\x05msg_2"]


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        pytest.param(b"\x06mark_1", b"\x06mark_\xff", id="a mark that is no text"),
        pytest.param(b"\x05msg_1", b"\x05msg_\xff", id="an id that is no text"),
        pytest.param(bytes(4) + b"\x65", b"\x00\x00\x01\x8b\x65", id="a time in milliseconds"),
        pytest.param(bytes(4) + b"\x65", b"\x7f\x00\x00\x00\x65", id="a time that no calendar has"),
    ],
)
def test_what_the_codec_reads_otherwise_or_not_is_left_to_it_in_a_known_kind_too(there: bytes, instead: bytes) -> None:
    properties._kinds.clear()
    moment = datetime.fromtimestamp(0x65000000, UTC)
    sound = _written(_like("msg_1", {"attempt": 1}) | {"correlation_id": "mark_1", "timestamp": moment})
    assert sound.count(there) == 1
    for payload in (sound, sound.replace(there, instead)):
        assert properties.read(payload) == _by_the_codec(payload)


def test_an_event_as_it_is_published_is_read_by_the_codec_once(monkeypatch: pytest.MonkeyPatch) -> None:
    properties._kinds.clear()
    by_the_ingress = Envelope("", "q", content_type="a/b", headers={"attempt": 1}, type_="user.created", app_id="usher")
    payloads = [
        [_content(by_the_ingress.frames(7, Message(by_the_ingress, f"msg_{number}", 1_700_000_000, b"{}"), 4096))
         for number in range(3)],
        [ContentHeader(0, 2, event_message(user_event(event_id=f"msg_{number}")).properties).marshal()
         for number in range(3)],
    ]  # fmt: skip
    asked: list[bytes] = []
    by_the_codec = ContentHeader.unmarshal

    def ask(header: ContentHeader, payload: bytes) -> None:
        asked.append(payload)
        by_the_codec(header, payload)

    monkeypatch.setattr(ContentHeader, "unmarshal", ask)
    for of_one_kind in payloads:
        read = [properties.read(payload) for payload in of_one_kind]
        assert [found.message_id if found else None for found in read] == ["msg_0", "msg_1", "msg_2"]
    assert asked == [of_one_kind[0] for of_one_kind in payloads]


def test_kinds_without_number_take_no_more_room() -> None:
    properties._kinds.clear()
    for number in range(300):
        assert properties.read(_written(_like("msg", {"reason": str(number)}))) is not None
    assert properties.read(_written(_like("msg", {"reason": "long" * 100}))) is not None
    assert 0 < len(properties._kinds) <= 64


def _like(message_id: str, headers: dict[str, Any]) -> dict[str, Any]:
    moment = datetime(2026, 11, 21, tzinfo=UTC)
    alike = {"content_type": "a/b", "delivery_mode": 2, "message_type": "t", "app_id": "usher"}
    return {**alike, "headers": headers, "message_id": message_id, "timestamp": moment}


def _content(frames: bytes) -> bytes:
    """The payload of the second of some frames."""
    second = 7 + int.from_bytes(frames[3:7], "big") + 1
    return frames[second + 7 : second + 7 + int.from_bytes(frames[second + 3 : second + 7], "big")]
