"""The address of a user's database at Xata, from what its credentials say."""

from __future__ import annotations

import pytest

from consumer.providers.xata.bodies import Login
from consumer.providers.xata.login import connection_url, host_of

WHOLE = Login(
    "xata", "p@ss/word", "b.us-east-1.xata.tech", 5432, "xata", "postgresql://xata:p%40ss%2Fword@b.us-east-1.xata.tech/xata"
)  # fmt: skip


def test_tls_is_demanded() -> None:
    assert connection_url(WHOLE, None) == f"{WHOLE.connection_string}?sslmode=require"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_on_loopback_tls_is_not(host: str) -> None:
    login = Login("xata", "p", None, None, None, f"postgresql://xata:p@{host}:5432/xata")

    assert connection_url(login, None) == login.connection_string


def test_what_xata_says_about_tls_stays_and_so_does_the_rest() -> None:
    given = "postgresql://xata:p@h/xata?sslmode=verify-full&application_name=x"

    assert connection_url(Login("xata", "p", None, None, None, given), None) == given


def test_without_an_address_it_is_put_together() -> None:
    older = Login("xata", "p@ss/word", None, None, None, None)

    assert connection_url(older, "b.us-east-1.xata.tech") == (
        "postgresql://xata:p%40ss%2Fword@b.us-east-1.xata.tech:5432/xata?sslmode=require"
    )


@pytest.mark.parametrize(
    ("api_url", "host"),
    [
        ("https://api.xata.tech", "b.us-east-1.xata.tech"),
        ("https://api.staging.example.org:8443/", "b.us-east-1.staging.example.org"),
        ("http://127.0.0.1:4000", None),
    ],
)
def test_the_host_of_a_branch_is_its_regions_gateway(api_url: str, host: str | None) -> None:
    assert host_of("b", "us-east-1", api_url) == host
