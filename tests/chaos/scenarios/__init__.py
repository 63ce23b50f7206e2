"""All scenarios, by what is broken."""

from typing import Final

from tests.chaos.scenario import Scenario
from tests.chaos.scenarios import broker, postgres, processes

GROUPS: Final[dict[str, tuple[Scenario, ...]]] = {
    "broker": broker.SCENARIOS,
    "postgres": postgres.SCENARIOS,
    "processes": processes.SCENARIOS,
}
