"""`usher dead` on a real broker: looking leaves no trace, sending back loses nothing, taking away keeps a copy."""

import asyncio
import json
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from yarl import URL

from consumer.users import sync
from local.rabbitmq import RabbitNode
from shared.events import UserEvent
from shared.history import Failure, failures, noted
from shared.messages import event_message
from shared.topology import INGRESS_DEAD_QUEUE, UNROUTED
from tests.cli.conftest import Usher
from tests.support.broker import Stored, depth, drain, management, read_log
from tests.support.events import user_event
from tests.support.eventually import eventually

ROOT = Path(__file__).parents[2]
SYNC, PROVISION = "usher.sync_user", "usher.provision_database"
SYNC_DEAD, PROVISION_DEAD = f"{SYNC}.dead", f"{PROVISION}.dead"
FAILED_AT = "2026-11-20T12:00:00.000Z"

Put = Callable[..., Awaitable[None]]


@pytest.fixture
def put(amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Put events into a dead-letter queue as a consumer does."""
    monkeypatch.setenv("AMQP_URL", amqp_url)

    async def put_all(queue: str, *events: UserEvent, **headers: Any) -> None:
        given: dict[str, Any] = {
            "reason": "permanent",
            "error": "PermanentError: no such thing",
            "attempt": 3,
        } | headers
        given |= {"first_failed_at": FAILED_AT, "queue": queue.removesuffix(".dead")}
        async with await aio_pika.connect(amqp_url) as connection:
            channel = await connection.channel(on_return_raises=True)
            for event in events:
                message = event_message(event)
                message.headers.update(given)
                await channel.default_exchange.publish(message, queue)

    return put_all


def events(count: int) -> list[UserEvent]:
    return [user_event(event_id=f"msg_{number}", user=f"user_{number}") for number in range(count)]


def ids(stored: Sequence[Stored]) -> list[str]:
    return [str(one.properties["message_id"]) for one in stored]


@pytest.mark.usefixtures("put")
async def test_without_dead_letters_there_is_nothing_to_list(usher: Usher) -> None:
    done = await usher("dead", "ls")

    assert done.code == 0, done.err
    assert "0 dead letters" in done.out


async def test_one_is_not_called_many(usher: Usher, put: Put) -> None:
    await put(SYNC_DEAD, user_event())

    assert (await usher("dead", "ls")).out.splitlines()[-1] == "1 dead letter."


async def test_they_are_grouped_by_queue_reason_and_error(usher: Usher, put: Put) -> None:
    await put(SYNC_DEAD, *events(3))
    await put(SYNC_DEAD, user_event(event_id="msg_x"), reason="undecodable", error="DecodeError: not JSON")
    await put(PROVISION_DEAD, user_event(event_id="msg_y"))

    done = await usher("dead", "ls", "--json")

    groups = {(group["queue"], group["reason"]): group["count"] for group in done.json["groups"]}
    assert groups == {(SYNC_DEAD, "permanent"): 3, (SYNC_DEAD, "undecodable"): 1, (PROVISION_DEAD, "permanent"): 1}
    assert done.json["groups"][0]["oldest"] == FAILED_AT
    assert done.json["groups"][0]["example"] == "msg_0"


async def test_errors_that_differ_in_ids_and_numbers_only_are_one_group(usher: Usher, put: Put) -> None:
    for number in range(3):
        error = f"PermanentError: there is no database user_{number}abc after {number} looks"
        await put(PROVISION_DEAD, user_event(event_id=f"msg_{number}"), error=error)
    await put(PROVISION_DEAD, user_event(), error="PermanentError: Xata answered 422")
    await put(PROVISION_DEAD, user_event(), error="PermanentError: Xata answered 400")

    done = await usher("dead", "ls", "--json")

    assert {(group["effect"], group["error"]): group["count"] for group in done.json["groups"]} == {
        ("provision_database", "PermanentError: there is no database … after # looks"): 3,
        ("provision_database", "PermanentError: Xata answered 422"): 1,
        ("provision_database", "PermanentError: Xata answered 400"): 1,
    }


async def test_only_what_failed_since_then_is_taken(usher: Usher, put: Put) -> None:
    await put(SYNC_DEAD, *events(2))

    before = await usher("dead", "ls", "--since", "2026-11-20T12:00:01Z", "--json")
    after = await usher("dead", "ls", "--since", "2026-11-20T13:00:00+01:00", "--json")

    assert (before.json["total"], after.json["total"]) == (0, 2)


@pytest.mark.parametrize("since", ["yesterday", "2026-11-20T12:00"])
async def test_a_since_that_says_no_moment_is_misuse(usher: Usher, since: str) -> None:
    done = await usher("dead", "ls", "--since", since)

    assert done.code == 2
    assert "write" in done.err


async def test_looking_many_times_loses_and_reorders_nothing(usher: Usher, put: Put, amqp_url: str) -> None:
    await put(SYNC_DEAD, *events(50))

    for _ in range(25):
        assert (await usher("dead", "ls", "--queue", "sync_user", "--json")).json["total"] == 50

    assert await depth(amqp_url, SYNC_DEAD) == 50
    assert ids(await drain(amqp_url, SYNC_DEAD)) == [f"msg_{number}" for number in range(50)]


async def test_listings_say_ids_and_no_personal_data(usher: Usher, put: Put) -> None:
    await put(SYNC_DEAD, user_event(event_id="msg_x", user="user_x", email="secret@example.org", first_name="Secretia"))

    listed = [await usher("dead", "ls"), await usher("dead", "ls", "--each"), await usher("dead", "ls", "--json")]
    listed.append(await usher("dead", "show", "msg_x"))

    for done in listed:
        assert "msg_x" in done.out
        assert "ecret" not in done.out


async def test_filters_narrow_the_list(usher: Usher, put: Put) -> None:
    await put(SYNC_DEAD, *events(3))
    await put(SYNC_DEAD, user_event(event_id="msg_x", user="user_x"), reason="undecodable")

    by_user = await usher("dead", "ls", "--user", "user_1", "--json")
    by_reason = await usher("dead", "ls", "--reason", "undecodable", "--json")
    by_queue = await usher("dead", "ls", "--queue", PROVISION_DEAD, "--json")

    assert [letter["event_id"] for letter in by_user.json["letters"]] == ["msg_1"]
    assert [letter["event_id"] for letter in by_reason.json["letters"]] == ["msg_x"]
    assert by_queue.json["total"] == 0


async def test_one_is_shown_with_its_history_and_its_body_only_on_request(usher: Usher, put: Put) -> None:
    await put(SYNC_DEAD, user_event(event_id="msg_x", user="user_x", email="ada@example.org"))

    plain, full = await usher("dead", "show", "msg_x"), await usher("dead", "show", "msg_x", "--body")
    parsed = (await usher("dead", "show", "msg_x", "--json")).json

    assert "PermanentError: no such thing" in plain.out
    assert "ada@example.org" not in plain.out
    assert "ada@example.org" in full.out
    assert json.loads(parsed["body"])["subject"] == parsed["user_id"] == "user_x"
    assert (parsed["attempt"], parsed["failed_in"], parsed["first_failed_at"]) == (3, SYNC, FAILED_AT)


async def test_every_attempt_of_a_letter_is_shown(usher: Usher, put: Put) -> None:
    history = noted(None, Failure("2026-11-20T12:00:00.000Z", 1, "transient", "TransientError: busy"))
    history = noted(history, Failure("2026-11-20T12:00:05.000Z", 2, "permanent", "PermanentError: no such thing"))
    await put(SYNC_DEAD, user_event(event_id="msg_x"), history=history)

    shown, parsed = await usher("dead", "show", "msg_x"), await usher("dead", "show", "msg_x", "--json")

    assert "2026-11-20T12:00:00.000Z  attempt 1  transient  TransientError: busy" in shown.out
    assert [(each["attempt"], each["at"]) for each in parsed.json["history"]] == [
        (1, "2026-11-20T12:00:00.000Z"),
        (2, "2026-11-20T12:00:05.000Z"),
    ]


async def test_the_history_goes_along_and_says_that_it_was_sent_back(usher: Usher, put: Put, amqp_url: str) -> None:
    await put(SYNC_DEAD, user_event(), history=noted(None, Failure(FAILED_AT, 1, "permanent", "PermanentError: x")))

    await usher("dead", "redrive", "--all")

    (sent,) = await drain(amqp_url, SYNC)
    assert [failure.reason for failure in failures(sent.headers["history"])] == ["permanent", "redriven"]


async def test_a_letter_that_a_newer_state_has_overtaken_is_shown_as_superseded(
    usher: Usher, put: Put, database_url: str, pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    await sync(pool, user_event("user.updated", "user_old", version=9))
    await put(SYNC_DEAD, user_event("user.updated", "user_old", version=5, event_id="msg_old"))
    await put(SYNC_DEAD, user_event("user.updated", "user_new", version=5, event_id="msg_new"))

    old, new = await usher("dead", "show", "msg_old", "--json"), await usher("dead", "show", "msg_new")
    done = await usher("dead", "redrive", "--all", "--json")

    assert old.json["superseded"] is True
    assert "not superseded" in new.out
    assert done.json["redriven"] == 2
    assert done.json["superseded"] == ["msg_old"]


@pytest.mark.parametrize("body", [b"not JSON", b'{"id": "msg_x", "type": "user.updated", "data": {"version": 1}}'])
async def test_of_a_letter_without_a_user_nothing_is_said_about_what_supersedes_it(
    usher: Usher, amqp_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    monkeypatch.setenv("AMQP_URL", amqp_url)
    monkeypatch.setenv("DATABASE_URL", database_url)
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.default_exchange.publish(aio_pika.Message(body, message_id="msg_x"), SYNC_DEAD)

    shown, parsed = await usher("dead", "show", "msg_x"), await usher("dead", "show", "msg_x", "--json")

    assert shown.code == parsed.code == 0
    assert "superseded" not in shown.out
    assert parsed.json["superseded"] is None


async def test_without_postgres_it_is_not_known_whether_one_is_superseded(usher: Usher, put: Put) -> None:
    await put(SYNC_DEAD, user_event(event_id="msg_x"))

    shown = await usher("dead", "show", "msg_x")
    done = await usher("dead", "redrive", "--all", "--json")

    assert "not known whether it is superseded" in shown.out
    assert (done.code, done.json["superseded"]) == (0, None)


@pytest.mark.usefixtures("put")
async def test_an_id_that_is_nowhere_fails(usher: Usher) -> None:
    done = await usher("dead", "show", "msg_nowhere")

    assert done.code == 1
    assert "msg_nowhere" in done.err


@pytest.mark.parametrize("verb", ["redrive", "discard"])
async def test_an_id_that_no_letter_has_is_named_and_fails_and_the_others_go(
    usher: Usher, put: Put, amqp_url: str, verb: str
) -> None:
    await put(SYNC_DEAD, *events(2))
    sure = ["--yes"] if verb == "discard" else []

    nothing = await usher("dead", verb, "--id", "msg_nowhere", *sure)
    done = await usher("dead", verb, "--id", "msg_nowhere", "--id", "msg_1", *sure, "--json")

    assert (nothing.code, done.code) == (1, 1)
    assert "has the id msg_nowhere" in nothing.err
    assert done.json["missing"] == ["msg_nowhere"]
    assert ids(await drain(amqp_url, SYNC_DEAD)) == ["msg_0"]


async def test_a_webhook_that_is_asked_for_by_its_id_is_not_missing_but_stays(
    usher: Usher, put: Put, amqp_url: str
) -> None:
    await put(INGRESS_DEAD_QUEUE, user_event(event_id="msg_x"))

    done = await usher("dead", "redrive", "--id", "msg_x", "--json")

    assert (done.code, done.json["missing"]) == (1, [])
    assert "no event in them" in done.json["stuck"][0]["why"]
    assert await depth(amqp_url, INGRESS_DEAD_QUEUE) == 1


async def test_behind_a_limit_no_id_is_called_missing(usher: Usher, put: Put) -> None:
    await put(SYNC_DEAD, *events(3))

    done = await usher("dead", "redrive", "--id", "msg_0", "--id", "msg_2", "--limit", "1", "--json")

    assert (done.code, done.json["redriven"], done.json["missing"]) == (0, 1, [])


async def test_one_is_sent_back_to_where_it_failed_as_a_first_attempt_with_its_history(
    usher: Usher, put: Put, amqp_url: str
) -> None:
    await put(SYNC_DEAD, *events(3))
    await put(PROVISION_DEAD, user_event(event_id="msg_other"))

    done = await usher("dead", "redrive", "--id", "msg_1", "--json")

    assert done.code == 0, done.err
    assert (done.json["redriven"], done.json["left"]) == (1, 3)
    (sent,) = await drain(amqp_url, SYNC)
    assert sent.properties["message_id"] == "msg_1"
    assert sent.body == event_message(events(3)[1]).body
    assert sent.properties["delivery_mode"] == 2
    assert sent.headers["attempt"] == 1
    assert sent.headers["first_failed_at"] == FAILED_AT
    assert sent.headers["redrives"] == 1
    assert sent.headers["redriven_at"] > FAILED_AT
    assert not {"reason", "error", "queue"} & sent.headers.keys()
    assert ids(await drain(amqp_url, SYNC_DEAD)) == ["msg_0", "msg_2"]
    assert await depth(amqp_url, PROVISION_DEAD) == 1


async def test_redrives_are_counted(usher: Usher, put: Put, amqp_url: str) -> None:
    await put(SYNC_DEAD, user_event(), redrives=4)

    await usher("dead", "redrive", "--all")

    assert (await drain(amqp_url, SYNC))[0].headers["redrives"] == 5


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        (("--user", "user_2"), ["msg_2"]),
        (("--reason", "undecodable"), ["msg_x"]),
        (("--queue", "sync_user", "--limit", "2"), ["msg_0", "msg_1"]),
        (("--id", "msg_0", "--id", "msg_x"), ["msg_0", "msg_x"]),
    ],
)
async def test_filtered_ones_are_sent_back_and_the_rest_keeps_its_order(
    usher: Usher, put: Put, amqp_url: str, arguments: tuple[str, ...], sent: list[str]
) -> None:
    await put(SYNC_DEAD, *events(4))
    await put(SYNC_DEAD, user_event(event_id="msg_x", user="user_x"), reason="undecodable")

    done = await usher("dead", "redrive", *arguments)

    everything = ["msg_0", "msg_1", "msg_2", "msg_3", "msg_x"]
    assert done.code == 0, done.err
    assert sorted(ids(await drain(amqp_url, SYNC))) == sent
    assert ids(await drain(amqp_url, SYNC_DEAD)) == [each for each in everything if each not in sent]


async def test_all_of_them_are_sent_back_each_to_its_own_queue(usher: Usher, put: Put, amqp_url: str) -> None:
    await put(SYNC_DEAD, *events(500))
    await put(PROVISION_DEAD, *events(20))

    done = await usher("dead", "redrive", "--all", "--json")

    assert done.json["queues"] == {SYNC_DEAD: 500, PROVISION_DEAD: 20, UNROUTED: 0}
    assert sorted(ids(await drain(amqp_url, SYNC))) == sorted(f"msg_{number}" for number in range(500))
    assert await depth(amqp_url, PROVISION) == 20
    assert await depth(amqp_url, SYNC_DEAD) == await depth(amqp_url, PROVISION_DEAD) == 0


async def test_it_stops_at_the_first_that_comes_back_dead(
    usher: Usher, put: Put, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.redrive.WATCH_S", 40)  # a slow machine fails slowly; the first failure ends the watch
    await put(SYNC_DEAD, *events(20))

    async with failing(amqp_url) as failed:
        done = await usher("dead", "redrive", "--all", "--stop-on-failure", "--json")

    assert done.code == 1
    assert failed == ["msg_0"]
    assert [letter["event_id"] for letter in done.json["failed_again"]] == ["msg_0"]
    assert (done.json["redriven"], done.json["left"]) == (1, 19)
    assert sorted(ids(await drain(amqp_url, SYNC_DEAD))) == sorted(f"msg_{number}" for number in range(20))


async def test_what_somebody_else_puts_there_meanwhile_does_not_stop_it(
    usher: Usher, put: Put, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.redrive.WATCH_S", 0.5)
    await put(SYNC_DEAD, *events(3))

    async with asyncio.TaskGroup() as group:
        redriving = group.create_task(usher("dead", "redrive", "--all", "--stop-on-failure", "--json"))
        await eventually(lambda: _at_least(depth(amqp_url, SYNC), 1))
        await put(SYNC_DEAD, user_event(event_id="msg_other"))

    done = await redriving
    assert (done.code, done.json["redriven"], done.json["failed_again"]) == (0, 3, [])
    assert ids(await drain(amqp_url, SYNC_DEAD)) == ["msg_other"]


@pytest.mark.parametrize("verb", ["redrive", "discard"])
async def test_who_moved_what_is_written_down_before_and_after(
    usher: Usher, put: Put, amqp_url: str, logged: list[Any], verb: str
) -> None:
    await put(SYNC_DEAD, *events(2))

    await usher("dead", verb, "--user", "user_1", *(["--yes"] if verb == "discard" else []))

    begun, ended = [one.json for one in await read_log(amqp_url, count=2)]
    assert begun["type"] == ended["type"] == "operator.acted"
    assert (begun["data"]["verb"], begun["data"]["phase"], ended["data"]["phase"]) == (f"dead {verb}", "begun", "ended")
    assert begun["data"]["asked"]["user_id"] == "user_1"
    assert "@" in begun["data"]["by"]
    assert ended["data"]["event_ids"] == ["msg_1"]
    assert next(iter(ended["data"]["outcome"].values())) == 1
    assert [line["phase"] for line in logged if line["event"] == "operator_acted"] == ["begun", "ended"]


async def test_what_cannot_be_written_down_is_not_done(usher: Usher, put: Put, amqp_url: str) -> None:
    await put(SYNC_DEAD, *events(2))
    async with await aio_pika.connect(amqp_url) as connection:
        await (await connection.channel()).queue_delete("usher.log")

    done = await usher("dead", "redrive", "--all")

    assert done.code == 1
    assert "usher topology" in done.err
    assert await depth(amqp_url, SYNC_DEAD) == 2


async def test_the_rate_is_kept(usher: Usher, put: Put) -> None:
    await put(SYNC_DEAD, *events(6))
    clock = asyncio.get_running_loop()
    begun = clock.time()

    await usher("dead", "redrive", "--all", "--rate", "10")

    assert clock.time() - begun >= 0.5


@pytest.mark.parametrize("verb", ["redrive", "discard"])
async def test_nothing_is_touched_where_nothing_is_chosen(usher: Usher, put: Put, amqp_url: str, verb: str) -> None:
    await put(SYNC_DEAD, *events(2))

    done = await usher("dead", verb)

    assert done.code == 2
    assert "--all" in done.err
    assert await depth(amqp_url, SYNC_DEAD) == 2


async def test_a_letter_whose_queue_is_gone_stays_and_is_named(usher: Usher, put: Put, amqp_url: str) -> None:
    await put(SYNC_DEAD, *events(2))
    async with await aio_pika.connect(amqp_url) as connection:
        await (await connection.channel()).queue_delete(SYNC)

    done = await usher("dead", "redrive", "--all", "--json")

    assert done.code == 1
    assert [stuck["event_id"] for stuck in done.json["stuck"]] == ["msg_0", "msg_1"]
    assert "no queue usher.sync_user" in done.json["stuck"][0]["why"]
    assert ids(await drain(amqp_url, SYNC_DEAD)) == ["msg_0", "msg_1"]


@pytest.mark.usefixtures("put")
async def test_what_the_broker_itself_gave_up_is_explained_and_sent_back(usher: Usher, amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.default_exchange.publish(event_message(user_event(event_id="msg_x")), SYNC)
        queue = await channel.get_queue(SYNC, ensure=False)

        async def reject(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            await message.reject(requeue=True)

        await queue.consume(reject)
        await eventually(lambda: _is(depth(amqp_url, SYNC_DEAD), 1))

    shown = (await usher("dead", "show", "msg_x", "--json")).json
    done = await usher("dead", "redrive", "--reason", "delivery_limit")

    assert (shown["reason"], shown["failed_in"]) == ("delivery_limit", SYNC)
    assert shown["first_failed_at"]
    assert done.code == 0, done.err
    (sent,) = await drain(amqp_url, SYNC)
    assert not [name for name in sent.headers if name.startswith("x-") and name != "x-delivery-count"]
    assert sent.headers["first_failed_at"] == shown["first_failed_at"]


async def test_unrouted_events_are_published_again(usher: Usher, put: Put, amqp_url: str) -> None:
    await put(UNROUTED, user_event("user.created", event_id="msg_x"))

    done = await usher("dead", "redrive", "--queue", "unrouted")

    assert done.code == 0, done.err
    assert ids(await drain(amqp_url, SYNC)) == ids(await drain(amqp_url, PROVISION)) == ["msg_x"]
    assert await depth(amqp_url, UNROUTED) == 0


@pytest.mark.usefixtures("put")
async def test_an_event_that_no_queue_takes_stays_unrouted(usher: Usher, amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange("usher.events", ensure=False)
        await exchange.publish(aio_pika.Message(b"{}", type="user.waved", message_id="msg_x"), "user.waved")

    done = await usher("dead", "redrive", "--all", "--json")

    assert done.code == 1
    assert done.json["stuck"][0]["why"] == "no queue takes events of type user.waved"
    assert await depth(amqp_url, UNROUTED) == 1


async def test_webhooks_that_could_not_be_read_are_not_sent_back_and_it_says_why(
    usher: Usher, put: Put, amqp_url: str
) -> None:
    await put(INGRESS_DEAD_QUEUE, user_event())

    named = await usher("dead", "redrive", "--queue", "ingress")
    swept = await usher("dead", "redrive", "--all")

    assert named.code == 2
    assert "no event in them" in " ".join(named.err.replace("│", " ").split())
    assert swept.code == 0
    assert "1 webhook stayed" in swept.err
    assert "no event in them" in swept.err
    assert await depth(amqp_url, INGRESS_DEAD_QUEUE) == 1


@pytest.mark.usefixtures("put")
async def test_a_letter_that_is_no_event_is_not_given_its_queue_as_a_type(usher: Usher, amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.default_exchange.publish(aio_pika.Message(b"?", message_id="msg_x"), SYNC_DEAD)

    (line, _) = (await usher("dead", "ls", "--each")).out.splitlines()

    assert line.split("  ")[-2:] == ["no event", "msg_x"]


@pytest.mark.usefixtures("put")
async def test_letters_without_an_id_have_one_made_up_that_stays_and_can_be_used(
    usher: Usher, rabbit: RabbitNode, amqp_url: str
) -> None:
    for kind, body in (("user.waved", "{}"), ("user.waved", "[]"), ("user.nodded", "{}")):
        # As the management UI publishes: our client's library gives an id to every message that has none.
        message = {"routing_key": kind, "properties": {}, "payload": body, "payload_encoding": "string"}
        vhost = URL(amqp_url).path.removeprefix("/")
        await asyncio.to_thread(management, rabbit, "POST", f"exchanges/{vhost}/usher.events/publish", message)

    first, again = await usher("dead", "ls", "--json"), await usher("dead", "ls", "--each")
    made_up = [letter["id"] for letter in first.json["letters"]]
    shown = await usher("dead", "show", made_up[1], "--json")
    stuck = await usher("dead", "redrive", "--id", made_up[1], "--json")
    gone = await usher("dead", "discard", "--id", made_up[1], "--yes")

    assert len(set(made_up)) == 3
    assert all(each.startswith("letter_") for each in made_up)
    assert first.json["groups"][0]["example"] == made_up[0]
    assert [line.split("  ")[-1] for line in again.out.splitlines()[:3]] == made_up
    assert (shown.json["body"], shown.json["event_id"]) == ("[]", None)
    assert [each["id"] for each in stuck.json["stuck"]] == [made_up[1]]
    assert gone.code == 0, gone.err
    assert [one.body for one in await drain(amqp_url, UNROUTED)] == [b"{}", b"{}"]


@pytest.mark.usefixtures("put")
@pytest.mark.parametrize("broken", [b"\xff\xfe not text", b"[1, 2]", b""])
async def test_a_body_that_is_no_event_is_listed_shown_and_discarded(
    usher: Usher, amqp_url: str, tmp_path: Path, broken: bytes
) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        headers: dict[str, Any] = {"reason": "undecodable", "error": "DecodeError: not JSON", "queue": SYNC}
        message = aio_pika.Message(broken, message_id="msg_x", headers=headers)
        await channel.default_exchange.publish(message, SYNC_DEAD)

    listed = await usher("dead", "ls", "--json")
    shown = await usher("dead", "show", "msg_x", "--body")
    gone = await usher("dead", "discard", "--id", "msg_x", "--yes", "--export", str(tmp_path / "kept.jsonl"))

    assert listed.json["letters"][0]["user_id"] is None
    assert shown.code == gone.code == 0
    assert json.loads((tmp_path / "kept.jsonl").read_text())["event_id"] == "msg_x"
    assert await depth(amqp_url, SYNC_DEAD) == 0


@pytest.mark.usefixtures("put")
async def test_half_of_a_character_pair_in_a_letter_keeps_nobody_from_listing_showing_and_discarding(
    usher: Usher, rabbit: RabbitNode, amqp_url: str, tmp_path: Path
) -> None:
    body = '{"id": "msg_\\ud800", "type": "user.\\ud800", "data": {"id": "user_\\ud800"}}'
    message = {"routing_key": INGRESS_DEAD_QUEUE, "properties": {}, "payload": body, "payload_encoding": "string"}
    vhost = URL(amqp_url).path.removeprefix("/")
    await asyncio.to_thread(management, rabbit, "POST", f"exchanges/{vhost}/amq.default/publish", message)

    listed, each = await usher("dead", "ls", "--json"), await usher("dead", "ls", "--each")
    name = listed.json["letters"][0]["id"]
    shown = await usher("dead", "show", name, "--body")
    gone = await usher("dead", "discard", "--id", name, "--yes", "--export", str(tmp_path / "kept.jsonl"))

    assert (name, listed.json["letters"][0]["user_id"]) == ("msg_\\ud800", "user_\\ud800")
    assert all(said.out.encode() for said in (listed, each, shown))
    assert (shown.code, gone.code) == (0, 0)
    assert json.loads((tmp_path / "kept.jsonl").read_text())["body"] == body
    assert await depth(amqp_url, INGRESS_DEAD_QUEUE) == 0


async def test_discarding_asks_and_no_means_no(usher: Usher, put: Put, amqp_url: str, tmp_path: Path) -> None:
    await put(SYNC_DEAD, *events(2))

    done = await usher("dead", "discard", "--queue", "sync_user", stdin="n\n")

    assert done.code == 1
    assert await depth(amqp_url, SYNC_DEAD) == 2
    assert _files(tmp_path) == []


async def test_discarded_letters_are_kept_in_a_private_file(
    usher: Usher, put: Put, amqp_url: str, tmp_path: Path
) -> None:
    await put(SYNC_DEAD, *events(3))

    done = await usher("dead", "discard", "--queue", "sync_user", "--limit", "2", stdin="y\n")

    assert done.code == 0, done.err
    (file,) = _files(tmp_path)
    kept = [json.loads(line) for line in file.read_text().splitlines()]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [one["event_id"] for one in kept] == ["msg_0", "msg_1"]
    assert json.loads(kept[0]["body"])["subject"] == "user_0"
    assert ids(await drain(amqp_url, SYNC_DEAD)) == ["msg_2"]


async def test_an_export_that_cannot_be_written_discards_nothing(
    usher: Usher, put: Put, amqp_url: str, tmp_path: Path
) -> None:
    await put(SYNC_DEAD, *events(1))
    (tmp_path / "there").write_text("precious")

    done = await usher("dead", "discard", "--all", "--yes", "--export", str(tmp_path / "there"))

    assert done.code == 1
    assert "nothing was discarded" in done.err
    assert (tmp_path / "there").read_text() == "precious"
    assert await depth(amqp_url, SYNC_DEAD) == 1


@pytest.mark.usefixtures("put")
async def test_a_queue_that_is_none_is_misuse(usher: Usher) -> None:
    done = await usher("dead", "ls", "--queue", "users")

    assert done.code == 2
    assert SYNC_DEAD in done.err


async def test_a_reader_that_holds_letters_is_told_of(usher: Usher, put: Put, amqp_url: str) -> None:
    await put(SYNC_DEAD, *events(3))
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue(SYNC_DEAD, ensure=False)
        held = await queue.get()

        done = await usher("dead", "ls", "--json")

        assert held is not None
        assert done.json["total"] == 2


async def test_killed_in_the_middle_nothing_is_lost(put: Put, amqp_url: str) -> None:
    await put(SYNC_DEAD, *events(300))
    program = "from cli.main import main;main(['dead', 'redrive', '--all', '--rate', '50'])"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=ROOT, env=os.environ | {"AMQP_URL": amqp_url, "PYTHONPATH": str(ROOT)}
    )
    await eventually(lambda: _at_least(depth(amqp_url, SYNC), 20), timeout_s=60)

    process.send_signal(signal.SIGKILL)
    await process.wait()

    # The broker gives the dead reader's letters back when it notices that the connection is gone.
    await eventually(lambda: _at_least(_total(amqp_url), 300), timeout_s=60)
    back, dead = await drain(amqp_url, SYNC), await drain(amqp_url, SYNC_DEAD)
    assert 0 < len(back) < 300
    assert set(ids(back)) | set(ids(dead)) == {f"msg_{number}" for number in range(300)}


async def test_stopped_with_ctrl_c_it_says_how_far_it_came_and_nothing_is_lost(put: Put, amqp_url: str) -> None:
    await put(SYNC_DEAD, *events(300))
    program = "from cli.main import main;main(['dead', 'redrive', '--all', '--rate', '30', '--json'])"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        cwd=ROOT,
        env=os.environ | {"AMQP_URL": amqp_url, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await eventually(lambda: _at_least(depth(amqp_url, SYNC), 20), timeout_s=60)

    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()

    assert process.returncode == 130
    assert b"Traceback" not in err
    said = json.loads(out)
    back, dead = await drain(amqp_url, SYNC), await drain(amqp_url, SYNC_DEAD)
    # What the broker has is counted once its confirm is here: the one may be ahead of the other.
    assert said["redriven"] <= len(back) < 300
    assert set(ids(back)) | set(ids(dead)) == {f"msg_{number}" for number in range(300)}


@asynccontextmanager
async def failing(amqp_url: str) -> AsyncIterator[list[str | None]]:
    """A consumer that gives up whatever comes, as a permanent error does."""
    failed: list[str | None] = []
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()

        async def give_up(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            failed.append(message.message_id)
            headers = {name: value for name, value in message.headers.items() if not name.startswith("x-")}
            copy = aio_pika.Message(message.body, message_id=message.message_id, headers=headers | {"reason": "bug"})
            await channel.default_exchange.publish(copy, SYNC_DEAD)
            await message.ack()

        await (await channel.get_queue(SYNC, ensure=False)).consume(give_up)
        yield failed


async def _is(figure: Awaitable[int], wanted: int) -> bool:
    return await figure == wanted


async def _at_least(figure: Awaitable[int], wanted: int) -> bool:
    return await figure >= wanted


async def _total(amqp_url: str) -> int:
    return await depth(amqp_url, SYNC) + await depth(amqp_url, SYNC_DEAD)


def _files(folder: Path) -> list[Path]:
    return list(folder.iterdir())
