"""What the operator decides about Xata, as plain values; settings in, one frozen object out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

API_URL = "https://api.xata.tech"


@dataclass(frozen=True, slots=True)
class RegionWishes:
    """`default` None takes the first that is offered; `only` empty takes all that are. `templates`: theirs."""

    default: str | None = None
    by_country: Mapping[str, str] = field(default_factory=dict)
    by_continent: Mapping[str, str] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PoolWishes:
    """`given`: ids or names of projects. With `prefix` those whose names begin so, up to `most` made on demand."""

    given: tuple[str, ...] = ()
    prefix: str | None = None
    most: int = 10
    branches_per_hour: int | None = None


@dataclass(frozen=True, slots=True)
class BranchWishes:
    """`templates`: region → names or ids; without one a branch of its own, where None takes Xata's newest and smallest.

    `sleep_after_minutes` None: never scaled to zero.
    """

    templates: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    image: str | None = None
    instance_type: str | None = None
    sleep_after_minutes: int | None = 30


@dataclass(frozen=True, slots=True)
class Waiting:
    """How long for what, in seconds since the branch was asked for; `polls_s` are the pauses between looks.

    `unclear_s`: for so long a request to create that has no answer may still take effect. More than its timeout.
    """

    polls_s: tuple[float, ...] = (1.0, 1.5, 2.0)
    visible_s: float = 120.0
    ready_s: float = 1800.0
    unclear_s: float = 90.0
    looks_at_fault: int = 2
    branches_put_aside: int = 2


@dataclass(frozen=True, slots=True)
class XataConfiguration:
    organization: str
    key: str = field(repr=False)
    url: str = API_URL
    regions: RegionWishes = field(default_factory=RegionWishes)
    pool: PoolWishes = field(default_factory=PoolWishes)
    branch: BranchWishes = field(default_factory=BranchWishes)
    waiting: Waiting = field(default_factory=Waiting)
    requests_per_s: float = 1.0
    # How long a worker is held until its turn.
    patience_s: float = 15.0
