"""Messages that can never succeed, among good ones: no events, one that ends its consumer, one that always fails."""

import time
from typing import Final

import aio_pika
import aiohttp

from cli.posting import Webhook, headers
from shared.topology import EVENTS_EXCHANGE, INGRESS_DEAD_QUEUE
from tests.chaos.accounting import PROVISION_DEAD, SYNC_DEAD
from tests.chaos.failing_writes import WORKING, failing_for
from tests.chaos.load import Load
from tests.chaos.scenario import Scenario
from tests.chaos.world import Setting, World
from tests.support.broker import depth
from tests.support.eventually import eventually

VICTIM: Final = "user_2poisonPoisonPoisonPoison0"
BODIES: Final = {
    "poison_bytes": b"\xff\xfe\x00",
    "poison_text": b"not json",
    "poison_other": b'{"specversion": "1.0", "type": "user.created"}',
    "poison_kind": b'{"specversion": "1.0", "type": "user.created", "id": 1, "source": [], "subject": {}, "data": 0}',
}


async def _no_events(world: World) -> None:
    async with world.load() as load:
        await load.reached(0.2)
        await _publish(world)
        status = await _send_unreadable(world)
        world.expect(status == 202, f"an unreadable webhook was answered {status}")
        world.repaired()
    poisonous = set(BODIES)
    world.expected_dead = {SYNC_DEAD: poisonous, PROVISION_DEAD: poisonous, INGRESS_DEAD_QUEUE: {"msg_unreadable"}}


async def _publish(world: World) -> None:
    async with await aio_pika.connect(world.amqp_url) as connection:
        channel = await connection.channel(on_return_raises=True)
        exchange = await channel.get_exchange(EVENTS_EXCHANGE, ensure=False)
        for message_id, body in BODIES.items():
            await exchange.publish(aio_pika.Message(body, message_id=message_id), "user.created")


async def _send_unreadable(world: World) -> int:
    body = b'{"type": "user.created", "data": '
    webhook = Webhook("msg_unreadable", VICTIM, "user.created", 0)
    signed = headers(world.usher.order(), webhook, body, now_s=int(time.time()), attempt=1)
    async with aiohttp.ClientSession() as session, session.post(world.usher.url, data=body, headers=signed) as answer:
        return answer.status


async def _ends_its_consumer(world: World) -> None:
    (consumer, _) = world.consumers
    consumer.environment = {**consumer.environment, "CHAOS_CRASHES": VICTIM, "CHAOS_FAILPOINT": "applying:1"}
    await world.again(consumer)
    await consumer.ready()
    async with world.supervised(), world.load():
        await _given_up(world, SYNC_DEAD, await _send_victim(world))
        world.repaired()


async def _always_fails(world: World) -> None:
    async with world.load(), world.database() as connection:
        await connection.execute(failing_for("40001", VICTIM))
        victim = await _send_victim(world)
        await _given_up(world, SYNC_DEAD, victim)
        await _given_up(world, PROVISION_DEAD, victim)
        await connection.execute(WORKING)
        world.repaired()


async def _send_victim(world: World) -> str:
    """The id of one webhook about the victim, counted with the others."""
    (answer,) = (await world.usher.send("user.created", user_id=VICTIM, retries=20)).answers
    webhook = answer.webhook
    world.loads.append(Load(world.usher.order(), [webhook], rate=1, accepted={webhook.message_id: webhook}))
    return webhook.message_id


async def _given_up(world: World, queue: str, message_id: str) -> None:
    await eventually(
        lambda: depth(world.amqp_url, queue),
        timeout_s=world.ground.patience_s,
        every_s=0.5,
        what=f"given up into {queue}",
    )
    world.expected_dead[queue] = {message_id}


SCENARIOS: Final = (
    Scenario("no_events", "messages that are no events, and a genuine webhook that cannot be read", _no_events),
    Scenario(
        "event_ends_its_consumer",
        "an event kills every consumer that has it in hand",
        _ends_its_consumer,
        Setting(environment={"MAX_ATTEMPTS": "2"}),
    ),
    Scenario(
        "event_always_fails",
        "an event whose effects fail with a passing error, every time",
        _always_fails,
        Setting(environment={"MAX_ATTEMPTS": "2"}),
    ),
)
