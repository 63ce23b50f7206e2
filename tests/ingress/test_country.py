"""Address → country, offline; whatever is no public address has none."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.country import country_lookup
from shared.errors import SettingsError
from tests.ingress.mmdb import write_country_database

NO_ADDRESSES = [
    "",
    " ",
    "0.0.0.0",  # noqa: S104 - what Clerk sends when it knows no address
    "10.0.0.7",
    "192.168.1.1",
    "127.0.0.1",
    "169.254.1.1",
    "::1",
    "fe80::1%eth0",
    "2001:4860:4860::8888%eth0",
    "[2001:4860:4860::8888]",
    "8.8.8.8:443",
    "8.8.8.8, 10.0.0.7",
    "8.8.8",
    "example.org",
    "8.8.8.8\x00",
    "9" * 10_000,
]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return write_country_database(
        tmp_path / "countries.mmdb",
        {
            "8.8.8.0/24": {"country": {"iso_code": "NZ"}},
            "8.8.4.0/24": {"country": {"iso_code": "nonsense"}},
            "1.1.1.0/24": {"continent": {"code": "OC"}},
            "9.9.9.0/24": "no record",
            "10.0.0.0/8": {"country": {"iso_code": "NZ"}},
        },
    )


@pytest.mark.parametrize(
    ("address", "country"),
    [
        ("81.2.69.160", "GB"),
        ("8.8.8.8", "US"),
        ("2001:4860:4860::8888", "US"),
        ("::ffff:8.8.8.8", "US"),
        (" 8.8.8.8 ", "US"),
    ],
)
def test_public_addresses_have_a_country(address: str, country: str) -> None:
    assert country_lookup(None)(address) == country


@pytest.mark.parametrize("address", NO_ADDRESSES)
def test_what_is_no_public_address_has_none(address: str) -> None:
    assert country_lookup(None)(address) is None


@pytest.mark.parametrize("address", NO_ADDRESSES)
def test_what_is_no_public_address_has_none_in_a_file_either(address: str, database: Path) -> None:
    assert country_lookup(database)(address) is None


def test_a_configured_file_answers_instead(database: Path) -> None:
    assert country_lookup(database)("8.8.8.8") == "NZ"


@pytest.mark.parametrize("address", ["8.8.4.4", "1.1.1.1", "9.9.9.9", "4.4.4.4", "2001:4860:4860::8888"])
def test_what_a_file_does_not_know_or_says_oddly_is_none(address: str, database: Path) -> None:
    assert country_lookup(database)(address) is None


def test_a_file_of_another_kind_is_refused_at_the_start(tmp_path: Path) -> None:
    path = write_country_database(tmp_path / "asn.mmdb", {"8.8.8.0/24": {}}, kind="Test-ASN")
    with pytest.raises(SettingsError, match=r"COUNTRY_DATABASE.*Test-ASN"):
        country_lookup(path)


@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_a_broken_file_is_refused_at_the_start(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.mmdb"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match="COUNTRY_DATABASE"):
        country_lookup(path)


@given(st.text() | st.ip_addresses().map(str))
def test_no_text_makes_a_lookup_raise(address: str) -> None:
    country = country_lookup(None)(address)
    assert country is None or len(country) == 2
