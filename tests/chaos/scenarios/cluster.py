"""A cluster of three: a node killed, each in turn, and one cut off from the others."""

import asyncio
from typing import Final

from tests.chaos.scenario import Scenario
from tests.chaos.world import Setting, World

CLUSTERED: Final = Setting(clustered=True)


async def _leader_killed(world: World) -> None:
    # All leaders are on the first node: the queues were declared there.
    async with world.load() as load:
        await load.reached(0.3)
        world.cluster.nodes[0].kill()
        await load.reached(0.9)
        await asyncio.to_thread(world.cluster.nodes[0].start)
        world.repaired()


async def _each_killed(world: World) -> None:
    async with world.load(lasts_s=8) as load:
        for number, node in enumerate(world.cluster.nodes, 1):
            await load.reached(0.15 * number)
            node.kill()
            await asyncio.to_thread(node.start)
        world.repaired()


async def _minority_parted(world: World) -> None:
    lonely = world.cluster.nodes[-1]
    vhost = world.amqp_url.rpartition("/")[2]
    ingress, url = await world.second_ingress(AMQP_URL=lonely.amqp_url + vhost)
    await ingress.ready()
    async with world.load() as load, world.load(url=url, users=10) as lonesome:
        await load.reached(0.2)
        await asyncio.to_thread(world.cluster.part, lonely)
        # With Mnesia the node pauses itself; with Khepri (the default from 4.3 on) it stays up and confirms nothing.
        await lonesome.felt()
        accepted, unavailable = lonesome.done, lonesome.answers[503]
        await lonesome.felt(20)
        world.expect(lonesome.done == accepted, "accepted by the ingress at the minority")
        world.expect(lonesome.answers[503] >= unavailable + 20, "the ingress at the minority did not answer 503")
        await load.reached(1)
        await asyncio.to_thread(world.cluster.join, lonely)
        world.repaired()


SCENARIOS: Final = (
    Scenario(
        "leader_killed",
        "kill -9 of the node of a cluster of three that leads all queues; started again",
        _leader_killed,
        CLUSTERED,
    ),
    Scenario("each_node_killed", "kill -9 and restart of each node of the cluster in turn", _each_killed, CLUSTERED),
    Scenario(
        "minority_parted",
        "one node is cut off from the other two, one ingress knows only that node; joined again",
        _minority_parted,
        CLUSTERED,
    ),
)
