"""`usher replay` on a real broker: what the log holds comes to one effect's queue again, whatever breaks meanwhile."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import aio_pika
import pytest
from yarl import URL

from cli import connections, log_stream
from cli.replaying import Plan, Replay, Wanted
from local.rabbitmq import RabbitNode
from shared.events import UserEvent
from tests.cli.conftest import Usher
from tests.support.broker import Stored, depth, drain, read_log, running_node
from tests.support.events import publish, user_event
from tests.support.eventually import eventually
from tests.support.tcp_proxy import TcpProxy

ROOT = Path(__file__).parents[2]
SYNC, PROVISION = "usher.sync_user", "usher.provision_database"
EVERY = frozenset({"user.created", "user.updated", "user.deleted"})


def ids(stored: list[Stored]) -> list[str]:
    return [str(one.properties["message_id"]) for one in stored]


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    """A node of this file alone: what its kills leave behind troubles no other test."""
    with running_node(tmp_path_factory.mktemp("rabbitmq")) as node:
        yield node


async def emptied(amqp_url: str, *events: UserEvent) -> str:
    """The events in the log, and nowhere else any more."""
    await publish(amqp_url, *events)
    for queue in (SYNC, PROVISION):
        await drain(amqp_url, queue)
    return amqp_url


@pytest.fixture
async def log(amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Four events in the log, of two users and three types."""
    monkeypatch.setenv("AMQP_URL", amqp_url)
    return await emptied(
        amqp_url,
        user_event("user.created", "user_ada", event_id="msg_1"),
        user_event("user.created", "user_bob", event_id="msg_2"),
        user_event("user.updated", "user_ada", event_id="msg_3"),
        user_event("user.deleted", "user_bob", event_id="msg_4"),
    )


async def test_one_effect_gets_them_again_as_first_attempts_that_say_what_they_are(usher: Usher, log: str) -> None:
    done = await usher("replay", "--since", "2h", "--to", "sync_user", "--json")

    assert done.code == 0, done.err
    assert (done.json["planned"], done.json["replayed"]) == (4, 4)
    sent = await drain(log, SYNC)
    assert sorted(ids(sent)) == ["msg_1", "msg_2", "msg_3", "msg_4"]
    assert {one.headers["attempt"] for one in sent} == {1}
    assert all(one.headers["replayed_at"] for one in sent)
    assert {one.properties["delivery_mode"] for one in sent} == {2}
    assert await depth(log, PROVISION) == 0


@pytest.mark.parametrize(
    ("arguments", "replayed"),
    [
        (("--to", "provision_database"), ["msg_1", "msg_2", "msg_4"]),
        (("--to", "sync_user", "--type", "user.created"), ["msg_1", "msg_2"]),
        (("--to", "sync_user", "--user", "user_ada"), ["msg_1", "msg_3"]),
        (("--to", "sync_user", "--limit", "2"), ["msg_1", "msg_2"]),
        (("--to", "sync_user", "--since", "offset:2"), ["msg_3", "msg_4"]),
        (("--to", "sync_user", "--until", "offset:2"), ["msg_1", "msg_2"]),
    ],
)
async def test_only_what_is_asked_for_is_replayed(
    usher: Usher, log: str, arguments: tuple[str, ...], replayed: list[str]
) -> None:
    done = await usher("replay", "--since", "first", *arguments)

    assert done.code == 0, done.err
    assert sorted(ids(await drain(log, f"usher.{arguments[1]}"))) == replayed


async def test_a_dry_run_says_how_many_and_sends_nothing(usher: Usher, log: str) -> None:
    done = await usher("replay", "--since", "first", "--to", "sync_user", "--dry-run")

    assert done.code == 0, done.err
    assert done.out == "4 events to replay (2 user.created, 1 user.updated, 1 user.deleted).\n"
    assert await depth(log, SYNC) == 0


@pytest.mark.usefixtures("log")
async def test_what_was_not_there_then_is_nothing_to_replay(usher: Usher) -> None:
    before = await usher("replay", "--since", "first", "--until", "2h", "--to", "sync_user", "--json")
    later = await usher("replay", "--since", "now", "--to", "sync_user")

    assert before.json["planned"] in {0, 4}  # a moment before the first chunk is the first chunk
    assert (later.code, later.out) == (0, "0 events to replay.\n")


async def test_an_empty_log_is_nothing_to_replay(usher: Usher, amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_URL", amqp_url)

    done = await usher("replay", "--since", "first", "--to", "sync_user")

    assert (done.code, done.out) == (0, "0 events to replay.\n")


async def test_what_is_no_event_is_not_replayed(usher: Usher, log: str) -> None:
    async with await aio_pika.connect(log) as connection:
        exchange = await (await connection.channel()).get_exchange("usher.events", ensure=False)
        await exchange.publish(aio_pika.Message(b"?", type="user.created", message_id="msg_x"), "user.created")
    await drain(log, SYNC)

    done = await usher("replay", "--since", "first", "--to", "sync_user", "--json")

    assert done.json["replayed"] == 4
    assert "msg_x" not in ids(await drain(log, SYNC))


async def test_who_replayed_what_is_written_down_and_never_replayed(usher: Usher, log: str) -> None:
    for _ in range(2):
        assert (await usher("replay", "--since", "first", "--to", "sync_user", "--json")).json["replayed"] == 4

    records = [one.json for one in (await read_log(log, count=8))[4:]]
    assert [record["data"]["phase"] for record in records] == ["begun", "ended"] * 2
    assert records[0]["data"]["asked"]["to"] == "sync_user"
    assert sorted(records[1]["data"]["event_ids"]) == ["msg_1", "msg_2", "msg_3", "msg_4"]


async def test_it_asks_before_many_and_no_means_no(usher: Usher, log: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.replay.ASK_FROM", 4)

    no = await usher("replay", "--since", "first", "--to", "sync_user", stdin="n\n")
    assert (no.code, await depth(log, SYNC)) == (1, 0)
    yes = await usher("replay", "--since", "first", "--to", "sync_user", "--yes")
    assert (yes.code, await depth(log, SYNC)) == (0, 4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--since", "2h"), "--to"),
        (("--to", "sync_user"), "--since"),
        (("--since", "2h", "--to", "users"), "provision_database"),
        (("--since", "2h", "--to", "provision_database", "--type", "user.updated"), "user.deleted"),
        (("--since", "soon", "--to", "sync_user"), "how long ago"),
    ],
)
async def test_misuse_is_told(usher: Usher, arguments: tuple[str, ...], said: str) -> None:
    done = await usher("replay", *arguments)

    assert done.code == 2
    assert said in " ".join(done.err.replace("│", " ").split())


async def test_without_a_broker_it_is_one_sentence(usher: Usher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_URL", "amqp://a:b@127.0.0.1:1/")

    done = await usher("replay", "--since", "2h", "--to", "sync_user")

    assert done.code == 1
    assert done.err.startswith("usher: RabbitMQ does not answer at 127.0.0.1:1")
    assert done.err.count("\n") == 1


async def test_a_queue_that_is_gone_ends_it_with_advice(usher: Usher, log: str) -> None:
    async with await aio_pika.connect(log) as connection:
        await (await connection.channel()).queue_delete(SYNC)

    done = await usher("replay", "--since", "first", "--to", "sync_user")

    assert done.code == 1
    assert "there is no queue usher.sync_user: run `usher topology`" in done.err


async def test_the_rate_is_kept(log: str) -> None:
    clock = asyncio.get_running_loop()
    part = Plan(0, 4)
    begun = clock.time()

    await Replay(Wanted("sync_user", EVERY), part, rate=5).run([log])

    assert clock.time() - begun >= 0.6
    assert await depth(log, SYNC) == 4


async def test_a_connection_that_is_cut_again_and_again_passes_no_event_over(amqp_url: str) -> None:
    await emptied(amqp_url, *(user_event(event_id=f"msg_{number}") for number in range(300)))
    url = URL(amqp_url)
    async with TcpProxy("127.0.0.1", url.port or 0) as proxy:
        proxied = str(url.with_port(proxy.port))

        def each() -> None:
            if work.done in {50, 150, 151}:
                proxy.reset()

        work = Replay(Wanted("sync_user", EVERY), Plan(0, 300), rate=500, on_each=each)
        await work.run([proxied])

    sent = ids(await drain(amqp_url, SYNC))
    assert set(sent) == {f"msg_{number}" for number in range(300)}
    assert work.done == 300
    assert proxy.connections >= 3


async def test_a_broker_that_is_killed_and_started_again_passes_no_event_over(
    amqp_url: str, rabbit: RabbitNode
) -> None:
    await emptied(amqp_url, *(user_event(event_id=f"msg_{number}") for number in range(400)))
    troubles: list[Exception] = []
    work = Replay(Wanted("sync_user", EVERY), Plan(0, 400), rate=100, on_trouble=troubles.append)

    async with asyncio.TaskGroup() as group:
        group.create_task(work.run([amqp_url]))
        await eventually(lambda: work.done >= 20, timeout_s=60)
        await asyncio.to_thread(rabbit.kill)
        assert work.done < 400
        await asyncio.to_thread(rabbit.start)

    assert troubles
    assert work.done == 400
    assert set(ids(await drain(amqp_url, SYNC))) == {f"msg_{number}" for number in range(400)}


async def test_stopped_with_ctrl_c_it_says_where_to_go_on(amqp_url: str) -> None:
    await emptied(amqp_url, *(user_event(event_id=f"msg_{number}") for number in range(300)))
    stopped = await program(amqp_url, "--rate", "30")
    await eventually(lambda: _at_least(amqp_url, 20), timeout_s=60)

    stopped.send_signal(signal.SIGINT)
    out, err = await stopped.communicate()

    assert stopped.returncode == 130
    assert b"Traceback" not in err
    assert b"of 300 events replayed" in out
    (place,) = [line.split()[-1].decode() for line in err.splitlines() if b"--since offset:" in line]
    rest = await program(amqp_url, since=place)
    await rest.communicate()
    assert rest.returncode == 0
    assert set(ids(await drain(amqp_url, SYNC))) == {f"msg_{number}" for number in range(300)}


async def program(amqp_url: str, *arguments: str, since: str = "first") -> asyncio.subprocess.Process:
    verb = ["replay", "--since", since, "--to", "sync_user", *arguments]
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        f"from cli.main import main;main({verb!r})",
        cwd=ROOT,
        env=os.environ | {"AMQP_URL": amqp_url, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def _at_least(amqp_url: str, wanted: int) -> bool:
    return await depth(amqp_url, SYNC) >= wanted


async def test_a_log_that_is_written_to_all_the_time_has_an_end(amqp_url: str) -> None:
    await publish(amqp_url, user_event())
    writing = asyncio.create_task(_write_for_ever(amqp_url))
    try:
        async with connections.broker([amqp_url]) as connection:
            before = await log_stream.end(connection)
            read = [entry async for entry in log_stream.stored(connection, "first", before)]
    finally:
        writing.cancel()

    assert [entry.offset for entry in read] == list(range(before))


async def _write_for_ever(amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        exchange = await (await connection.channel()).get_exchange("usher.events", ensure=False)
        while True:
            await exchange.publish(aio_pika.Message(b"{}", type="user.created"), "user.created")
