"""The contract between processes: CloudEvents 1.0 in structured JSON.

`UserEvent` says what happened to a user at Clerk; `DatabaseEvent` says that a user's database is ready.
`encode` and `decode` are each other's inverse; `decode` raises `DecodeError` and nothing else.
"""

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

from shared.errors import DecodeError
from shared.fast_json import compact, parse

CONTENT_TYPE: Final = "application/cloudevents+json"
SPEC_VERSION: Final = "1.0"

UserEventType = Literal["user.created", "user.updated", "user.deleted"]
DatabaseEventType = Literal["database.ready"]

USER_EVENT_TYPES: Final[tuple[UserEventType, ...]] = get_args(UserEventType)
DATABASE_EVENT_TYPES: Final[tuple[DatabaseEventType, ...]] = get_args(DatabaseEventType)


@dataclass(frozen=True, slots=True)
class UserData:
    """The normalized user. `version` is Clerk's `updated_at` in milliseconds; a deletion has none."""

    version: int | None = None
    external_id: str | None = None
    email: str | None = None
    username: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    photo_url: str | None = None
    phone_number: str | None = None
    created_at: int | None = None
    country: str | None = None
    region: str | None = None


@dataclass(frozen=True, slots=True)
class UserEvent:
    """One fact about one user. `id` is constant over every retry and replay; `time` is when it happened at Clerk."""

    id: str
    source: str
    type: UserEventType
    subject: str
    time: datetime
    data: UserData
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class DatabaseData:
    """Where a user's database is. Never how to log in: secrets are asked of the provider."""

    provider: str
    name: str
    region: str | None = None
    host: str | None = None
    schema_version: int = 0


@dataclass(frozen=True, slots=True)
class DatabaseEvent:
    """A user's database came into a state that applications wait for. `id` is constant over republishing."""

    id: str
    source: str
    type: DatabaseEventType
    subject: str
    time: datetime
    data: DatabaseData
    traceparent: str | None = None


Event = UserEvent | DatabaseEvent

_USER_TEXTS: Final = tuple(field.name for field in fields(UserData) if field.name not in {"version", "created_at"})
_ENVELOPE_TEXTS: Final = ("id", "source", "type", "subject", "time", "traceparent")
_DATA_TEXTS: Final = (*_USER_TEXTS, "provider", "name", "region", "host")


def encode(event: Event) -> bytes:
    """The event as UTF-8 JSON with CloudEvents' attribute names; absent optional attributes are left out."""
    attributes: dict[str, Any] = {
        "specversion": SPEC_VERSION,
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "subject": event.subject,
        "time": format_time(event.time),
        "datacontenttype": "application/json",
        "data": event.data,
    }
    if event.traceparent is not None:
        attributes["traceparent"] = event.traceparent
    return compact(attributes)


def decode(body: bytes) -> Event:
    """The event in `body`. Unknown attributes and unknown data fields are ignored, so that producers can be newer.

    Raises:
        DecodeError: not UTF-8 JSON, not CloudEvents 1.0, an unknown type, or a value of the wrong kind.
    """
    try:
        attributes = parse(body)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not JSON: {type(error).__name__}") from error
    if not isinstance(attributes, dict):
        raise DecodeError("not a JSON object")
    if b"\\u" in body:
        # Only so written can what is no character get into a text: rare, and dear to look for in every field.
        _refuse_unstorable(attributes)
    if attributes.get("specversion") != SPEC_VERSION:
        raise DecodeError("not a CloudEvents 1.0 event")
    kind = _text(attributes, "type")
    if kind in USER_EVENT_TYPES:
        return UserEvent(type=kind, data=_user_data(attributes), **_envelope(attributes))
    if kind in DATABASE_EVENT_TYPES:
        return DatabaseEvent(type=kind, data=_database_data(attributes), **_envelope(attributes))
    raise DecodeError("an event type that this version does not know")


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds and `Z`, as in the contract."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")[: -len("+00:00")] + "Z"


def _envelope(attributes: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": _text(attributes, "id"),
        "source": _text(attributes, "source"),
        "subject": _text(attributes, "subject"),
        "time": _time(attributes),
        "traceparent": _optional_text(attributes, "traceparent"),
    }


def _user_data(attributes: dict[str, Any]) -> UserData:
    data = _object(attributes, "data")
    version = _optional_number(data, "version")
    if attributes["type"] != "user.deleted" and version is None:
        raise DecodeError("data.version is missing: only a deletion goes without")
    texts: dict[str, Any] = {name: _optional_text(data, name) for name in _USER_TEXTS}
    return UserData(version=version, created_at=_optional_number(data, "created_at"), **texts)


def _database_data(attributes: dict[str, Any]) -> DatabaseData:
    data = _object(attributes, "data")
    return DatabaseData(
        provider=_text(data, "provider"),
        name=_text(data, "name"),
        region=_optional_text(data, "region"),
        host=_optional_text(data, "host"),
        schema_version=_optional_number(data, "schema_version") or 0,
    )


def _object(attributes: dict[str, Any], name: str) -> dict[str, Any]:
    value = attributes.get(name)
    if not isinstance(value, dict):
        raise DecodeError(f"{name} is not an object")
    return value


def _text(attributes: dict[str, Any], name: str) -> Any:
    value = _optional_text(attributes, name)
    if not value:
        raise DecodeError(f"{name} is missing")
    return value


def _optional_text(attributes: dict[str, Any], name: str) -> str | None:
    value = attributes.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise DecodeError(f"{name} is not a text")
    return value


def _refuse_unstorable(attributes: dict[str, Any]) -> None:
    data = attributes.get("data")
    for fields_of, names in ((attributes, _ENVELOPE_TEXTS), (data if isinstance(data, dict) else {}, _DATA_TEXTS)):
        for name in names:
            value = fields_of.get(name)
            if isinstance(value, str) and ("\x00" in value or not _encodable(value)):
                raise DecodeError(f"{name} has characters that cannot be stored")


def _optional_number(attributes: dict[str, Any], name: str) -> int | None:
    value = attributes.get(name)
    if value is None:
        return None
    # bool is an int in Python; 2^63 is where Postgres's bigint ends.
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        raise DecodeError(f"{name} is not a 64-bit integer")
    return value


def _time(attributes: dict[str, Any]) -> datetime:
    try:
        moment = datetime.fromisoformat(_text(attributes, "time"))
    except ValueError as error:
        raise DecodeError("time is not RFC 3339") from error
    if moment.tzinfo is None:
        raise DecodeError("time has no offset")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise DecodeError("time is out of range") from error


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
