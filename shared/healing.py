"""How connections to the broker heal, whatever client they use: the pace, the limits, and what is said about them."""

import random
from dataclasses import dataclass
from datetime import datetime
from typing import Final

HEARTBEAT_S: Final = 10
CONNECT_TIMEOUT_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 3.0
BACKOFF_FIRST_S: Final = 0.1
BACKOFF_MAX_S: Final = 5.0
STABLE_AFTER_S: Final = 1.0
CANARY_TIMEOUT_S: Final = 3.0
CANARY_KEY: Final = "usher.canary"


@dataclass(frozen=True, slots=True)
class LinkState:
    """How the connection is, for people: `open` with the moment since when, and the last trouble."""

    open: bool
    since: datetime
    trouble: str | None


def backoff_s(attempt: int) -> float:
    """How long to wait before connecting again: longer with every failed attempt, and never in step with others."""
    ceiling = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2**attempt)
    return random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter, no secret
