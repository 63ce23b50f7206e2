"""What was asked and answered, request by request, and how fast: the evidence for tests. No keys, no passwords."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class Request:
    """One request. `status` is None until something was answered, and stays so for one that hangs or is reset."""

    method: str
    path: str
    query: dict[str, str]
    at: float = field(default_factory=time.monotonic)
    operation: str | None = None
    body: Any = None
    status: int | None = None
    fault: str | None = None
    acted: bool = False
    duration_s: float | None = None
    violations: list[str] = field(default_factory=list)
    """Where the request breaks the published contract, also where the API lets that pass."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Record:
    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answer_violations: list[str] = []
        """Where the stand-in itself broke the contract: must stay empty."""

    def clear(self) -> None:
        self.requests.clear()
        self.answer_violations.clear()

    def of(self, method: str, operation: str | None = None) -> list[Request]:
        return [
            request
            for request in self.requests
            if request.method == method and (operation is None or request.operation == operation)
        ]

    @property
    def violations(self) -> list[str]:
        return [f"{request.operation}: {violation}" for request in self.requests for violation in request.violations]

    def peak(self, window_s: float, operation: str | None = None) -> int:
        """The most requests that arrived within any `window_s`, its end excluded."""
        return densest([seen.at for seen in self.requests if operation in {None, seen.operation}], window_s)


def densest(times: Sequence[float], window_s: float) -> int:
    ordered = sorted(times)
    most = first = 0
    for last, moment in enumerate(ordered):
        while moment - ordered[first] >= window_s:
            first += 1
        most = max(most, last - first + 1)
    return most
