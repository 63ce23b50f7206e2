"""The API's operations: which handler answers which method and path, and the scope that a key needs for it.

In: the path. Out: the operation and its path parameters, or the router's own 404 and 405.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from local.xata.refusals import ApiError


@dataclass(frozen=True, slots=True)
class Call:
    """A request as the handlers see it."""

    organization: str = ""
    project: str = ""
    branch: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    raw: bytes = b""
    content_type: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Any = None


Handler = Callable[[Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Operation:
    name: str
    method: str
    template: str
    scope: str
    handler: Handler
    for_enabled_only: bool = False
    """Refused while billing has disabled the organization."""

    def match(self, path: str) -> dict[str, str] | None:
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.template)
        found = re.fullmatch(pattern, path)
        return found.groupdict() if found else None


def find(operations: list[Operation], method: str, path: str) -> tuple[Operation, dict[str, str]]:
    """The operation and its path parameters.

    Raises: ApiError 404 for an unknown path, 405 for a known one with another method.
    """
    path = path.rstrip("/") or "/"
    matches = [(operation, found) for operation in operations if (found := operation.match(path)) is not None]
    if not matches:
        raise ApiError(HTTPStatus.NOT_FOUND, "Not Found")
    for operation, found in matches:
        if operation.method == method:
            return operation, found
    raise ApiError(HTTPStatus.METHOD_NOT_ALLOWED, "Method Not Allowed")
