"""Three RabbitMQ nodes on loopback as one cluster, whose nodes can be parted from each other."""

import secrets
from pathlib import Path
from typing import Final

from local import programs
from local.epmd import Epmd
from local.ports import free_port
from local.rabbitmq import RabbitNode

NODES: Final = ("one", "two", "three")
FORMED_WITHIN_S: Final = 120.0


class RabbitCluster:
    """A node alone pauses itself (`pause_minority`), as RabbitMQ advises for clusters of three."""

    def __init__(self, folder: Path, *, user: str, password: str) -> None:
        folder.mkdir(parents=True)
        self._cookie = secrets.token_hex(20)
        self._epmd_port = free_port()
        self._epmd = Epmd(programs.epmd(programs.rabbitmq_server(None)), folder / "epmd.log", self._epmd_port)
        self.nodes = [
            RabbitNode(
                folder / name,
                amqp_port=free_port(),
                management_port=free_port(),
                user=user,
                password=password,
                node_name=f"{name}@localhost",
                cookie=self._cookie,
                epmd_port=self._epmd_port,
                extra_config=_formation(),
            )
            for name in NODES
        ]

    def start(self) -> None:
        """Returns when all three are one cluster."""
        self._epmd.start()
        # The first alone, so that the others find it; all at once they may wait for each other for long.
        self.nodes[0].start(FORMED_WITHIN_S)
        for node in self.nodes[1:]:
            node.launch()
        for node in self.nodes[1:]:
            node.wait_ready(FORMED_WITHIN_S)
        self.nodes[0].ctl("await_online_nodes", str(len(NODES)))

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()
        self._epmd.stop()

    def part(self, node: RabbitNode) -> None:
        """Cut `node` off from the others: it takes their cookie for another one, and nobody lets anybody in."""
        self._for_others(node, "erlang:set_cookie({0}, another), erlang:disconnect_node({0})")

    def join(self, node: RabbitNode) -> None:
        """Let them see each other again; they find together by themselves."""
        self._for_others(node, f"erlang:set_cookie({{0}}, '{self._cookie}')")

    def _for_others(self, node: RabbitNode, expression: str) -> None:
        others = [f"'{other.node_name}'" for other in self.nodes if other is not node]
        node.ctl("eval", ", ".join(expression.format(other) for other in others) + ".")


def _formation() -> list[str]:
    return [
        "cluster_partition_handling = pause_minority",
        "cluster_formation.peer_discovery_backend = classic_config",
        *(f"cluster_formation.classic_config.nodes.{at} = {name}@localhost" for at, name in enumerate(NODES, 1)),
        "cluster_formation.discovery_retry_limit = 1",
        "cluster_formation.discovery_retry_interval = 100",
    ]
