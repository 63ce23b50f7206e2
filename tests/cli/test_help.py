"""Every verb explains itself, with examples and exit codes."""

import pytest

from tests.cli.conftest import Usher

VERBS = [
    *("up", "down", "topology", "migrate", "send", "status", "tail", "ingress", "consumer", "lookup"),
    *("dead", "dead ls", "dead show", "dead redrive", "dead discard", "replay", "trace"),
    *(
        "databases",
        "databases ls",
        "databases show",
        "databases url",
        "databases cancel-deletion",
        "databases retry",
        "databases verify",
    ),
]


@pytest.mark.parametrize("verb", VERBS)
async def test_the_help_has_examples_and_exit_codes(usher: Usher, verb: str) -> None:
    done = await usher(*verb.split(), "--help")

    assert done.code == 0
    assert f"usher {verb}" in done.out
    assert "Examples" in done.out
    assert "Exit codes" in done.out


async def test_an_unknown_verb_is_misuse(usher: Usher) -> None:
    assert (await usher("frobnicate")).code == 2


@pytest.mark.parametrize("verb", ["tail", "dead ls", "dead redrive --all", "topology"])
async def test_a_broker_that_is_down_is_one_sentence(usher: Usher, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    monkeypatch.setenv("AMQP_URL", "amqp://a:secret-word@127.0.0.1:1/")

    done = await usher(*verb.split())

    assert done.code == 1
    assert done.err.startswith("usher: RabbitMQ does not answer at 127.0.0.1:1")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "verb"), [("AMQP_URL", "tail"), ("DATABASE_URL", "migrate"), ("INGRESS_URL", "send x")]
)
async def test_an_address_that_is_not_known_is_one_sentence(usher: Usher, name: str, verb: str) -> None:
    done = await usher(*verb.split())

    assert done.code == 2
    assert done.err == f"usher: {name}: is not set, and no .usher/env is here or above: run `usher up`, or set {name}\n"


async def test_a_malformed_address_is_named_without_its_value(usher: Usher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_URL", "http://a:secret-word@127.0.0.1/")

    done = await usher("dead", "ls")

    assert done.code == 2
    assert "AMQP_URL" in done.err
    assert "secret-word" not in done.err
