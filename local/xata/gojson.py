"""Reads request bodies as the API's Go code does: same leniency (unknown fields, nulls, an empty body), same texts.

Promise: what is returned has the types that were asked for; anything else is an ApiError with the API's own words.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from local.xata.refusals import ApiError

INT32_MAX: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Struct:
    """A Go struct; a field's kind is a Struct, a basic type, a list `[kind]`, or a string map `{"": "string"}`."""

    name: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Mismatch:
    got: str
    path: str
    go_type: str
    struct: str

    @property
    def text(self) -> str:
        place = f"Go struct field {self.struct}.{self.path}" if self.path else "Go value"
        return f"json: cannot unmarshal {self.got} into {place} of type {self.go_type}"


SCALE_TO_ZERO: Final = Struct("ScaleToZeroConfiguration", {"enabled": "bool", "inactivityPeriodMinutes": "int"})
BACKUP: Final = Struct("BackupConfiguration", {"backupTime": "string", "retentionPeriod": "int32"})
CLUSTER: Final = Struct(
    "ClusterConfiguration",
    {
        "region": "string",
        "image": "string",
        "instanceType": "string",
        "replicas": "int32",
        "storage": "int32",
        "postgresConfigurationParameters": {"": "string"},
        "preloadLibraries": ["string"],
    },
)
_PROJECT_SCALE: Final = Struct(
    "ProjectScaleToZeroConfiguration", {"baseBranches": SCALE_TO_ZERO, "childBranches": SCALE_TO_ZERO}
)
_CIDR: Final = Struct("CidrEntry", {"cidr": "string", "description": "string"})
_IP_FILTERING: Final = Struct("IPFilteringConfiguration", {"enabled": "bool", "cidr": [_CIDR]})
_PROJECT_CONFIGURATION: Final = Struct(
    "ProjectConfiguration", {"scaleToZero": _PROJECT_SCALE, "ipFiltering": _IP_FILTERING}
)
CREATE_PROJECT: Final = Struct("CreateProjectJSONBody", {"name": "string", "configuration": _PROJECT_CONFIGURATION})
UPDATE_PROJECT: Final = Struct("UpdateProjectJSONBody", {"name": "string", "configuration": _PROJECT_CONFIGURATION})
CREATE_BRANCH: Final = Struct(
    "BranchCreationDetails",
    {
        "name": "string",
        "mode": "string",
        "description": "string",
        "scaleToZero": SCALE_TO_ZERO,
        "backupConfiguration": BACKUP,
    },
)
FROM_PARENT: Final = Struct("BranchFromParent", {"parentID": "string"})
FROM_CONFIGURATION: Final = Struct("BranchFromConfiguration", {"configuration": CLUSTER})
UPDATE_BRANCH: Final = Struct(
    "BranchUpdateDetails",
    {
        "name": "string",
        "description": "string",
        "replicas": "int32",
        "storage": "int32",
        "instanceType": "string",
        "image": "string",
        "hibernate": "bool",
        "scaleToZero": SCALE_TO_ZERO,
        "backupConfiguration": BACKUP,
        "postgresConfigurationParameters": {"": "string"},
        "preloadLibraries": ["string"],
    },
)
ROTATE: Final = Struct("RotateCredentialsRequest", {"username": "string"})


def decode(raw: bytes, content_type: str) -> Any:
    """The JSON value; {} for an empty body, which the framework does not look at.

    Raises: ApiError 415 or 400 as the framework's binder.
    """
    if not raw:
        return {}
    if content_type and not content_type.startswith("application/json"):
        raise ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Unsupported Media Type")
    try:
        # Only the first value is read; what follows it is ignored.
        return json.JSONDecoder(parse_constant=_no_constant).raw_decode(raw.decode().lstrip())[0]
    except json.JSONDecodeError as error:
        raise ApiError(HTTPStatus.BAD_REQUEST, _syntax(error)) from None
    except (UnicodeDecodeError, ValueError):
        raise ApiError(HTTPStatus.BAD_REQUEST, "Syntax error: offset=1, error=invalid character") from None


def wrapped(error: ApiError) -> ApiError:
    """As ReadBody passes a binder's error on: always 400, with the framework's rendering of it as its text."""
    text = f"code={error.status}, message={error.message}"
    if error.status != HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
        text += f", internal={error.message}"
    return ApiError(HTTPStatus.BAD_REQUEST, text)


def read_body(raw: bytes, content_type: str, struct: Struct) -> dict[str, Any]:
    """A plain struct through ReadBody.

    Raises: ApiError 400.
    """
    try:
        return read_struct(decode(raw, content_type), struct)
    except ApiError as error:
        raise wrapped(error) from None


def read_struct(value: Any, struct: Struct) -> dict[str, Any]:
    """A plain struct, by the framework's binder.

    Raises: ApiError 400 `Unmarshal type error: …`.
    """
    wrong = mismatch(value, struct, struct.name, "")
    if wrong is None:
        return known(value, struct)
    expected = f"expected={wrong.go_type}, got={wrong.got}, field={wrong.path}, offset=1"
    raise ApiError(HTTPStatus.BAD_REQUEST, f"Unmarshal type error: {expected}")


def read_union(value: Any, struct: Struct) -> dict[str, Any]:
    """A struct with a union in it, by its generated UnmarshalJSON, which names the field first."""
    if not isinstance(value, dict):
        raise _plain(f"json: cannot unmarshal {_go_word(value)} into Go value of type map[string]json.RawMessage")
    for name, kind in struct.fields.items():
        wrong = mismatch(value.get(name), kind, kind.name if isinstance(kind, Struct) else "", "")
        if wrong is not None:
            raise _plain(f"error reading '{name}': {wrong.text}")
    return known(value, struct)


def mismatch(value: Any, kind: Any, struct: str, path: str) -> Mismatch | None:
    """The first place whose type Go would not take; None when it takes all. A null leaves the zero value."""
    if value is None:
        return None
    if isinstance(kind, Struct):
        if not isinstance(value, dict):
            return Mismatch(_go_word(value), path, f"spec.{kind.name}", struct)
        inner = ((value.get(name), sub, _join(path, name)) for name, sub in kind.fields.items())
        return next((found for v, k, p in inner if (found := mismatch(v, k, struct, p))), None)
    if isinstance(kind, list):
        if not isinstance(value, list):
            return Mismatch(_go_word(value), path, f"[]{_name(kind[0])}", struct)
        return next((found for item in value if (found := mismatch(item, kind[0], struct, path))), None)
    if isinstance(kind, dict):
        if not isinstance(value, dict):
            return Mismatch(_go_word(value), path, "map[string]string", struct)
        return next((found for item in value.values() if (found := mismatch(item, kind[""], struct, path))), None)
    return None if _is(value, kind) else Mismatch(_go_word(value, kind), path, kind, struct)


def known(value: dict[str, Any], struct: Struct) -> dict[str, Any]:
    """Without the fields that the API does not have, and without nulls."""
    return {name: value[name] for name in struct.fields if value.get(name) is not None}


def unknown_fields(value: Any, structs: tuple[Struct, ...]) -> list[str]:
    """The names, at any depth, that none of `structs` has."""
    if not isinstance(value, dict):
        return []
    kinds = {name: kind for struct in structs for name, kind in struct.fields.items()}
    found = [name for name in value if name not in kinds]
    for name, kind in kinds.items():
        items = value.get(name) if isinstance(kind, list) else [value.get(name)]
        inner = kind[0] if isinstance(kind, list) else kind
        if isinstance(inner, Struct) and isinstance(items, list):
            found += [f"{name}.{deeper}" for item in items for deeper in unknown_fields(item, (inner,))]
    return found


def _is(value: Any, kind: str) -> bool:
    if kind == "string":
        return isinstance(value, str)
    if kind == "bool":
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int):
        return False
    return kind != "int32" or -INT32_MAX - 1 <= value <= INT32_MAX


def _go_word(value: Any, kind: str = "") -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return f"number {value}" if kind.startswith("int") else "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def _name(kind: Any) -> str:
    return f"spec.{kind.name}" if isinstance(kind, Struct) else str(kind)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _plain(text: str) -> ApiError:
    return ApiError(HTTPStatus.BAD_REQUEST, text)


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _syntax(error: json.JSONDecodeError) -> str:
    if error.pos >= len(error.doc):
        return "unexpected EOF"
    return f"Syntax error: offset={error.pos + 1}, error=invalid character {error.doc[error.pos]!r}"
