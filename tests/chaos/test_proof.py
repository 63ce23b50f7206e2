"""The proof in short: some of its scenarios, with small loads. `make chaos` plays all of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from local.postgres import PostgresCluster
from local.rabbitmq import RabbitNode
from tests.chaos.scenario import Scenario, play
from tests.chaos.scenarios import ALL
from tests.chaos.world import Ground
from tests.support.broker import running_node

USERS: Final = 10
IN_SHORT: Final = (
    "connections_cut",
    "conflicts",
    "ingress_dies_unanswered",
    "consumers_die_unacked",
    "consumers_die_copied",
    "no_events",
)


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    """A node of this file alone: what its kills leave behind troubles no other test."""
    with running_node(tmp_path_factory.mktemp("rabbitmq")) as node:
        yield node


@pytest.mark.timeout(300)
@pytest.mark.parametrize("scenario", [ALL[name] for name in IN_SHORT], ids=IN_SHORT)
async def test_nothing_is_lost(
    scenario: Scenario, rabbit: RabbitNode, postgres: PostgresCluster, tmp_path: Path
) -> None:
    account = await play(scenario, Ground(rabbit, postgres, tmp_path, USERS, lives=1))
    assert account.holds, account
