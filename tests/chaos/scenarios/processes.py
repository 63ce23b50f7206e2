"""Usher's own processes: killed at random, killed between two steps, stopped and continued, restarted one by one."""

import asyncio
import contextlib
import signal
from random import Random
from typing import Final

from shared.topology import queue_of
from tests.chaos.broker import WORK, look
from tests.chaos.failing_writes import WORKING, failing
from tests.chaos.scenario import Scenario
from tests.chaos.world import Setting, World
from tests.support.broker import drain
from tests.support.eventually import eventually
from tests.support.programs import Program

# A death and the start after it.
LIFE_LASTS_S: Final = 2.5


async def _die_at(world: World, program: Program, point: str) -> None:
    """Have `program` die at its first passage of `point`, in its next life at its second, and so on."""
    for nth in range(1, world.ground.lives + 1):
        await world.again(program, CHAOS_FAILPOINT=f"{point}:{nth}")
        world.expect(await _dies(world, program), f"{program.arguments[-1]} did not die at {point}")
    await world.again(program)


async def _dies(world: World, program: Program) -> bool:
    with contextlib.suppress(AssertionError):
        await eventually(lambda: not program.alive, timeout_s=world.ground.patience_s)
    return program.exit_code == -signal.SIGKILL


async def _ingress_after_publish(world: World) -> None:
    async with world.load(lasts_s=LIFE_LASTS_S * world.ground.lives) as load:
        load.flow()
        await _die_at(world, world.usher.ingress, "published")
        world.repaired()


async def _consumers_after_effect(world: World) -> None:
    async with world.load(lasts_s=LIFE_LASTS_S * world.ground.lives) as load:
        load.flow()
        await asyncio.gather(*(_die_at(world, consumer, "settling") for consumer in world.consumers))
        world.repaired()


async def _consumers_after_copy(world: World) -> None:
    # Every write fails at first, so that there are copies to be made.
    async with world.load(lasts_s=LIFE_LASTS_S * world.ground.lives) as load, world.database() as connection:
        load.flow()
        await connection.execute(failing("40001", every=1))
        await asyncio.gather(*(_die_at(world, consumer, "half_settled") for consumer in world.consumers))
        await connection.execute(WORKING)
        world.repaired()


async def _at_random(world: World) -> None:
    random = Random(world.name)
    async with world.load(lasts_s=LIFE_LASTS_S * world.ground.lives) as load, world.supervised():
        for tenth in range(1, 10):
            await load.reached(tenth / 10)
            random.choice(world.usher.programs).kill()
        await load.reached(1)
    world.repaired()


async def _stopped(world: World) -> None:
    """The one that goes on finds its connections closed and its messages with others; what it was at it does again."""
    async with world.load() as load:
        await load.reached(0.2)
        for consumer in world.consumers[::2]:
            consumer.signal(signal.SIGSTOP)
        await load.reached(0.9)
        await eventually(lambda: _one_each(world), timeout_s=60, what="the broker has given the stopped ones up")
        for consumer in world.consumers[::2]:
            consumer.signal(signal.SIGCONT)
        world.repaired()


async def _one_each(world: World) -> bool:
    return [consumers for consumers, _ in await look(world.amqp_url, WORK)] == [1] * len(WORK)


async def _rolling(world: World) -> None:
    async with world.load(lasts_s=LIFE_LASTS_S * world.ground.lives) as load:
        for number, program in enumerate(world.usher.programs, 1):
            await load.reached(number / 20)
            world.expect(await program.stop() == 0, f"{program.arguments} did not stop cleanly")
            program.start()
            await program.ready()
        world.repaired()


async def _two_versions(world: World) -> None:
    later, url = await world.second_ingress(CHAOS_EFFECTS="audit")
    async with world.load() as load, world.load(url=url, users=10) as ahead:
        await ahead.felt()
        world.expect(ahead.done == 0, "accepted by an ingress whose topology is not there yet")
        world.expect(await world.command("topology", CHAOS_EFFECTS="audit") == 0, "the later topology was refused")
        await later.ready()
        await load.reached(0.9)
        world.expect(await world.command("topology") == 0, "the earlier topology was refused")
        world.repaired()
    audited = await drain(world.amqp_url, queue_of("audit"))
    missing = set(ahead.accepted) - {message.properties["message_id"] for message in audited}
    world.expect(not missing, f"the later version's queue lacks {len(missing)} of its own")


SCENARIOS: Final = (
    Scenario(
        "ingress_dies_unanswered",
        "the ingress is killed three times between the broker's confirm and its answer",
        _ingress_after_publish,
    ),
    Scenario(
        "consumers_die_unacked",
        "each consumer is killed three times between effect and acknowledgement",
        _consumers_after_effect,
    ),
    Scenario(
        "consumers_die_copied",
        "each consumer is killed three times between a retry's copy and the acknowledgement",
        _consumers_after_copy,
    ),
    Scenario(
        "killed_at_random",
        "nine times any of five programs is killed, and started again at once",
        _at_random,
        Setting(copies=2),
    ),
    Scenario(
        "stopped_and_continued",
        "a consumer of each kind is stopped (SIGSTOP) until the broker gives it up, and goes on while another works",
        _stopped,
        Setting(copies=2, amqp_query="?heartbeat=2"),
    ),
    Scenario("rolling_restart", "SIGTERM and restart of every program in turn", _rolling, Setting(copies=2)),
    Scenario(
        "two_versions",
        "an ingress of a later version, with one queue more, runs beside the earlier one",
        _two_versions,
    ),
)
