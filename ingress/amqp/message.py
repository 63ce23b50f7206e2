"""A publish as bytes: what messages of one kind have in common is encoded once, the rest is put in between. Pure.

Each message carries its delivery tag as `correlation_id`: the broker sends a message that no queue takes back with its
properties, and says the tag only in the confirm that follows, which may be one for many.
"""

import struct
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from pamqp import commands
from pamqp.constants import FRAME_BODY, FRAME_END_CHAR, FRAME_HEADER
from pamqp.header import ContentHeader

from ingress.amqp.wire import FRAME_OVERHEAD_BYTES, HEAD, WireError, encoded

PUBLISH_CHANNEL: Final = 1
PERSISTENT: Final = 2
TRANSIENT: Final = 1

_BASIC_CLASS: Final = commands.Basic.frame_id
_CONTENT: Final = struct.Struct(">HHQH")  # class, weight, size of the body, which properties there are
_TIMESTAMP: Final = struct.Struct(">Q")
_FLAGS_BYTES: Final = 2
_OF_EACH: Final = ("correlation_id", "message_id", "timestamp")

Headers = Mapping[str, str | int]


class Envelope:
    """Where messages of one kind go, and those of their properties that are always the same."""

    def __init__(  # noqa: PLR0913 - as many as AMQP has
        self,
        exchange: str,
        routing_key: str,
        *,
        content_type: str = "",
        headers: Headers | None = None,
        delivery_mode: int = PERSISTENT,
        type_: str = "",
        app_id: str = "",
        mandatory: bool = True,
    ) -> None:
        self.exchange, self.routing_key = exchange, routing_key
        publish = commands.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=mandatory)
        before = commands.Basic.Properties(
            content_type=content_type, headers=dict(headers) if headers else None, delivery_mode=delivery_mode
        ).marshal()
        after = commands.Basic.Properties(message_type=type_, app_id=app_id).marshal()
        self._method = encoded(publish, PUBLISH_CHANNEL)
        self._before, self._after = before[_FLAGS_BYTES:], after[_FLAGS_BYTES:]
        self._flags = _flags(before) | _flags(after) | sum(commands.Basic.Properties.flags[name] for name in _OF_EACH)

    def frames(self, tag: int, message: "Message", max_frame_bytes: int) -> bytes:
        """All frames of one publish: method, properties, body."""
        number, message_id = b"%d" % tag, message.id.encode()
        properties = b"".join(
            (
                self._before,
                bytes((len(number),)),
                number,
                bytes((len(message_id),)),
                message_id,
                _TIMESTAMP.pack(message.timestamp_s),
                self._after,
            )
        )
        content = _CONTENT.pack(_BASIC_CLASS, 0, len(message.body), self._flags) + properties
        header = HEAD.pack(FRAME_HEADER, PUBLISH_CHANNEL, len(content)) + content + FRAME_END_CHAR
        return b"".join((self._method, header, *_body_frames(message.body, max_frame_bytes)))


class Message(NamedTuple):
    """What is published. `id` has at most 255 bytes."""

    envelope: Envelope
    id: str
    timestamp_s: int
    body: bytes


def tag_of(returned: ContentHeader) -> int:
    """The delivery tag of a message that the broker sent back.

    Raises:
        WireError: it is none of ours.
    """
    tag = returned.properties.correlation_id or ""
    if not (tag.isascii() and tag.isdecimal()):
        raise WireError("a message came back that was never published")
    return int(tag)


def _flags(marshalled: bytes) -> int:
    return int.from_bytes(marshalled[:_FLAGS_BYTES], "big")


def _body_frames(body: bytes, max_frame_bytes: int) -> Iterator[bytes]:
    longest = max_frame_bytes - FRAME_OVERHEAD_BYTES
    for start in range(0, len(body), longest):
        part = body[start : start + longest]
        yield HEAD.pack(FRAME_BODY, PUBLISH_CHANNEL, len(part))
        yield part
        yield FRAME_END_CHAR
