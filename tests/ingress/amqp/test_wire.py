"""Bytes in, frames out: however they are cut, and whatever else somebody sends."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader, ProtocolHeader
from pamqp.heartbeat import Heartbeat

from ingress.amqp.wire import HEARTBEAT_FRAME, MAX_FRAME_BYTES, Confirm, Frame, FrameReader, WireError, encoded

RETURN = commands.Basic.Return(312, "NO_ROUTE", "usher.events", "user.created")
STREAM = b"".join(
    (
        encoded(commands.Connection.Start(server_properties={"product": "RabbitMQ"}), 0),
        HEARTBEAT_FRAME,
        encoded(commands.Basic.Ack(1, multiple=False), 1),
        encoded(commands.Basic.Ack(2**62, multiple=True), 1),
        encoded(commands.Basic.Nack(7, multiple=False), 1),
        encoded(commands.Basic.Nack(9, multiple=True), 1),
        encoded(RETURN, 1),
        encoded(commands.Channel.Close(404, "NOT_FOUND", 60, 40), 2),
    )
)


def read(*parts: bytes) -> list[tuple[int, Frame]]:
    reader = FrameReader()
    return [read for part in parts for read in reader.frames(part)]


def kinds(*parts: bytes) -> list[tuple[int, str]]:
    return [(channel, repr(each) if isinstance(each, Confirm) else each.name) for channel, each in read(*parts)]


def test_confirms_are_read_with_tag_range_and_verdict() -> None:
    confirms = [each for _, each in read(STREAM) if isinstance(each, Confirm)]
    assert confirms == [
        Confirm(1, multiple=False, stored=True),
        Confirm(2**62, multiple=True, stored=True),
        Confirm(7, multiple=False, stored=False),
        Confirm(9, multiple=True, stored=False),
    ]


def test_everything_else_comes_as_the_codec_has_it() -> None:
    (_, start), *_, (_, returned), (channel, close) = read(STREAM)
    assert isinstance(start, commands.Connection.Start)
    assert isinstance(returned, commands.Basic.Return)
    assert (returned.exchange, returned.routing_key) == ("usher.events", "user.created")
    assert isinstance(close, commands.Channel.Close)
    assert (channel, close.reply_code) == (2, 404)


def test_bytes_that_come_one_by_one_are_the_same_frames() -> None:
    assert kinds(*(STREAM[place : place + 1] for place in range(len(STREAM)))) == kinds(STREAM)


@given(st.lists(st.integers(0, len(STREAM)), max_size=6).map(sorted))
def test_wherever_the_stream_is_cut_the_frames_are_the_same(cuts: list[int]) -> None:
    ends = [0, *cuts, len(STREAM)]
    parts = [STREAM[start:end] for start, end in pairwise(ends)]
    assert kinds(*parts) == kinds(STREAM)


def test_nothing_is_said_about_a_frame_that_is_not_complete() -> None:
    assert kinds(STREAM[:-1]) == kinds(STREAM)[:-1]


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        ProtocolHeader(1, 0, 0).marshal(),
        b"\x01\x00\x00\xff\xff\xff\xff",
        encoded(commands.Basic.Ack(1), 1)[:-1] + b"\x00",
        b"\x01\x00\x01\x00\x00\x00\x04\x00\x99\x00\x99\xce",
        b"\x01\x00\x01\x00\x00\x00\x02\x00\x3c\xce",
        b"\x02\x00\x01\x00\x00\x00\x01\x00\xce",
    ],
    ids=[
        "another protocol",
        "another version",
        "too long",
        "no end",
        "no such method",
        "half a method",
        "half a header",
    ],
)
def test_what_is_no_amqp_is_an_error_of_its_own(garbage: bytes) -> None:
    with pytest.raises(WireError):
        read(garbage)


@given(st.binary(max_size=200))
def test_no_garbage_is_any_other_error(garbage: bytes) -> None:
    for stream in (garbage, b"\x01\x00\x01" + len(garbage).to_bytes(4, "big") + garbage + b"\xce"):
        try:
            read(stream)
        except WireError:
            continue


def test_the_largest_frame_there_may_be_is_read() -> None:
    body = bytes(MAX_FRAME_BYTES - 8)
    largest = b"\x03\x00\x01" + len(body).to_bytes(4, "big") + body + b"\xce"
    ((_, read_body),) = read(largest[:70_000], largest[70_000:])
    assert isinstance(read_body, ContentBody)
    assert read_body.value == body


def test_a_heartbeat_and_the_properties_of_a_message_are_told_apart() -> None:
    header = ContentHeader(0, 5, commands.Basic.Properties(correlation_id="3"))
    (_, first), (_, second) = read(HEARTBEAT_FRAME + frame.marshal(header, 1))
    assert isinstance(first, Heartbeat)
    assert isinstance(second, ContentHeader)
