"""Addresses are checked before anything connects, and a problem with one does not show it."""

import pytest

from shared.errors import SettingsError
from shared.settings import BrokerSettings, DatabaseSettings


@pytest.mark.parametrize(
    "address",
    [
        "amqp://usher:pass#word@localhost:5672/",
        "amqp://usher:pass/word@localhost:5672/",
        "amqp://usher:pass?word@localhost:5672/",
        "amqp://usher:password@localhost:port/",
        "amqp://usher:password@localhost:70000/",
        "amqp://usher:password@[::1/",
        "amqp://",
        "amqp://usher:password@one:5672,amqp://usher:password@two:port",
        "amqp://usher:pass,word@localhost:5672/",
        "amqp://usher:pass\\word@localhost:5672/",
        "amqp://usher:password@one..two:5672/",
    ],
)
def test_a_brokers_address_that_cannot_be_read_is_a_problem_that_does_not_show_it(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("AMQP_URL", address)
    with pytest.raises(SettingsError, match=r"^AMQP_URL: .*%23") as raised:
        BrokerSettings.read()
    assert "pass" not in str(raised.value).replace("user:password@host", "").replace("user and password", "")


@pytest.mark.parametrize(
    "address",
    [
        "amqp://localhost",
        "amqp://usher:pass%23%2F%40word@localhost:5672/%2F",
        "amqp://usher:password@[::1]:5672/vhost",
        "amqps://usher:password@one:5671/vhost?no_verify_ssl=1, amqps://usher:password@two/vhost",
    ],
)
def test_a_brokers_address_in_any_of_its_forms_is_taken(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("AMQP_URL", address)
    assert BrokerSettings.read().amqp_addresses() == [part.strip() for part in address.split(",")]


@pytest.mark.parametrize("vhost", ["v" * 127, "%2F" * 127, "é" * 127])
def test_a_vhost_may_be_as_long_as_the_protocol_lets_it(monkeypatch: pytest.MonkeyPatch, vhost: str) -> None:
    monkeypatch.setenv("AMQP_URL", f"amqp://usher:password@localhost:5672/{vhost}")
    BrokerSettings.read()


@pytest.mark.parametrize(("vhost", "count"), [("v" * 128, 128), ("%C3%A9" * 128, 128), ("界" * 86, 86)])
def test_a_vhost_that_is_too_long_for_the_protocol_is_refused(
    monkeypatch: pytest.MonkeyPatch, vhost: str, count: int
) -> None:
    monkeypatch.setenv("AMQP_URL", f"amqp://usher:password@localhost:5672/{vhost}")
    with pytest.raises(SettingsError, match=rf"^AMQP_URL: its vhost.* has {count} characters") as raised:
        BrokerSettings.read()
    assert "password" not in str(raised.value)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://usher:pass#word@localhost:5432/usher",
        "postgresql://usher:pass/word@localhost:5432/usher",
        "postgresql://usher:password@localhost:port/usher",
        "postgresql://usher:password@localhost:70000/usher",
        "postgresql://usher:password@[::1/usher",
        "postgresql://usher:password@one:5432,two:port/usher",
    ],
)
def test_a_databases_address_that_cannot_be_read_is_a_problem_that_does_not_show_it(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", address)
    with pytest.raises(SettingsError, match=r"^DATABASE_URL: .*%23") as raised:
        DatabaseSettings.read()
    assert "pass" not in str(raised.value).replace("user and password", "")


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://usher:pass%23%2F%40word@localhost:5432/usher?sslmode=require",
        "postgres:///usher?host=/run/postgresql",
        "postgresql://usher:password@one:5432,two:5433,three/usher?target_session_attrs=read-write",
        "postgresql://usher@[::1]:5432/usher",
    ],
)
def test_a_databases_address_in_any_of_its_forms_is_taken(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("DATABASE_URL", address)
    assert DatabaseSettings.read().database_url.get_secret_value() == address
