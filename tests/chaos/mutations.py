"""Promises of the code undone one at a time, to see that the proof notices."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Mutation:
    """`undo` is called in the program's own process before it starts; `caught_by` is a scenario's name."""

    name: str
    what: str
    caught_by: str
    undo: Callable[[], None]


MUTATIONS: Final[tuple[Mutation, ...]] = ()
BY_NAME: Final = {mutation.name: mutation for mutation in MUTATIONS}
