"""Clerk's JSON in, our event out: `UserEvent`, or `Ignored` for types that Usher does not carry. Pure.

Promise: anything optional, null, missing, unknown or of the wrong kind is taken as null, and what comes out can be
stored everywhere. Only an id that cannot be used, or a body that is no Clerk event, is a `PayloadError`.
"""

import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ingress.webhook import VerifiedWebhook
from shared.errors import PayloadError
from shared.events import USER_EVENT_TYPES, UserData, UserEvent
from shared.fast_json import parse

# Postgres refuses index rows over 2,700 bytes, and a character has up to four.
MAX_TEXT_CHARS: Final = 600
MAX_URL_CHARS: Final = 2000  # in no index
MAX_ID_CHARS: Final = 255
MAX_USERNAME_STEM_CHARS: Final = 200
# 48 bits: two of a million users with one local part meet with a probability below one in 500.
USERNAME_HASH_CHARS: Final = 12

UNKNOWN_INSTANCE: Final = "unknown"
UNNAMED_TYPE: Final = "other"

# Clerk's documentation says milliseconds, its specification's examples are seconds. 10^11 ms is March 1973,
# 10^11 s is the year 5138: no user was created on the wrong side of it.
_FIRST_MILLISECOND_VALUE: Final = 10**11
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS: Final = 253_402_300_799_999  # the end of the year 9999, where datetime ends

_UNSTORABLE: Final = re.compile("[\ud800-\udfff]")
_TYPE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,63}")
_INSTANCE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Ignored:
    """A genuine webhook of a type that Usher does not carry. `type` is short and plain enough for a log."""

    type: str


def normalize(
    webhook: VerifiedWebhook, country_of: Callable[[str], str | None], region_key: str
) -> UserEvent | Ignored:
    """The event in a webhook. `region_key` says where the user's wish stands, for example `public_metadata.region`.

    Raises:
        PayloadError: it is no Clerk event, or names no user.
    """
    envelope = _parse(webhook.body)
    kind = envelope.get("type")
    if not isinstance(kind, str):
        raise PayloadError("type is missing")
    if kind not in USER_EVENT_TYPES:
        return Ignored(kind if _TYPE.fullmatch(kind) else UNNAMED_TYPE)
    user = envelope.get("data")
    if not isinstance(user, dict):
        raise PayloadError("data is not an object")
    user_id = _user_id(user)
    time_ms = _milliseconds(envelope.get("timestamp")) or round(webhook.sent_at.timestamp() * 1000)
    if kind == "user.deleted":
        data = UserData(external_id=_exact(user.get("external_id")))
    else:
        data = _user_data(user, user_id, time_ms, country_of(_client_ip(envelope)), _path(user, region_key))
    return UserEvent(
        id=webhook.id,
        source=f"clerk/{_instance(envelope)}",
        type=kind,
        subject=user_id,
        time=_EPOCH + timedelta(milliseconds=time_ms),
        data=data,
    )


def _parse(body: bytes) -> dict[str, Any]:
    try:
        envelope = parse(body)
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"not JSON: {type(error).__name__}") from None
    if not isinstance(envelope, dict):
        raise PayloadError("not a JSON object")
    return envelope


def _user_id(user: dict[str, Any]) -> str:
    """The id as it is: a repaired one would be another user's."""
    user_id = user.get("id")
    if not isinstance(user_id, str) or not user_id:
        raise PayloadError("data.id is missing")
    if len(user_id) > MAX_ID_CHARS or not user_id.isprintable():
        raise PayloadError("data.id has characters that cannot be stored, or too many")
    return user_id


def _user_data(user: dict[str, Any], user_id: str, time_ms: int, country: str | None, region: object) -> UserData:
    email = _primary(user, "email_addresses", "primary_email_address_id", "email_address")
    phone = _primary(user, "phone_numbers", "primary_phone_number_id", "phone_number")
    created_at = _milliseconds(user.get("created_at"))
    return UserData(
        version=_milliseconds(user.get("updated_at")) or created_at or time_ms,
        external_id=_exact(user.get("external_id")),
        email=email,
        username=_exact(user.get("username")) or _made_up_username(user_id, email, phone),
        first_name=_prose(user.get("first_name")),
        last_name=_prose(user.get("last_name")),
        photo_url=_exact(user.get("image_url"), MAX_URL_CHARS) or _exact(user.get("profile_image_url"), MAX_URL_CHARS),
        phone_number=phone,
        created_at=created_at,
        country=country,
        region=_exact(region),
    )


def _primary(user: dict[str, Any], array: str, primary_id: str, value: str) -> str | None:
    """The element that Clerk calls primary, by id. Never the first one: that may be an address of long ago."""
    wanted = user.get(primary_id)
    elements = user.get(array)
    if not isinstance(wanted, str) or not isinstance(elements, list):
        return None
    for element in elements:
        if isinstance(element, dict) and element.get("id") == wanted:
            return _exact(element.get(value))
    return None


def _made_up_username(user_id: str, email: str | None, phone: str | None) -> str:
    """The same for the same user at every replay; the hash keeps users with one local part apart."""
    local_part = (email or "").partition("@")[0]
    digits = "".join(character for character in phone or "" if character in "0123456789")
    stem = (local_part or digits or user_id)[:MAX_USERNAME_STEM_CHARS]
    return f"{stem}-{hashlib.sha256(user_id.encode()).hexdigest()[:USERNAME_HASH_CHARS]}"


def _client_ip(envelope: dict[str, Any]) -> str:
    address = _path(envelope, "event_attributes.http_request.client_ip")
    return address if isinstance(address, str) else ""


def _instance(envelope: dict[str, Any]) -> str:
    instance = envelope.get("instance_id")
    return instance if isinstance(instance, str) and _INSTANCE.fullmatch(instance) else UNKNOWN_INSTANCE


def _path(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _exact(value: object, max_chars: int = MAX_TEXT_CHARS) -> str | None:
    """A text that identifies or addresses something: too long it is null, for a part of it would be something else."""
    text = _storable(value)
    return text if text is not None and len(text) <= max_chars else None


def _prose(value: object) -> str | None:
    """A text that people read: too long it is cut."""
    text = _storable(value)
    return None if text is None else text[:MAX_TEXT_CHARS]


def _storable(value: object) -> str | None:
    """Without NUL, which Postgres refuses, and without lone surrogates, which UTF-8 cannot say. Empty is null."""
    if not isinstance(value, str):
        return None
    if value.isascii() and "\x00" not in value:
        return value or None
    return _UNSTORABLE.sub("\ufffd", value.replace("\x00", "")) or None


def _milliseconds(value: object) -> int | None:
    """Milliseconds since 1970 from milliseconds or seconds; null for what is no number or no time."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    number = value * 1000 if value < _FIRST_MILLISECOND_VALUE else value
    return round(number) if 0 < number <= _LAST_MS else None
