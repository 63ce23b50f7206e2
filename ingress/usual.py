"""Is this the usual webhook? A POST to our path in HTTP/1.1, small, with a plain length, whole and alone. Pure.

Promise: what is taken for usual is read as aiohttp would read it; whatever could be read in two ways is not usual.
"""

from functools import lru_cache
from typing import Final

from ingress.receive import PATH, SMALL_BODY_BYTES
from ingress.webhook import RawWebhook

MAX_HEAD_BYTES: Final = 8190
_MAX_NAME_CHARS: Final = 64

_BEGIN: Final = f"POST {PATH} HTTP/1.1\r\n".encode()
_END: Final = b"\r\n\r\n"
_LENGTH: Final = "content-length"
_LONGEST_LENGTH: Final = len(str(SMALL_BODY_BYTES))
# Names whose meaning is aiohttp's to know.
_UNUSUAL: Final = frozenset(
    {"content-encoding", "expect", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)


def usual(data: bytes, max_body_bytes: int) -> RawWebhook | None:
    """The webhook, if `data` is one, usual and whole."""
    end = data.find(_END)
    if not data.startswith(_BEGIN) or not len(_BEGIN) <= end <= MAX_HEAD_BYTES:
        return None
    lines = _header_lines(data[len(_BEGIN) : end])
    if lines is None:
        return None
    webhook = RawWebhook(lines, data[end + len(_END) :])
    lengths = webhook.headers.get(_LENGTH, [])
    if len(lengths) != 1 or not _UNUSUAL.isdisjoint(webhook.headers):
        return None
    if len(webhook.body) > min(max_body_bytes, SMALL_BODY_BYTES):
        return None
    if any(value.lower() != "keep-alive" for value in webhook.headers.get("connection", ())):
        return None
    return webhook if _number(lengths[0]) == len(webhook.body) else None


def may_become_usual(data: bytes) -> bool:
    """Whether more bytes could make a usual webhook of it."""
    end = data.find(_END)
    if end < 0:
        return len(data) <= MAX_HEAD_BYTES and (data.startswith(_BEGIN) or _BEGIN.startswith(data))
    lines = _header_lines(data[len(_BEGIN) : end]) if data.startswith(_BEGIN) else None
    lengths = [value for name, value in lines or () if name.lower() == _LENGTH]
    length = _number(lengths[0]) if len(lengths) == 1 else None
    return length is not None and len(data) - end - len(_END) < length <= SMALL_BODY_BYTES


def _header_lines(head: bytes) -> list[tuple[str, str]] | None:
    """Names and values; None where a line is anything but `name: value` in printable ASCII."""
    if not head.isascii():
        return None
    text = head.decode()
    if not text.replace("\r\n", "").isprintable():
        return None
    lines = []
    for line in text.split("\r\n"):
        name, colon, value = line.partition(": ")
        if not colon or len(name) > _MAX_NAME_CHARS or not _plain(name):
            return None
        lines.append((name, value.strip(" ")))
    return lines


@lru_cache(maxsize=256)
def _plain(name: str) -> bool:
    """Letters, digits and hyphens. The same few names come with every webhook."""
    return name.replace("-", "a").isalnum()


def _number(text: str) -> int | None:
    return int(text) if len(text) <= _LONGEST_LENGTH and text.isdecimal() else None
