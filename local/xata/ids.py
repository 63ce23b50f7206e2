"""Identifiers and keys in the formats of the real API (internal/idgen/idgen.go, internal/api/key/key.go)."""

import secrets
import zlib
from typing import Final

_BASE32HEX: Final = "0123456789abcdefghijklmnopqrstuv"
_BASE62: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ID_LENGTH: Final = 26
_ORGANIZATION_LENGTH: Final = 6
_KEY_BYTES: Final = 20
_LAST_DIGIT: Final = "048cgkos"  # 16 bytes are 128 bits: of the 26th digit's five bits only the first three are used


def organization_id() -> str:
    return "".join(secrets.choice(_BASE32HEX) for _ in range(_ORGANIZATION_LENGTH))


def project_id() -> str:
    return f"prj_{_id()}"


def branch_id() -> str:
    """Begins with a letter, so that it is a DNS label."""
    while True:
        found = _id()
        if found[0].isalpha():
            return found


def request_id() -> str:
    return f"req_{_id()}"


def user_key() -> str:
    """`xau_` and 24 bytes in base62, the last four of them a CRC-32 of the others."""
    random = secrets.token_bytes(_KEY_BYTES)
    number = int.from_bytes(random + zlib.crc32(random).to_bytes(4, "little"), "big")
    digits = ""
    while number:
        number, digit = divmod(number, len(_BASE62))
        digits = _BASE62[digit] + digits
    return f"xau_{digits}"


def _id() -> str:
    return "".join(secrets.choice(_BASE32HEX) for _ in range(_ID_LENGTH - 1)) + secrets.choice(_LAST_DIGIT)
