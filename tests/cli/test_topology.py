import aio_pika
import pytest

from shared.topology import LOG_QUEUE, topology
from tests.cli.conftest import Usher
from tests.support.broker import depth


async def test_it_declares_everything_and_a_second_time_changes_nothing(
    usher: Usher, bare_vhost_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMQP_URL", bare_vhost_url)

    first = await usher("topology")
    second = await usher("topology")

    assert (first.code, second.code) == (0, 0), first.err + second.err
    for queue in topology().queues:
        assert await depth(bare_vhost_url, queue.name) == 0
        assert queue.name in first.out


async def test_the_check_fails_on_a_bare_broker_and_creates_nothing(
    usher: Usher, bare_vhost_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMQP_URL", bare_vhost_url)

    checked = await usher("topology", "--check")
    again = await usher("topology", "--check")

    assert checked.code == again.code == 1
    assert "usher.unrouted is missing" in checked.err
    assert checked.err == again.err


async def test_the_check_passes_where_everything_is_there(
    usher: Usher, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMQP_URL", amqp_url)

    checked = await usher("topology", "--check", "--json")

    assert checked.code == 0, checked.err
    assert LOG_QUEUE in {queue["name"] for queue in checked.json["queues"]}


@pytest.mark.parametrize("arguments", [("topology",), ("topology", "--check")])
async def test_a_queue_with_other_arguments_is_named_with_the_argument(
    usher: Usher, amqp_url: str, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("AMQP_URL", amqp_url)
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.queue_delete("usher.sync_user.retry.5s")
        await channel.declare_queue("usher.sync_user.retry.5s", durable=True, arguments={"x-message-ttl": 1})

    done = await usher(*arguments)

    assert done.code == 1
    assert "usher.sync_user.retry.5s" in done.err
    assert "x-" in done.err


async def test_the_dry_run_needs_no_broker(usher: Usher) -> None:
    done = await usher("topology", "--dry-run")

    assert done.code == 0
    assert "usher.provision_database.retry.2h" in done.out


async def test_without_an_address_it_says_what_to_set(usher: Usher) -> None:
    done = await usher("topology")

    assert done.code == 2
    assert (
        done.err == "usher: AMQP_URL: is not set, and no .usher/env is here or above: run `usher up`, or set AMQP_URL\n"
    )


async def test_a_broker_that_is_not_there_is_one_sentence(usher: Usher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_URL", "amqp://somebody:secret-word@127.0.0.1:1/")

    done = await usher("topology")

    assert done.code == 1
    assert done.err.startswith("usher: RabbitMQ does not answer at 127.0.0.1:1")
    assert done.err.count("\n") == 1
    assert "secret-word" not in done.err


@pytest.mark.parametrize(("user", "vhost"), [("wrong", "right"), ("right", "wrong")])
async def test_a_wrong_login_or_vhost_is_one_sentence_without_the_password(
    usher: Usher, bare_vhost_url: str, monkeypatch: pytest.MonkeyPatch, user: str, vhost: str
) -> None:
    url = bare_vhost_url.replace("usher:", "nobody:") if user == "wrong" else bare_vhost_url
    monkeypatch.setenv("AMQP_URL", url + "-missing" if vhost == "wrong" else url)

    done = await usher("topology")

    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "test-password" not in done.err


async def test_the_second_of_two_addresses_serves_when_the_first_is_down(
    usher: Usher, bare_vhost_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMQP_URL", f"amqp://a:b@127.0.0.1:1/,{bare_vhost_url}")

    assert (await usher("topology")).code == 0
