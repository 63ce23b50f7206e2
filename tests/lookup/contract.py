"""docs/openapi.yaml as something that answers can be held to."""

from pathlib import Path
from typing import Any, Final

import yaml
from jsonschema import Draft202012Validator

ROOT: Final = Path(__file__).parents[2]
DOCUMENT: Final[dict[str, Any]] = yaml.safe_load((ROOT / "docs" / "openapi.yaml").read_text())
OPERATION: Final[dict[str, Any]] = DOCUMENT["paths"]["/users/{user_id}/database"]["get"]
RESPONSES: Final[dict[str, dict[str, Any]]] = OPERATION["responses"]
SCHEMAS: Final[dict[str, dict[str, Any]]] = DOCUMENT["components"]["schemas"]


def hold(status: int, headers: dict[str, str], body: object) -> None:
    """Fail unless an answer of the documented path is one that is documented: status, headers, kind and body."""
    documented = RESPONSES[str(status)]
    for name, header in documented["headers"].items():
        described = resolved(header)
        assert described["required"]
        value: object = headers[name]
        if described["schema"].get("type") == "integer":
            value = int(headers[name])
        validator(described["schema"]).validate(value)
    ((kind, content),) = documented["content"].items()
    assert headers["Content-Type"] == kind
    validator(content["schema"]).validate(body)


def resolved(value: dict[str, Any]) -> dict[str, Any]:
    reference = value.get("$ref")
    if reference is None:
        return value
    found = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator(
        {"components": DOCUMENT["components"], **schema}, format_checker=Draft202012Validator.FORMAT_CHECKER
    )
