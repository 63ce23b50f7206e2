"""When a part that died is started again: soon at first, then later and later.

Pure: the clock is the caller's. A death counts as one of a row unless the part had run steadily before it.
"""

from dataclasses import dataclass
from typing import Final

DELAYS_S: Final = (0.5, 1.0, 2.0, 4.0, 15.0)
# Who has run for so long is taken to have been well: its next death is a first one.
STEADY_S: Final = 60.0


@dataclass(slots=True)
class Row:
    """The deaths of one part in a row; `total` counts all of them since the run began."""

    deaths: int = 0
    total: int = 0

    def add(self, lived_s: float) -> float:
        """Count one more death; returns after how many seconds the part is started again."""
        self.deaths = 1 if lived_s >= STEADY_S else self.deaths + 1
        self.total += 1
        return DELAYS_S[min(self.deaths, len(DELAYS_S)) - 1]

    @property
    def just_hopeless(self) -> bool:
        """Whether this death is the one at which somebody has to be told the whole story."""
        return self.deaths == len(DELAYS_S)
