"""Crashes, losses and redeliveries in any order: every accepted event ends applied or dead-lettered.

`--model-examples 5000` tries as many random runs instead of the few that are the same every time.
"""

import pytest

from tests.model.machine import Settling, check

EXAMPLES = 25


def test_whatever_breaks_every_accepted_event_ends_applied_or_dead_lettered(request: pytest.FixtureRequest) -> None:
    Settling.seen.clear()
    more = request.config.getoption("--model-examples")
    check(examples=more or EXAMPLES, fixed=not more)
    things = {"accepted", "refused", "applied", "copied", "failed", "taken_for_a_killer", "dead"}
    assert {thing for thing, times in Settling.seen.items() if times} == things
