"""All scenarios, by what is broken."""

from typing import Final

from tests.chaos.scenario import Scenario
from tests.chaos.scenarios import broker, clocks, cluster, poison, postgres, processes, provider

GROUPS: Final[dict[str, tuple[Scenario, ...]]] = {
    "broker": broker.SCENARIOS,
    "cluster": cluster.SCENARIOS,
    "postgres": postgres.SCENARIOS,
    "provider": provider.SCENARIOS,
    "processes": processes.SCENARIOS,
    "clocks": clocks.SCENARIOS,
    "poison": poison.SCENARIOS,
}
ALL: Final = {scenario.name: scenario for scenarios in GROUPS.values() for scenario in scenarios}
