"""Checks a JSON value against a schema: the part of JSON Schema that local.xata.schemas uses, without a library."""

import re
from collections.abc import Mapping
from typing import Any, Final

Schema = Mapping[str, Any]

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}


def problems(value: Any, schema: Schema, place: str = "$") -> list[str]:
    """What is wrong and where; empty when the value fits."""
    if "oneOf" in schema:
        return _one_of(value, schema["oneOf"], place)
    wanted = schema.get("type", [])
    types = [wanted] if isinstance(wanted, str) else wanted
    if types and not any(_is(value, name) for name in types):
        return [f"{place} is no {' or '.join(types)}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{place} is none of {', '.join(map(str, schema['enum']))}"]
    if isinstance(value, dict):
        return _object(value, schema, place)
    if isinstance(value, list):
        items = schema.get("items", {})
        return [found for number, item in enumerate(value) for found in problems(item, items, f"{place}[{number}]")]
    return _text(value, schema, place) if isinstance(value, str) else _number(value, schema, place)


def _is(value: Any, name: str) -> bool:
    return isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def _one_of(value: Any, choices: list[Schema], place: str) -> list[str]:
    outcomes = [problems(value, choice, place) for choice in choices]
    fitting = sum(not outcome for outcome in outcomes)
    if fitting == 1:
        return []
    return [f"{place} fits several forms"] if fitting else min(outcomes, key=len)


def _object(value: dict[str, Any], schema: Schema, place: str) -> list[str]:
    fields = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    found = [f"{place}.{name} is missing" for name in schema.get("required", ()) if name not in value]
    for name, inner in value.items():
        if name in fields:
            found += problems(inner, fields[name], f"{place}.{name}")
        elif others is False:
            found.append(f"{place}.{name} is unknown")
        elif others is not True:
            found += problems(inner, others, f"{place}.{name}")
    return found


def _text(value: str, schema: Schema, place: str) -> list[str]:
    # Whole patterns only: Python's `$` alone would let a line feed at the end pass.
    if "pattern" in schema and not re.fullmatch(schema["pattern"], value):
        return [f"{place} does not match {schema['pattern']}"]
    if len(value) > schema.get("maxLength", len(value)) or len(value) < schema.get("minLength", 0):
        return [f"{place} has {len(value)} characters"]
    return []


def _number(value: Any, schema: Schema, place: str) -> list[str]:
    if value is None or isinstance(value, bool):
        return []
    if value < schema.get("minimum", value) or value > schema.get("maximum", value):
        return [f"{place} is out of range"]
    return []
