import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aio_pika
import asyncpg
import psutil
import pytest
from aiohttp import web

from local.env import write_env
from local.ledger import Deaths, Entry, Ledger
from shared.messages import event_message
from tests.cli.conftest import Usher
from tests.support.broker import depth
from tests.support.events import MOMENT, publish, user_event

ROOT = Path(__file__).parents[2]
NOWHERE = "amqp://a:secret-word@127.0.0.1:1/"


@pytest.fixture
def both(amqp_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    monkeypatch.setenv("AMQP_URL", amqp_url)
    monkeypatch.setenv("DATABASE_URL", database_url)
    return amqp_url, database_url


@dataclass
class Health:
    url: str
    status: int = 200


@pytest.fixture
async def health() -> AsyncIterator[Health]:
    state = Health("")

    async def readyz(_request: web.Request) -> web.Response:
        checks = {"broker": "ok" if state.status == 200 else "no connection"}
        down = {"postgres": {"up": False, "since": "2026-11-20T12:00:00+00:00", "reason": "away"}}
        said = {"status": "?", "checks": checks, "levels": {"process": True}, "dependencies": down}
        return web.json_response(said, status=state.status)

    app = web.Application()
    app.router.add_get("/readyz", readyz)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    state.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield state
    await runner.cleanup()


@pytest.mark.usefixtures("both")
async def test_an_idle_system_is_well(usher: Usher) -> None:
    done, plain = await usher("status", "--json"), await usher("status")

    assert done.code == plain.code == 0, done.out
    assert done.json["ok"] is True
    assert {work["effect"]: work["waiting"] for work in done.json["broker"]["work"]} == {
        "sync_user": 0,
        "provision_database": 0,
    }
    assert "sync_user" in plain.out
    assert "everything that is known of is up" in plain.out


async def test_waiting_retrying_and_dead_messages_are_counted_and_none_is_touched(
    usher: Usher, both: tuple[str, str]
) -> None:
    amqp_url, _ = both
    await publish(amqp_url, *(user_event("user.updated", event_id=f"msg_{number}") for number in range(3)))
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        for queue in ("usher.sync_user.retry.2h", "usher.sync_user.dead"):
            message = event_message(user_event())
            message.headers.update({"reason": "permanent", "first_failed_at": "2026-11-20T12:00:00.000Z"})
            await channel.default_exchange.publish(message, queue)

    work = (await usher("status", "--json")).json["broker"]["work"][0]

    assert (work["waiting"], work["dead"], work["consumers"]) == (3, 1, 0)
    assert work["retrying"] == {"5s": 0, "30s": 0, "5m": 0, "30m": 0, "2h": 1}
    assert work["oldest_dead"] == "2026-11-20T12:00:00.000Z"
    async with await aio_pika.connect(amqp_url) as connection:
        work_queue = await (await connection.channel()).get_queue("usher.sync_user", ensure=False)
        first = await work_queue.get()
        assert first is not None
        assert not first.redelivered
        assert first.message_id == "msg_0"
        await first.ack()


@pytest.mark.parametrize("queue", ["usher.provision_database.dead", "usher.unrouted", "usher.ingress.dead"])
async def test_what_was_given_up_is_told_and_has_an_exit_code_of_its_own_for_who_asks_for_it(
    usher: Usher, both: tuple[str, str], queue: str
) -> None:
    empty = await usher("status", "--strict", "--json")
    async with await aio_pika.connect(both[0]) as connection:
        channel = await connection.channel()
        await channel.default_exchange.publish(event_message(user_event()), queue)

    strict, plain = await usher("status", "--strict", "--json"), await usher("status")

    assert (empty.code, empty.json["given_up"]) == (0, {})
    assert (strict.code, strict.json["ok"], strict.json["given_up"]) == (3, True, {queue: 1})
    assert plain.code == 0
    assert f"1 in {queue}; look with `usher dead ls`" in plain.out


async def test_what_is_down_comes_before_what_was_given_up(
    usher: Usher, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMQP_URL", amqp_url)
    monkeypatch.setenv("DATABASE_URL", "postgresql://a:secret-word@127.0.0.1:1/x")
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.default_exchange.publish(event_message(user_event()), "usher.sync_user.dead")

    assert (await usher("status", "--strict")).code == 1


async def test_the_oldest_waiting_event_is_told_from_the_log(usher: Usher, both: tuple[str, str]) -> None:
    amqp_url, _ = both
    await publish(amqp_url, *(user_event("user.created", event_id=f"msg_{number}") for number in range(5)))
    async with await aio_pika.connect(amqp_url) as connection:
        queue = await (await connection.channel()).get_queue("usher.sync_user", ensure=False)
        for _ in range(4):
            done = await queue.get()
            assert done is not None
            await done.ack()

    work = (await usher("status", "--json")).json["broker"]["work"]

    assert [each["waiting"] for each in work] == [1, 5]
    assert work[0]["oldest_waiting"] == MOMENT.isoformat()


async def test_users_guards_and_databases_are_counted(usher: Usher, both: tuple[str, str]) -> None:
    connection = await asyncpg.connect(both[1])
    await connection.execute(
        """
        insert into users (user_id, username, created_at, updated_at) values ('user_1', 'ada', now(), now());
        insert into user_guards (user_id, deleted, version, event_id, event_time)
            values ('user_1', false, 1, 'msg_1', now()), ('user_2', true, 0, 'msg_2', now());
        insert into databases (user_id, provider, name, state, event_id, ready_at, requested_at)
            values ('user_1', 'postgres', 'one', 'ready', 'msg_1', now(), now()),
                   ('user_3', 'postgres', 'three', 'creating', 'msg_3', null, '2026-11-20T12:00:00Z'),
                   ('user_4', 'postgres', 'four', 'requested', 'msg_4', null, now());
        """
    )
    await connection.close()

    tables = (await usher("status", "--json")).json["tables"]

    assert (tables["users"], tables["guards"], tables["tombstones"]) == (1, 2, 1)
    assert tables["databases"] == {"ready": 1, "creating": 1, "requested": 1}
    assert tables["oldest_unfinished"]["user_id"] == "user_3"
    assert tables["oldest_unfinished"]["requested_at"] == "2026-11-20T12:00:00+00:00"


async def test_processes_that_are_ready_are_said_so(
    usher: Usher, both: tuple[str, str], health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INGRESS_INTERNAL_URL", health.url)
    monkeypatch.setenv("SYNC_USER_INTERNAL_URL", f"{health.url},{health.url}")
    monkeypatch.setenv("MANAGEMENT_URL", "http://usher:secret-word@127.0.0.1:15672")

    done = await usher("status", "--json")

    assert done.code == 0, both
    names = [address["name"] for address in done.json["addresses"]]
    assert names == ["management UI", "ingress", "sync_user", "sync_user", "RabbitMQ", "Postgres"]
    assert "secret-word" not in done.out


@pytest.mark.parametrize(
    ("status", "said"), [(503, "ingress: not ready (broker: no connection)"), (None, "ingress: does not answer")]
)
async def test_a_process_that_is_down_or_not_ready_fails_and_is_named(
    usher: Usher, both: tuple[str, str], health: Health, monkeypatch: pytest.MonkeyPatch, status: int | None, said: str
) -> None:
    health.status = status or 200
    monkeypatch.setenv("INGRESS_INTERNAL_URL", health.url if status else "http://127.0.0.1:1")

    done = await usher("status", "--json")

    assert done.code == 1, both
    assert done.json["troubles"][0].startswith(said)
    told = done.json["addresses"][0]
    assert told["levels"] == ({"process": True} if status else {})
    assert [found["reason"] for found in told["dependencies"].values()] == (["away"] if status else [])


async def test_without_a_broker_the_tables_are_still_shown(
    usher: Usher, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMQP_URL", NOWHERE)
    monkeypatch.setenv("DATABASE_URL", database_url)

    done, plain = await usher("status", "--json"), await usher("status")

    assert done.code == plain.code == 1
    assert done.json["tables"]["users"] == 0
    assert "RabbitMQ does not answer at 127.0.0.1:1" in plain.out
    assert "secret-word" not in done.out + plain.out


async def test_without_postgres_the_queues_are_still_shown(
    usher: Usher, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMQP_URL", amqp_url)
    monkeypatch.setenv("DATABASE_URL", "postgresql://a:secret-word@127.0.0.1:1/x")

    done, plain = await usher("status", "--json"), await usher("status")

    assert done.code == plain.code == 1
    assert done.json["broker"]["work"][0]["waiting"] == 0
    assert "Postgres does not answer at 127.0.0.1:1" in plain.out
    assert "secret-word" not in done.out + plain.out


async def test_missing_queues_and_migrations_are_named_with_what_to_do(
    usher: Usher, database_url: str, bare_vhost_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMQP_URL", bare_vhost_url)
    monkeypatch.setenv("DATABASE_URL", database_url)
    connection = await asyncpg.connect(database_url)
    await connection.execute("drop schema public cascade; create schema public")
    await connection.close()

    done = await usher("status", "--json")

    assert done.code == 1
    assert "queue usher.sync_user is missing: run `usher topology`" in done.json["troubles"]
    assert "the database is at version 0000: run `usher migrate`" in done.json["troubles"]


async def test_where_nothing_is_known_it_says_what_to_set(usher: Usher) -> None:
    done = await usher("status")

    assert done.code == 2
    assert done.err.startswith("usher: AMQP_URL: is not set")


async def test_watching_goes_on_until_ctrl_c(both: tuple[str, str]) -> None:
    program = "from cli.main import main; main(['status', '--watch', '--json'])"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program),
        cwd=ROOT,
        env=os.environ | {"AMQP_URL": both[0], "DATABASE_URL": both[1]},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    lines: list[Any] = [await process.stdout.readline() for _ in range(2)]

    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()

    assert all(line.startswith(b"{") for line in lines)
    assert process.returncode == 130
    assert err == b""
    assert await depth(both[0], "usher.sync_user") == 0


async def test_what_died_under_the_usher_up_that_runs_the_system_is_counted_and_of_no_other(
    usher: Usher, tmp_path: Path, amqp_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / ".usher"
    home.mkdir()
    write_env(home, {"AMQP_URL": amqp_url, "DATABASE_URL": database_url})
    ledger = Ledger.begin(home)
    ledger.deaths["sync_user"] = Deaths(2, "was killed by SIGKILL", "2026-11-20T12:00:00+00:00")
    ledger.save()

    ours, plain = await usher("status", "--json"), await usher("status")
    monkeypatch.setenv("AMQP_URL", amqp_url + "-another")
    others = await usher("status", "--json")

    assert ours.code == 0
    assert ours.json["deaths"]["sync_user"]["times"] == 2
    assert "died 2 times: sync_user" in plain.out
    assert others.json["deaths"] == {}


@pytest.mark.parametrize("left", [True, False])
async def test_an_usher_up_that_was_killed_is_down_and_it_says_what_goes_on_without_it(
    usher: Usher, tmp_path: Path, both: tuple[str, str], *, left: bool
) -> None:
    killed = await asyncio.create_subprocess_exec("sleep", "600")
    home = tmp_path / ".usher"
    home.mkdir()
    write_env(home, {"AMQP_URL": both[0], "DATABASE_URL": both[1]})
    ledger = Ledger(home, Entry.of("usher up", psutil.Process(killed.pid)), ready=True)
    ledger.record(*([Entry.of("sync_user", psutil.Process())] if left else []))

    before = await usher("status", "--json")
    killed.kill()
    await killed.wait()
    after, plain = await usher("status", "--json"), await usher("status")

    assert (before.code, before.json["troubles"]) == (0, [])
    assert after.code == plain.code == 1
    (trouble,) = after.json["troubles"]
    assert trouble.startswith("usher up: was killed")
    assert ("still running: sync_user)" in trouble, "nothing of it runs" in trouble) == (left, not left)
    assert "`usher up`" in trouble
    assert trouble in plain.out
