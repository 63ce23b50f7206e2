"""An address, taken apart."""

import pytest

from ingress.amqp.address import Address


def of(address: str) -> Address:
    return Address.of(address, heartbeat_s=10, name="usher ingress")


def test_everything_that_an_address_says_is_read() -> None:
    address = of("amqp://us%2Fer:p%40ss%3A@broker.example:5673/my%2Fhost?heartbeat=3&name=other")
    assert (address.host, address.port, address.vhost) == ("broker.example", 5673, "my/host")
    assert address.login() == "\0us/er\0p@ss:"
    assert (address.heartbeat_s, address.name, address.ssl_context()) == (3, "other", None)


@pytest.mark.parametrize("path", ["", "/", "/%2F"])
def test_no_vhost_and_a_slash_are_the_default_one(path: str) -> None:
    assert of(f"amqp://broker{path}").vhost == "/"


def test_what_it_does_not_say_has_defaults() -> None:
    address = of("amqp://broker")
    assert (address.port, address.login(), address.mechanism) == (5672, "\0guest\0guest", "PLAIN")
    assert (address.heartbeat_s, address.name) == (10, "usher ingress")
    assert of("amqps://broker").port == 5671


def test_a_login_by_certificate_sends_no_password() -> None:
    assert of("amqps://user:secret@broker/?auth=external").login() == ""


def test_certificates_are_checked_unless_told_otherwise() -> None:
    strict, lax = of("amqps://broker").ssl_context(), of("amqps://broker/?no_verify_ssl=1").ssl_context()
    assert strict is not None
    assert lax is not None
    assert (strict.check_hostname, lax.check_hostname) == (True, False)


def test_a_certificate_that_is_not_there_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match="No such file"):
        of("amqps://broker/?cafile=/nowhere/ca.pem").ssl_context()


def test_no_password_is_shown() -> None:
    assert "secret" not in repr(of("amqps://user:secret@broker/?cadata=secret"))
