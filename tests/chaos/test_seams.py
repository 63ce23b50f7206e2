"""Failpoints and mutations reach into the product: where it has moved on, this says so before a long run does."""

import subprocess
import sys
from typing import Final

from tests.chaos.mutations import MUTATIONS
from tests.chaos.page import PAGE
from tests.chaos.scenarios import ALL, GROUPS

REACH_IN: Final = """
from tests.chaos import failpoints, mutations
for mutation in mutations.MUTATIONS:
    mutation.undo()
for point in failpoints.POINTS:
    failpoints.arm(f"{point}:1")
"""


def test_every_mutation_and_failpoint_finds_what_it_wraps() -> None:
    command = [sys.executable, "-c", REACH_IN]
    environment = {"CHAOS_CRASHES": "nobody"}
    done = subprocess.run(command, cwd=PAGE.parents[1], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_scenarios_have_names_of_their_own_and_mutations_name_scenarios() -> None:
    assert len(ALL) == sum(len(scenarios) for scenarios in GROUPS.values())
    assert {mutation.caught_by for mutation in MUTATIONS} <= set(ALL)


def test_the_page_has_room_for_the_tables() -> None:
    for block in ("scenarios", "mutations"):
        assert f"<!-- {block}: written by the run -->" in PAGE.read_text()
        assert f"<!-- end of {block} -->" in PAGE.read_text()
