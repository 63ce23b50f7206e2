import asyncio
import json

import aio_pika
import pytest
from yarl import URL

from cli.tail import Wanted, _follow
from tests.cli.conftest import Usher
from tests.support.broker import depth
from tests.support.events import publish, user_event
from tests.support.eventually import eventually
from tests.support.tcp_proxy import TcpProxy


@pytest.fixture
async def log(amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Three events in the log: created and deleted of one user, updated of another."""
    monkeypatch.setenv("AMQP_URL", amqp_url)
    await publish(
        amqp_url,
        user_event("user.created", "user_ada", event_id="msg_1", first_name="Secretia"),
        user_event("user.updated", "user_bob", event_id="msg_2"),
        user_event("user.deleted", "user_ada", event_id="msg_3"),
    )
    return amqp_url


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize("since", ["first", "10m"])
async def test_the_past_is_printed_in_order_with_ids_and_no_personal_data(usher: Usher, since: str) -> None:
    done = await usher("tail", "--since", since, "--limit", "3")

    assert done.code == 0, done.err
    assert [line.split()[1:] for line in done.out.splitlines()] == [
        ["user.created", "user_ada", "msg_1"],
        ["user.updated", "user_bob", "msg_2"],
        ["user.deleted", "user_ada", "msg_3"],
    ]
    assert done.out.startswith("2026-11-20T12:00:00Z")
    assert "Secretia" not in done.out


@pytest.mark.usefixtures("log")
async def test_json_is_the_whole_event(usher: Usher) -> None:
    done = await usher("tail", "--since", "first", "--limit", "1", "--json")

    assert done.json["data"]["first_name"] == "Secretia"
    assert done.json["specversion"] == "1.0"


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        (("--user", "user_ada", "--limit", "2"), ["msg_1", "msg_3"]),
        (("--type", "user.updated", "--limit", "1"), ["msg_2"]),
        (("--type", "user.updated", "--type", "user.deleted", "--limit", "2"), ["msg_2", "msg_3"]),
    ],
)
async def test_filters_narrow_it(usher: Usher, arguments: tuple[str, ...], ids: list[str]) -> None:
    done = await usher("tail", "--since", "first", "--json", *arguments)

    assert [event["id"] for event in done.lines] == ids


async def test_from_now_on_means_only_what_comes(usher: Usher, log: str) -> None:
    tailing = asyncio.create_task(usher("tail", "--limit", "1", "--json"))
    numbers = iter(range(100, 10_000))

    async def comes() -> bool:
        await publish(log, user_event(event_id=f"msg_{next(numbers)}"))
        return tailing.done()

    await eventually(comes, every_s=0.2)

    assert (await tailing).json["id"] not in {"msg_1", "msg_2", "msg_3"}


async def test_reading_takes_nothing_away(usher: Usher, log: str) -> None:
    for _ in range(2):
        assert len((await usher("tail", "--since", "first", "--limit", "3", "--json")).lines) == 3

    assert await depth(log, "usher.sync_user") == 3


async def test_after_a_lost_connection_it_goes_on_without_a_gap(log: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url, shown = URL(log), list[str | None]()
    async with TcpProxy("127.0.0.1", url.port or 0) as proxy:
        monkeypatch.setenv("AMQP_URL", str(url.with_port(proxy.port)))
        wanted = Wanted(frozenset(), None, limit=6)
        async with asyncio.TaskGroup() as group:
            group.create_task(_follow("first", wanted, lambda entry: shown.append(entry.message.message_id)))
            await eventually(lambda: len(shown) == 3)
            proxy.reset()
            await publish(log, *(user_event(event_id=f"msg_{number}") for number in (4, 5, 6)))

    assert shown == [f"msg_{number}" for number in range(1, 7)]
    assert proxy.connections == 2


async def test_a_body_that_is_no_event_does_not_end_it(usher: Usher, log: str) -> None:
    async with await aio_pika.connect(log) as connection:
        exchange = await (await connection.channel()).get_exchange("usher.events", ensure=False)
        await exchange.publish(aio_pika.Message(b"\xff", message_id="msg_x", type="user.created"), "user.created")

    lines = await usher("tail", "--since", "first", "--limit", "4")
    whole = await usher("tail", "--since", "first", "--limit", "4", "--json")

    assert lines.out.splitlines()[-1].split() == ["-", "user.created", "-", "msg_x"]
    assert json.loads(whole.out.splitlines()[-1]) == {"id": "msg_x", "undecodable": True}


@pytest.mark.parametrize("how", [(), ("--json",)])
async def test_half_of_a_character_pair_does_not_end_it(usher: Usher, log: str, how: tuple[str, ...]) -> None:
    async with await aio_pika.connect(log) as connection:
        exchange = await (await connection.channel()).get_exchange("usher.events")
        message = aio_pika.Message(b'{"subject": "user_\\ud800"}', type="user.created")
        await exchange.publish(message, "user.created")

    done = await usher("tail", "--since", "first", "--limit", "4", *how)

    assert done.code == 0
    assert b"user_\\ud800" in done.out.splitlines()[-1].encode()


async def test_a_since_that_is_no_duration_is_misuse(usher: Usher) -> None:
    done = await usher("tail", "--since", "yesterday")

    assert done.code == 2
    assert "10m" in done.err or "30m" in done.err


async def test_without_a_broker_it_is_one_sentence(usher: Usher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_URL", "amqp://a:b@127.0.0.1:1/")

    done = await usher("tail")

    assert done.code == 1
    assert done.err.count("\n") == 1


async def test_on_a_bare_broker_it_says_what_is_missing(
    usher: Usher, bare_vhost_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMQP_URL", bare_vhost_url)

    done = await usher("tail")

    assert done.code == 1
    assert "usher.log is missing" in done.err
