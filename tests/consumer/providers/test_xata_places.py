"""Which region serves whom, and what is said about settings that name none that is offered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.providers.continents import CONTINENT_OF, CONTINENTS
from consumer.providers.regions import choose_region
from consumer.providers.xata.configuration import RegionWishes
from consumer.providers.xata.places import KNOWN_REGIONS, nearest, region_map
from shared.errors import SettingsError

TWO = ("us-east-1", "eu-central-1")


@pytest.mark.parametrize(
    ("country", "region"),
    [
        ("US", "us-east-1"),
        ("BR", "us-east-1"),
        ("DE", "eu-central-1"),
        ("GB", "eu-central-1"),
        ("NG", "eu-central-1"),
        ("IN", "eu-central-1"),
        (None, "us-east-1"),
        ("XX", "us-east-1"),
    ],
)
def test_each_continent_gets_the_nearest_of_the_offered_regions(country: str | None, region: str) -> None:
    assert choose_region(region_map(TWO, RegionWishes()), asked=None, country=country) == region


def test_a_region_that_xata_adds_serves_those_who_are_near_to_it() -> None:
    more = region_map((*TWO, "ap-southeast-2", "sa-east-1"), RegionWishes())

    assert choose_region(more, asked=None, country="NZ") == "ap-southeast-2"
    assert choose_region(more, asked=None, country="BR") == "sa-east-1"


def test_what_the_user_asked_for_goes_first_and_only_if_it_is_offered() -> None:
    regions = region_map(TWO, RegionWishes())

    assert choose_region(regions, asked="us-east-1", country="DE") == "us-east-1"
    assert choose_region(regions, asked="ap-southeast-2", country="DE") == "eu-central-1"


def test_settings_go_over_the_shipped_map() -> None:
    wishes = RegionWishes(
        default="eu-central-1",
        by_country={"DE": "us-east-1"},
        by_continent={"AS": "us-east-1"},
    )
    regions = region_map(TWO, wishes)

    assert choose_region(regions, asked=None, country="DE") == "us-east-1"
    assert choose_region(regions, asked=None, country="FR") == "eu-central-1"
    assert choose_region(regions, asked=None, country="JP") == "us-east-1"
    assert choose_region(regions, asked=None, country=None) == "eu-central-1"


def test_the_offer_can_be_narrowed() -> None:
    regions = region_map(TWO, RegionWishes(only=("eu-central-1",)))

    assert regions.offered == {"eu-central-1"}
    assert regions.default == "eu-central-1"
    assert choose_region(regions, asked="us-east-1", country="US") == "eu-central-1"


def test_regions_of_nobody_knows_where_are_used_all_the_same() -> None:
    regions = region_map(("my-cloud-1",), RegionWishes())

    assert choose_region(regions, asked=None, country="DE") == "my-cloud-1"


def test_all_settings_that_name_what_is_not_offered_are_told_at_once_with_the_nearest() -> None:
    wishes = RegionWishes(
        default="eu-west-1",
        by_country={"AU": "ap-southeast-2", "ZZ": "us-east-1"},
        by_continent={"EU": "eu-north-1", "XX": "us-east-1"},
        only=("us-east-1", "sa-east-1"),
        templates=("eu-west-3",),
    )

    with pytest.raises(SettingsError) as caught:
        region_map(TWO, wishes)

    lines = str(caught.value).splitlines()
    told = {line.partition(":")[0]: line for line in lines}
    assert set(told) == {
        "XATA_REGIONS",
        "XATA_TEMPLATES",
        "XATA_DEFAULT_REGION",
        "XATA_REGION_BY_COUNTRY",
        "XATA_REGION_BY_CONTINENT",
    }
    assert len(lines) == 7
    assert "the nearest that is: eu-central-1" in told["XATA_TEMPLATES"]


def test_an_organisation_without_regions_is_told() -> None:
    with pytest.raises(SettingsError, match="XATA_ORGANIZATION"):
        region_map((), RegionWishes())


@pytest.mark.parametrize(
    ("region", "offered", "expected"),
    [
        ("eu-west-1", TWO, "eu-central-1"),
        ("us-west-2", TWO, "us-east-1"),
        ("sa-east-1", TWO, "us-east-1"),
        ("ap-south-1", TWO, "eu-central-1"),
        ("eu-nowhere-9", TWO, "eu-central-1"),
        ("us-east-1-private", TWO, "us-east-1"),
        ("eu-west-1", ("mine-1", "eu-central-1"), "eu-central-1"),
    ],
)
def test_the_nearest_region(region: str, offered: tuple[str, ...], expected: str) -> None:
    assert nearest(region, offered) == expected


@given(
    st.lists(st.sampled_from(["us-east-1", "eu-central-1", "ap-south-1", "mine-1"]), min_size=1),
    st.none() | st.sampled_from(sorted(CONTINENT_OF)) | st.text(max_size=3),
    st.none() | st.text(max_size=20),
)
def test_whoever_it_is_an_offered_region_comes_out(offered: list[str], country: str | None, asked: str | None) -> None:
    assert choose_region(region_map(offered, RegionWishes()), asked=asked, country=country) in offered


def test_every_country_lies_on_one_continent() -> None:
    assert set(CONTINENT_OF.values()) == CONTINENTS
    assert all(len(code) == 2 and code.isupper() for code in CONTINENT_OF)
    assert len(CONTINENT_OF) == 250  # ISO 3166-1 has 249, and Kosovo's XK


def test_the_known_regions_are_those_of_the_published_source() -> None:
    assert KNOWN_REGIONS == ("us-east-1", "eu-central-1")
