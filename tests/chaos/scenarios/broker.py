"""One broker: killed, full, cut off, and with a queue taken away."""

import asyncio
from typing import Final

import aio_pika

from tests.chaos.broker import WORK, backlog
from tests.chaos.scenario import Scenario
from tests.chaos.world import Setting, World
from tests.support.eventually import eventually


async def _killed(world: World) -> None:
    async with world.load() as load:
        await load.reached(0.3)
        world.rabbit.kill()
        await load.felt()
        await asyncio.to_thread(world.rabbit.start)
        world.repaired()


async def _alarm(world: World, *on: str, off: tuple[str, ...]) -> None:
    async with world.load() as load:
        await load.reached(0.2)
        await asyncio.to_thread(world.rabbit.ctl, *on)
        await load.felt()
        await asyncio.to_thread(world.rabbit.ctl, *off)
        world.repaired()


async def _memory_alarm(world: World) -> None:
    verb = "set_vm_memory_high_watermark"
    await _alarm(world, verb, "0.00001", off=(verb, "0.4"))


async def _disk_alarm(world: World) -> None:
    verb = "set_disk_free_limit"
    await _alarm(world, verb, "1000000GB", off=(verb, "50MB"))


async def _cut(world: World) -> None:
    """Publishes, deliveries and acks go through the proxy: cuts at many places hit all of them."""
    assert world.broker_proxy is not None
    async with world.load() as load:
        for share in range(1, 8):
            world.broker_proxy.cut_after(317 * share**2)
            await load.reached(share / 10)
    world.repaired()


async def _silent(world: World) -> None:
    assert world.broker_proxy is not None
    async with world.load() as load:
        await load.reached(0.2)
        world.broker_proxy.black_hole()
        await load.felt()
        world.broker_proxy.flow()
        world.repaired()


async def _queue_deleted(world: World) -> None:
    async with world.load():
        pass
    # Empty, because what is in a queue goes with it.
    await eventually(lambda: _deleted_when_empty(world, WORK[0]), timeout_s=60, what="the queue is deleted")
    world.expect(await world.command("topology") == 0, "usher topology failed")
    world.repaired()
    async with world.load():
        pass


async def _queue_lost(world: World) -> None:
    """What was in it, and what was accepted while it was not there, is in the log."""
    async with world.load() as load:
        await load.reached(0.3)
        await _delete(world, WORK[0])
        await load.reached(0.9)
        world.expect(await world.command("topology") == 0, "usher topology failed")
    replayed = await world.command("replay", "--since", "first", "--to", "sync_user", "--yes")
    world.expect(replayed == 0, "usher replay failed")
    world.repaired()


async def _deleted_when_empty(world: World, queue: str) -> bool:
    if await backlog(world.amqp_url) != 0:
        return False
    await _delete(world, queue)
    return True


async def _delete(world: World, queue: str) -> None:
    async with await aio_pika.connect(world.amqp_url) as connection:
        channel = await connection.channel()
        await channel.queue_delete(queue)


SCENARIOS: Final = (
    Scenario("broker_killed", "kill -9 of a single broker under load; started again", _killed),
    Scenario("memory_alarm", "the broker's memory alarm goes off under load; cleared", _memory_alarm),
    Scenario("disk_alarm", "the broker's disk alarm goes off under load; cleared", _disk_alarm),
    Scenario(
        "connections_cut",
        "all connections to the broker are reset after so many bytes, seven times under load",
        _cut,
        Setting(broker_proxied=True),
    ),
    Scenario(
        "connections_silent",
        "all connections to the broker stay open and carry nothing more; then they flow again",
        _silent,
        Setting(broker_proxied=True),
    ),
    Scenario(
        "queue_deleted",
        "a work queue, empty, is deleted under its consumer and declared again by `usher topology`",
        _queue_deleted,
    ),
    Scenario(
        "queue_lost",
        "a work queue is deleted under load with all that is in it, declared again, and the log replayed",
        _queue_lost,
    ),
)
