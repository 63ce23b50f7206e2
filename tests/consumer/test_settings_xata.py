"""What DATABASE_PROVIDER=xata needs to be told, and what is said when it is not."""

from __future__ import annotations

from typing import Any

import pytest

from consumer.settings import ConsumerSettings
from shared.errors import SettingsError

BASE: dict[str, Any] = {"amqp_url": "amqp://x", "database_url": "postgresql://u:p@h/usher"}
XATA: dict[str, Any] = {
    **BASE,
    "database_provider": "xata",
    "xata_api_key": "xau_secret",
    "xata_organization": "orgorg",
    "xata_projects": "prj_a, users ",
}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ConsumerSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_without_xata_nothing_of_it_is_needed() -> None:
    assert ConsumerSettings.read(**BASE).database_provider == "postgres"


def test_all_that_is_missing_is_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        ConsumerSettings.read(**BASE, database_provider="xata")

    named = {line.partition(":")[0] for line in str(caught.value).splitlines()}
    assert named == {"XATA_API_KEY", "XATA_ORGANIZATION", "XATA_PROJECT_PREFIX"}


def test_the_environment_is_read_as_the_example_writes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AMQP_URL": "amqp://x",
        "DATABASE_URL": "postgresql://u:p@h/usher",
        "DATABASE_PROVIDER": "xata",
        "XATA_API_KEY": "xau_secret",
        "XATA_ORGANIZATION": "orgorg",
        "XATA_PROJECTS": "",
        "XATA_PROJECT_PREFIX": "tenants-",
        "XATA_TEMPLATES": "us-east-1=users-us, eu-central-1=users-eu,us-east-1=other",
        "XATA_REGIONS": "us-east-1,eu-central-1",
        "XATA_REGION_BY_COUNTRY": "de=eu-central-1",
        "XATA_REGION_BY_CONTINENT": "AF=eu-central-1",
        "XATA_SLEEP_AFTER_MINUTES": "0",
        "XATA_READY_TIMEOUT": "10m",
        "XATA_REQUESTS_PER_S": "5",
    }.items():
        monkeypatch.setenv(name, value)

    xata = ConsumerSettings.read().xata()

    assert (xata.pool.given, xata.pool.prefix, xata.pool.most) == ((), "tenants-", 10)
    assert xata.branch.templates == {"us-east-1": ("users-us", "other"), "eu-central-1": ("users-eu",)}
    assert xata.branch.sleep_after_minutes is None
    assert xata.regions.only == ("us-east-1", "eu-central-1")
    assert xata.regions.by_country == {"DE": "eu-central-1"}
    assert xata.regions.by_continent == {"AF": "eu-central-1"}
    assert xata.regions.templates == ("us-east-1", "eu-central-1")
    assert xata.waiting.ready_s == 600
    assert xata.requests_per_s == 5


def test_projects_may_be_given_by_name_or_id() -> None:
    assert ConsumerSettings.read(**XATA).xata().pool.given == ("prj_a", "users")


def test_the_defaults_are_careful() -> None:
    xata = ConsumerSettings.read(**XATA).xata()

    assert xata.url == "https://api.xata.tech"
    assert xata.requests_per_s == 1
    assert xata.branch.sleep_after_minutes == 30
    assert xata.pool.prefix is None


def test_the_key_is_printed_nowhere() -> None:
    settings = ConsumerSettings.read(**XATA)

    assert "xau_secret" not in repr(settings)
    assert "xau_secret" not in repr(settings.xata())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("xata_templates", "us-east-1"),
        ("xata_templates", "=x"),
        ("xata_region_by_country", "DE="),
        ("xata_api_url", "http://api.xata.tech"),
        ("xata_requests_per_s", "0"),
        ("xata_max_projects", "0"),
        ("xata_sleep_after_minutes", "-1"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name.upper()}: "):
        ConsumerSettings.read(**{**XATA, name: value})


def test_the_key_is_sent_in_the_clear_to_this_machine_only() -> None:
    assert ConsumerSettings.read(**XATA, xata_api_url="http://127.0.0.1:4000").xata().url == "http://127.0.0.1:4000"
