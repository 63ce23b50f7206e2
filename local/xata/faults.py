"""Misbehaviour that can be switched on: what goes wrong, for which requests, how often, before or after acting.

stand_in.faults.add(Fault.hang(acts=True, method="POST", path="*/branches", times=1))   # succeed, then time out
stand_in.faults.add(Fault.answer(500, probability=0.3))                                 # a storm
stand_in.faults.clear()
"""

from __future__ import annotations

import fnmatch
import random
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final, Self, TypedDict, Unpack


class FaultKind(StrEnum):
    SLOW = "slow"
    HANG = "hang"
    CUT = "cut"
    RESET = "reset"
    ANSWER = "answer"
    GARBLE = "garble"


class Garbling(StrEnum):
    TRUNCATED = "truncated"
    WRONG_TYPES = "wrong_types"
    HTML = "html"
    EMPTY = "empty"
    NOT_AN_OBJECT = "not_an_object"


_NEED_AN_ANSWER: Final = frozenset({FaultKind.SLOW, FaultKind.CUT, FaultKind.GARBLE})


class Scope(TypedDict, total=False):
    method: str
    path: str
    probability: float
    times: int | None


@dataclass(frozen=True, slots=True)
class Fault:
    """`acts`: whether the request takes effect. `path` is a shell pattern over the path; `times` None: for ever."""

    kind: FaultKind
    acts: bool
    method: str = "*"
    path: str = "*"
    probability: float = 1.0
    times: int | None = None
    delay_s: float = 0.0
    late: bool = False
    """Of a slow one: the delay is before acting, so that the request takes effect after its caller has gone."""
    after_bytes: int = 0
    status: int = HTTPStatus.INTERNAL_SERVER_ERROR
    message: str | None = None
    retry_after_s: float | None = None
    garbling: Garbling = Garbling.TRUNCATED

    def __post_init__(self) -> None:
        if not self.acts and self.kind in _NEED_AN_ANSWER:
            raise ValueError(f"{self.kind} needs the real answer: it cannot be without acting")
        if self.late and self.kind is not FaultKind.SLOW:
            raise ValueError("only a slow one is late")

    @classmethod
    def slow(cls, delay_s: float, *, late: bool = False, **scope: Unpack[Scope]) -> Self:
        """Answers after `delay_s`; acts at once, or with `late` only then, when the caller may have given up."""
        return cls(FaultKind.SLOW, acts=True, delay_s=delay_s, late=late, **scope)

    @classmethod
    def hang(cls, *, acts: bool = False, **scope: Unpack[Scope]) -> Self:
        """Never answers; the connection stays open until the caller leaves. With `acts`: succeed, then time out."""
        return cls(FaultKind.HANG, acts=acts, **scope)

    @classmethod
    def cut(cls, after_bytes: int = 0, *, acts: bool = True, **scope: Unpack[Scope]) -> Self:
        """Sends the head and that many bytes of the body, then closes."""
        return cls(FaultKind.CUT, acts=acts, after_bytes=after_bytes, **scope)

    @classmethod
    def reset(cls, *, acts: bool = False, **scope: Unpack[Scope]) -> Self:
        """Closes without a byte."""
        return cls(FaultKind.RESET, acts=acts, **scope)

    @classmethod
    def answer(
        cls,
        status: int,
        *,
        message: str | None = None,
        retry_after_s: float | None = None,
        acts: bool = False,
        **scope: Unpack[Scope],
    ) -> Self:
        """That status instead; without a message in the real words: 401 invalid token, 403 billing, 429 the gateway."""
        return cls(FaultKind.ANSWER, acts=acts, status=status, message=message, retry_after_s=retry_after_s, **scope)

    @classmethod
    def garble(cls, garbling: Garbling | str, **scope: Unpack[Scope]) -> Self:
        """Acts, and answers with the right status and the wrong body."""
        return cls(FaultKind.GARBLE, acts=True, garbling=Garbling(garbling), **scope)

    @classmethod
    def read(cls, value: dict[str, Any]) -> Self:
        """From JSON; `acts` may be left out.

        Raises: ValueError, TypeError with what is wrong.
        """
        unknown = set(value) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"a fault has no {min(unknown)}")
        kind = FaultKind(value["kind"]) if "kind" in value else FaultKind.ANSWER
        acts = value.get("acts", kind in _NEED_AN_ANSWER)
        garbling = Garbling(value.get("garbling", Garbling.TRUNCATED))
        return cls(**{**value, "kind": kind, "acts": acts, "garbling": garbling})

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def fits(self, method: str, path: str) -> bool:
        return fnmatch.fnmatchcase(method, self.method) and fnmatch.fnmatchcase(path, self.path)


class Faults:
    """The switched-on faults. Of those that fit a request the first whose dice fall so is taken; seeded dice."""

    def __init__(self, seed: int = 0) -> None:
        self._dice = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._active: list[_Active] = []

    def add(self, fault: Fault) -> None:
        self._active.append(_Active(fault))

    def clear(self) -> None:
        self._active.clear()

    def reseed(self, seed: int) -> None:
        self._dice = random.Random(seed)  # noqa: S311 - as above

    def active(self) -> list[tuple[Fault, int]]:
        """Each with how often it has struck."""
        return [(active.fault, active.strikes) for active in self._active if not active.spent]

    def take(self, method: str, path: str) -> Fault | None:
        for active in self._active:
            if active.spent or not active.fault.fits(method, path):
                continue
            if self._dice.random() < active.fault.probability:
                active.strikes += 1
                return active.fault
        return None


@dataclass(slots=True)
class _Active:
    fault: Fault
    strikes: int = 0

    @property
    def spent(self) -> bool:
        return self.fault.times is not None and self.strikes >= self.fault.times
