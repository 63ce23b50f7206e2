"""`usher trace` on real servers: one user's story, from wherever its parts lie, without moving any of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import aio_pika
import pytest

from consumer import databases
from consumer.database_state import State
from consumer.providers.protocol import Place, Usable, UserDatabase
from consumer.users import sync
from shared.events import UserEvent
from shared.history import Failure, noted
from shared.messages import event_message
from tests.cli.conftest import Usher
from tests.support.broker import depth, drain
from tests.support.events import publish, user_event

Pool = Any

USER = "user_ada"
SYNC = "usher.sync_user"
RETRY = f"{SYNC}.retry.30s"
FAILED_AT = "2026-11-20T12:00:00.000Z"
NOWHERE = "postgresql://a:b@127.0.0.1:1/usher"


@pytest.fixture
def system(amqp_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where both servers are, as an operator has it; gives the broker's address."""
    monkeypatch.setenv("AMQP_URL", amqp_url)
    monkeypatch.setenv("DATABASE_URL", database_url)
    return amqp_url


async def put(amqp_url: str, queue: str, *events: UserEvent, reason: str = "transient", at: str = FAILED_AT) -> None:
    """Put events where a consumer puts them after a failed attempt."""
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel(on_return_raises=True)
        for event in events:
            message = event_message(event)
            error = "TransientError: busy"
            message.headers |= {"reason": reason, "error": error, "attempt": 2, "queue": SYNC, "first_failed_at": at}
            message.headers["history"] = noted(None, Failure(at, 1, reason, error))
            await channel.default_exchange.publish(message, queue)


def told(done: Any) -> dict[str, str]:
    """What became of each event, by its id."""
    codes = ("applied", "superseded", "stale", "not_applied", "unknown")
    return {line["event_id"]: line["what"] for line in done.json["story"] if line["what"] in codes}


def whats(done: Any) -> list[str]:
    return [line["what"] for line in done.json["story"]]


async def test_what_was_applied_superseded_stale_and_a_duplicate_is_told(usher: Usher, system: str, pool: Pool) -> None:
    events = [
        user_event("user.created", USER, version=10, event_id="msg_created"),
        user_event("user.updated", USER, version=30, event_id="msg_newest"),
        user_event("user.updated", USER, version=20, event_id="msg_late"),
        user_event("user.created", USER, version=10, event_id="msg_created"),
        user_event("user.created", "user_bob", version=10, event_id="msg_bob"),
    ]
    await publish(system, *events)
    for event in events:
        await sync(pool, event)

    done = await usher("trace", USER, "--json")

    assert done.code == 0, done.err
    assert told(done) == {"msg_created": "superseded", "msg_newest": "applied", "msg_late": "stale"}
    assert whats(done).count("duplicate") == 1
    assert whats(done).count("received") == 3
    assert done.json["now"] == {
        "row": True,
        "deleted": False,
        "applied_event_id": "msg_newest",
        "database": None,
        "retrying": 0,
        "dead": 0,
    }
    assert any("seven days" in sentence for sentence in done.json["unknown"])


async def test_an_update_after_the_deletion_is_stale_and_the_user_is_gone(
    usher: Usher, system: str, pool: Pool
) -> None:
    events = [
        user_event("user.deleted", USER, event_id="msg_gone"),
        user_event("user.updated", USER, event_id="msg_up"),
    ]
    await publish(system, *events)
    for event in events:
        await sync(pool, event)

    done, shown = await usher("trace", USER, "--json"), await usher("trace", USER)

    assert told(done) == {"msg_gone": "applied", "msg_up": "stale"}
    assert "deleted, no row" in shown.out


async def test_versions_that_are_equal_are_ordered_as_the_table_orders_them(
    usher: Usher, system: str, pool: Pool
) -> None:
    events = [
        user_event("user.updated", USER, version=1, event_id=name) for name in ("msg_a", "msg_B", "msg-C", "msg_10")
    ]
    await publish(system, *events)
    for event in events:
        await sync(pool, event)

    done = await usher("trace", USER, "--json")

    applied = await pool.fetchval("select event_id from user_guards where user_id = $1", USER)
    assert [event_id for event_id, what in told(done).items() if what == "applied"] == [applied]
    assert "not_applied" not in told(done).values()


async def test_what_waits_on_the_ladder_says_why_and_when_it_is_due(usher: Usher, system: str) -> None:
    event = user_event("user.created", USER, event_id="msg_1")
    now = datetime.now(UTC).replace(microsecond=0)
    await publish(system, event)
    await put(system, RETRY, event, at=now.isoformat())

    done = await usher("trace", USER, "--json")

    (failed,) = [line for line in done.json["story"] if line["what"] == "failed"]
    (retry,) = [line for line in done.json["story"] if line["what"] == "retry"]
    assert failed["text"] == "attempt 1 failed (transient): TransientError: busy"
    assert datetime.fromisoformat(retry["at"]) == now + timedelta(seconds=30)
    assert told(done) == {"msg_1": "not_applied"}


async def test_looking_at_what_waits_moves_nothing_and_is_not_counted_by_the_work_queue(
    usher: Usher, system: str
) -> None:
    others = [user_event(user=f"user_{number}", event_id=f"msg_{number}") for number in range(20)]
    await put(system, RETRY, *others)

    for _ in range(6):
        await usher("trace", "user_7", "--json")

    assert await depth(system, SYNC) == 0
    left = await drain(system, RETRY)
    assert [one.properties["message_id"] for one in left] == [f"msg_{number}" for number in range(20)]


async def test_only_so_many_that_wait_are_looked_at_and_it_says_so(usher: Usher, system: str) -> None:
    await put(system, RETRY, *(user_event(user=f"user_{number}") for number in range(5)))
    await put(system, RETRY, user_event(user=USER))
    await publish(system, user_event(user=USER))

    done = await usher("trace", USER, "--look-at", "2", "--json")

    assert done.json["now"]["retrying"] == 0
    assert f"4 events in {RETRY}: not looked at" in done.json["unknown"]


async def test_a_dead_letter_is_told_with_its_attempts_and_the_operator_who_sent_it_back(
    usher: Usher, system: str
) -> None:
    event = user_event("user.created", USER, event_id="msg_1")
    await publish(system, event)
    await drain(system, SYNC)
    await put(system, f"{SYNC}.dead", event, reason="permanent")

    dead = await usher("trace", USER, "--json")
    await usher("dead", "redrive", "--user", USER)
    back = await usher("trace", USER, "--json")

    assert [what for what in whats(dead) if what in {"failed", "dead"}] == ["failed", "dead"]
    assert "usher dead redrive --id msg_1" in str(dead.json["story"])
    assert dead.json["now"]["dead"] == 1
    (deed,) = [line for line in back.json["story"] if line["what"] == "operator"]
    assert deed["text"].endswith(": usher dead redrive")
    assert back.json["now"]["dead"] == 0


async def test_a_webhook_about_the_user_that_could_not_be_read_is_told_too(usher: Usher, system: str) -> None:
    async with await aio_pika.connect(system) as connection:
        channel = await connection.channel()
        headers: dict[str, Any] = {"reason": "unreadable", "error": "no timestamp", "first_failed_at": FAILED_AT}
        webhook = aio_pika.Message(b'{"data": {"id": "user_ada"}}', message_id="msg_1", headers=headers)
        await channel.default_exchange.publish(webhook, "usher.ingress.dead")

    done = await usher("trace", USER, "--json")

    assert "given up (unreadable), lies in usher.ingress.dead: usher dead show msg_1" in str(done.json["story"])


async def test_the_database_is_told_state_by_state(usher: Usher, system: str, pool: Pool) -> None:
    database = UserDatabase(USER, "user_ada", "local")
    async with pool.acquire() as connection:
        await databases.want(connection, database, provider="postgres", event_id="msg_1")
        await databases.begin(connection, USER, "local")
        creating = await usher("trace", USER, "--json")
        await databases.stop_creating(connection, USER, State.QUOTA_BLOCKED, "no room")
        blocked = await usher("trace", USER)
        await databases.begin(connection, USER, "local")
        place = Place(provider_id="1", host="127.0.0.1", project=None, region="local")
        await databases.locate(connection, USER, place)
        await databases.make_ready(connection, USER, place, Usable(1))
        await databases.unwant(
            connection,
            database,
            provider="postgres",
            event_id="msg_2",
            happened_at=datetime.now(UTC),
            holdback=timedelta(days=7),
        )
        held = await usher("trace", USER, "--json")

    assert system
    assert whats(creating) == ["database_requested", "database_creating"]
    assert "database quota_blocked (attempt 1): no room" in blocked.out
    assert whats(held) == ["database_requested", "database_ready", "database_held", "database_due"]


async def test_the_log_is_read_from_where_one_likes_and_it_says_so(usher: Usher, system: str, pool: Pool) -> None:
    events = [user_event("user.updated", USER, version=number, event_id=f"msg_{number}") for number in (1, 2)]
    await publish(system, *events)
    for event in events:
        await sync(pool, event)

    done = await usher("trace", USER, "--since", "offset:1", "--json")

    assert told(done) == {"msg_2": "applied"}
    assert any("--since" in sentence for sentence in done.json["unknown"])


async def test_an_event_id_means_its_user(usher: Usher, system: str, pool: Pool) -> None:
    event = user_event("user.created", USER, event_id="msg_1")
    await publish(system, event)
    await sync(pool, event)

    done = await usher("trace", "msg_1", "--json")

    assert done.json["user"] == USER
    assert told(done) == {"msg_1": "applied"}


async def test_it_says_ids_and_no_personal_data(usher: Usher, system: str, pool: Pool) -> None:
    event = user_event("user.created", USER, email="secret@example.org", first_name="Secretia", username="secretia")
    await publish(system, event)
    await put(system, f"{SYNC}.dead", event)
    await sync(pool, event)

    for done in (await usher("trace", USER), await usher("trace", USER, "--json")):
        assert USER in done.out
        assert "ecret" not in done.out


@pytest.mark.usefixtures("system")
async def test_of_a_user_that_nobody_knows_it_says_so(usher: Usher) -> None:
    done = await usher("trace", "user_nobody")

    assert done.code == 1
    assert done.err.startswith("usher: nothing is known of user_nobody")


async def test_without_postgres_it_tells_what_the_broker_knows_and_fails(
    usher: Usher, system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(system, user_event("user.created", USER, event_id="msg_1"))
    monkeypatch.setenv("DATABASE_URL", NOWHERE)

    done = await usher("trace", USER, "--json")

    assert done.code == 1
    assert told(done) == {"msg_1": "unknown"}
    assert any(sentence.startswith("Postgres does not answer at 127.0.0.1:1") for sentence in done.json["unknown"])


async def test_without_the_broker_it_tells_what_the_tables_know_and_fails(
    usher: Usher, system: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert system
    await sync(pool, user_event("user.created", USER, event_id="msg_1"))
    monkeypatch.setenv("AMQP_URL", "amqp://a:b@127.0.0.1:1/")

    done = await usher("trace", USER, "--json")

    assert done.code == 1
    assert done.json["now"]["applied_event_id"] == "msg_1"
    assert any(sentence.startswith("RabbitMQ does not answer") for sentence in done.json["unknown"])


async def test_without_both_it_is_one_sentence(usher: Usher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_URL", "amqp://a:b@127.0.0.1:1/")
    monkeypatch.setenv("DATABASE_URL", NOWHERE)

    done = await usher("trace", USER)

    assert done.code == 1
    assert done.err.startswith("usher: RabbitMQ does not answer")
    assert done.err.count("\n") == 1
