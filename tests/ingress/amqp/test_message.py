"""A publish as bytes: the codec reads from it what was meant, whatever was encoded beforehand."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from ingress.amqp.message import TRANSIENT, Envelope, Message, tag_of
from ingress.amqp.wire import MAX_FRAME_BYTES, Frame, FrameReader, WireError

EVENT = Envelope(
    "usher.events",
    "user.created",
    content_type="application/cloudevents+json",
    headers={"attempt": 1},
    type_="user.created",
    app_id="usher",
)
# Larger seconds the codec would take for milliseconds.
TIMES = st.integers(0, 2**32 - 1)
IDS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255)


def frames(tag: int, message: Message, max_frame_bytes: int = MAX_FRAME_BYTES) -> list[Frame]:
    return [frame for _, frame in FrameReader().frames(message.envelope.frames(tag, message, max_frame_bytes))]


@given(st.integers(1, 2**63), IDS, TIMES, st.binary(max_size=300))
def test_the_codec_reads_what_was_meant(tag: int, message_id: str, timestamp_s: int, body: bytes) -> None:
    publish, header, *bodies = frames(tag, Message(EVENT, message_id, timestamp_s, body))

    assert isinstance(publish, commands.Basic.Publish)
    assert (publish.exchange, publish.routing_key, publish.mandatory) == ("usher.events", "user.created", True)
    assert isinstance(header, ContentHeader)
    assert header.body_size == len(body)
    assert header.properties == commands.Basic.Properties(
        content_type="application/cloudevents+json",
        headers={"attempt": 1},
        delivery_mode=2,
        correlation_id=str(tag),
        message_id=message_id,
        timestamp=datetime.fromtimestamp(timestamp_s, tz=UTC),
        message_type="user.created",
        app_id="usher",
    )
    assert b"".join(part.value for part in bodies if isinstance(part, ContentBody)) == body
    assert tag_of(header) == tag


def test_what_a_kind_of_message_does_not_have_is_not_written() -> None:
    publish, header = frames(1, Message(Envelope("", "q", delivery_mode=TRANSIENT, mandatory=False), "", 1, b""))
    assert isinstance(publish, commands.Basic.Publish)
    assert not publish.mandatory
    assert isinstance(header, ContentHeader)
    written = {name for name, value in header.properties if value}
    assert written == {"delivery_mode", "correlation_id", "timestamp"}


def test_a_large_body_is_cut_into_frames_that_the_broker_takes() -> None:
    body = bytes(range(256)) * 1024
    _, _, *bodies = frames(1, Message(EVENT, "msg_1", 0, body), max_frame_bytes=4096)
    parts = [part.value for part in bodies if isinstance(part, ContentBody)]
    assert b"".join(parts) == body
    assert max(map(len, parts)) == 4096 - 8


@pytest.mark.parametrize("strange", [None, "", "x", "-1", "\u0661"])
def test_a_message_that_is_none_of_ours_is_an_error(strange: str | None) -> None:
    with pytest.raises(WireError):
        tag_of(ContentHeader(0, 0, commands.Basic.Properties(correlation_id=strange)))
