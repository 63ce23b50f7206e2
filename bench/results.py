"""What a scenario gives back: tables, plots and sentences, all made from the same samples."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Series:
    """The same thing measured several times, in interleaved rounds."""

    samples: list[float] = field(default_factory=list)

    def add(self, sample: float) -> None:
        self.samples.append(sample)

    @property
    def median(self) -> float:
        return statistics.median(self.samples) if self.samples else 0.0

    def ratio(self, other: "Series") -> float:
        return self.median / other.median if other.median else 0.0

    def text(self, digits: int = 0) -> str:
        """`9,148 (8,700-9,310)`: median and range; the median alone of a single sample."""
        if not self.samples:
            return "-"
        median = f"{self.median:,.{digits}f}"
        if len(self.samples) == 1:
            return median
        return f"{median} ({min(self.samples):,.{digits}f}-{max(self.samples):,.{digits}f})"


@dataclass(frozen=True, slots=True)
class Table:
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Plot:
    """Bars in groups: `values[series][group]`."""

    name: str
    title: str
    groups: Sequence[str]
    series: Sequence[str]
    values: Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True)
class Target:
    """A figure that Usher wants to reach, and the one that was measured."""

    what: str
    wanted: str
    measured: str
    reached: bool


@dataclass(slots=True)
class Section:
    """One scenario's part of the page."""

    title: str
    how: str
    tables: list[Table] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    samples: dict[str, list[float]] = field(default_factory=dict)


def at_least(what: str, wanted: float, measured: float, unit: str = "x") -> Target:
    return Target(what, f"at least {wanted:g} {unit}", f"{measured:,.2f} {unit}", measured >= wanted)


def at_most(what: str, wanted: float, measured: float, unit: str) -> Target:
    return Target(what, f"at most {wanted:g} {unit}", f"{measured:,.1f} {unit}", measured <= wanted)
