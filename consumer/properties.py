"""What comes before a message's body: its id, its time, and the rest, which whole kinds of messages have in common.

Goes in: an AMQP content header. Comes out: what a consumer wants of it. Promise: the codec's own answer, for every
header: what is taken past it are an id and a time between bytes that the codec has read before.
"""

import itertools
import struct
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pamqp.commands import Basic
from pamqp.decode import field_table
from pamqp.header import ContentHeader

from shared.headers import ATTEMPT, HISTORY
from shared.history import MAX_HISTORY_CHARS

# Copies carry headers on, with some of ours added: they must fit into one frame (128 KiB), however many and long
# those of the original are.
MAX_HEADERS: Final = 50
MAX_HEADER_CHARS: Final = 500

# More kinds, or longer ones, are there only while copies come back with what went wrong with each.
_MAX_KINDS: Final = 64
_MAX_KIND_BYTES: Final = 256

_FLAGS_AT: Final = 12  # after class, weight and the body's size
_FLAGS: Final = struct.Struct(">H")
_LENGTH: Final = struct.Struct(">I")
_TIME: Final = struct.Struct(">Q")
_MAX_TIME_S: Final = 0xFFFFFFFF  # what is beyond, the codec takes for milliseconds
# An event as it is published: by the ingress with a mark, by aio-pika with a priority.
_USUAL: Final = sum(
    Basic.Properties.flags[name]
    for name in ("content_type", "headers", "delivery_mode", "message_id", "timestamp", "message_type", "app_id")
)
_PRIORITY: Final = Basic.Properties.flags["priority"]
_MARK: Final = Basic.Properties.flags["correlation_id"]
_MAYBE: Final = _PRIORITY | _MARK

HeaderValue = str | int

_kinds: "dict[tuple[bytes, bytes], Kind]" = {}


class Kind(NamedTuple):
    """What messages of one kind have in common."""

    headers: Mapping[str, HeaderValue]
    content_type: str | None
    type: str | None
    app_id: str | None
    attempt: int
    deliveries: int


class Properties(NamedTuple):
    """Of one message."""

    message_id: str | None
    timestamp_s: int | None
    kind: Kind


def read(payload: bytes) -> Properties | None:
    """The properties in a content header frame's payload; None when they cannot be read."""
    try:
        flags = _FLAGS.unpack_from(payload, _FLAGS_AT)[0]
        return _read_usual(payload, flags) if flags & ~_MAYBE == _USUAL else _read_any(payload)
    except Exception:  # noqa: BLE001 - the codec leaks whatever a strange value provokes
        return None


def of(properties: Basic.Properties) -> Properties:
    """What the codec has read."""
    headers, sent = plain_headers(properties.headers or {}), properties.timestamp
    kind = Kind(
        headers,
        properties.content_type,
        properties.message_type,
        properties.app_id,
        _attempt(headers),
        _deliveries(headers),
    )
    return Properties(properties.message_id, None if sent is None else int(sent.timestamp()), kind)


def _read_any(payload: bytes) -> Properties:
    header = ContentHeader()
    header.unmarshal(payload)
    return of(header.properties)


def _read_usual(payload: bytes, flags: int) -> Properties:
    """Content type, headers, delivery mode; perhaps priority and mark; id and time; type, application."""
    table_at = _FLAGS_AT + _FLAGS.size + 1 + payload[_FLAGS_AT + _FLAGS.size]
    mode_at = table_at + _LENGTH.size + _LENGTH.unpack_from(payload, table_at)[0]
    id_at = mode_at + (3 if flags & _PRIORITY else 2)
    if flags & _MARK:
        mark_at, id_at = id_at, id_at + payload[id_at - 1] + 1
        payload[mark_at : id_at - 1].decode()  # nobody wants it, but what is no text is not read by the codec
    time_at = id_at + payload[id_at - 1]
    time_s = _TIME.unpack_from(payload, time_at)[0]
    alike = payload[_FLAGS_AT:mode_at], payload[time_at + _TIME.size :]
    kind = _kinds.get(alike)
    if kind is None or time_s > _MAX_TIME_S:
        found = _read_any(payload)
        _learn(alike, payload[table_at:mode_at], found.kind)
        return found
    return Properties(payload[id_at:time_at].decode(), time_s, kind)


def _learn(alike: tuple[bytes, bytes], table: bytes, kind: Kind) -> None:
    if sum(map(len, alike)) > _MAX_KIND_BYTES or not _by_itself(table, kind):
        return
    if len(_kinds) >= _MAX_KINDS:
        _kinds.clear()
    _kinds[alike] = kind


def _by_itself(table: bytes, kind: Kind) -> bool:
    """Whether the headers are in their table: a broken value can reach beyond it, into what each message has alone."""
    try:
        return plain_headers(field_table(table)[1]) == kind.headers
    except Exception:  # noqa: BLE001 - as above
        return False


def plain_headers(headers: Mapping[str, Any]) -> dict[str, HeaderValue]:
    """Short texts and whole numbers, which are all of ours; what else somebody put there need not be writable again."""
    kept = ((name, value) for name, value in headers.items() if _is_plain(name, value))
    return dict(itertools.islice(kept, MAX_HEADERS))


def _is_plain(name: str, value: object) -> bool:
    longest = MAX_HISTORY_CHARS if name == HISTORY else MAX_HEADER_CHARS
    return isinstance(value, int) or (isinstance(value, str) and len(value) <= longest)


def _attempt(headers: Mapping[str, HeaderValue]) -> int:
    """1 where the header is missing or nonsense."""
    value = headers.get(ATTEMPT)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 1 else 1


def _deliveries(headers: Mapping[str, HeaderValue]) -> int:
    count = headers.get("x-delivery-count")
    return count if isinstance(count, int) else 0
