import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.providers.regions import RegionMap, choose_region

REGIONS = RegionMap(
    default="us-east-1",
    offered=frozenset({"us-east-1", "eu-central-1", "ap-southeast-2"}),
    by_country={"NZ": "ap-southeast-2", "JP": "ap-northeast-1"},
    by_continent={"EU": "eu-central-1", "OC": "us-east-1", "AS": "ap-southeast-2"},
    continent_of={"DE": "EU", "NZ": "OC", "JP": "AS", "BR": "SA"},
)


@pytest.mark.parametrize(
    ("asked", "country", "region"),
    [
        ("eu-central-1", "NZ", "eu-central-1"),
        (" EU-Central-1 ", None, "eu-central-1"),
        (None, "NZ", "ap-southeast-2"),
        (None, "nz", "ap-southeast-2"),
        (None, "DE", "eu-central-1"),
        ("mars-north-1", "DE", "eu-central-1"),
        (None, "JP", "ap-southeast-2"),
        (None, "BR", "us-east-1"),
        (None, "XX", "us-east-1"),
        (None, None, "us-east-1"),
        ("", "", "us-east-1"),
    ],
)
def test_what_was_asked_for_goes_before_country_continent_and_default(
    asked: str | None, country: str | None, region: str
) -> None:
    assert choose_region(REGIONS, asked=asked, country=country) == region


def test_with_one_region_everybody_gets_it() -> None:
    assert choose_region(RegionMap.single("local"), asked="eu-central-1", country="DE") == "local"


@given(st.none() | st.text(), st.none() | st.text())
def test_whatever_comes_in_an_offered_region_comes_out(asked: str | None, country: str | None) -> None:
    assert choose_region(REGIONS, asked=asked, country=country) in REGIONS.offered
