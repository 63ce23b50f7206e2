"""Which Xata region serves whom: the shipped map, what the configuration puts over it, and what the live list says.

Pure. In: the organisation's regions and the settings. Out: a `RegionMap`. Promise: it names offered regions only; a
setting that names another one is refused with the nearest that is offered.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from consumer.providers.continents import CONTINENT_OF, CONTINENTS
from consumer.providers.regions import RegionMap
from consumer.providers.xata.configuration import RegionWishes
from shared.errors import SettingsError

# What Xata priced in its published source; the live list decides, this one fills in until it can be read.
KNOWN_REGIONS: Final = ("us-east-1", "eu-central-1")

# Latitude and longitude, to tell which is nearest.
_AT: Final[Mapping[str, tuple[float, float]]] = {
    "af-south-1": (-33.9, 18.4),
    "ap-east-1": (22.3, 114.2),
    "ap-northeast-1": (35.7, 139.7),
    "ap-northeast-2": (37.6, 127.0),
    "ap-south-1": (19.1, 72.9),
    "ap-southeast-1": (1.35, 103.8),
    "ap-southeast-2": (-33.9, 151.2),
    "ca-central-1": (45.5, -73.6),
    "eu-central-1": (50.1, 8.7),
    "eu-central-2": (47.4, 8.5),
    "eu-north-1": (59.3, 18.1),
    "eu-south-1": (45.5, 9.2),
    "eu-west-1": (53.3, -6.3),
    "eu-west-2": (51.5, -0.1),
    "eu-west-3": (48.9, 2.4),
    "me-central-1": (24.5, 54.4),
    "me-south-1": (26.2, 50.6),
    "sa-east-1": (-23.5, -46.6),
    "us-east-1": (39.0, -77.5),
    "us-east-2": (40.0, -83.0),
    "us-west-1": (37.4, -122.0),
    "us-west-2": (45.8, -119.7),
}
# Where a continent's people are, as far as the nearest region goes. Africa's lines run to Europe.
_CENTRES: Final[Mapping[str, tuple[float, float]]] = {
    "AF": (30.0, 10.0),
    "AN": (-54.8, -68.3),
    "AS": (22.0, 100.0),
    "EU": (50.0, 10.0),
    "NA": (39.0, -90.0),
    "OC": (-33.9, 151.2),
    "SA": (-23.5, -46.6),
}


def region_map(live: Iterable[str], wishes: RegionWishes) -> RegionMap:
    """The map over the regions of the live list (or those of XATA_REGIONS among them).

    Raises:
        SettingsError: all settings that name what is not offered, a line each.
    """
    listed = tuple(dict.fromkeys(live))
    if not listed:
        raise SettingsError("XATA_ORGANIZATION: it has no regions at Xata")
    offered = tuple(region for region in listed if region in wishes.only) if wishes.only else listed
    problems = [
        *_unknown("XATA_REGIONS", {"": wishes.only}, listed),
        *_unknown("XATA_TEMPLATES", {"": wishes.templates}, listed),
        *_wrong_choices(wishes, offered or listed),
    ]
    if problems:
        raise SettingsError("\n".join(problems))
    default = wishes.default or next((region for region in KNOWN_REGIONS if region in offered), offered[0])
    return RegionMap(
        default=default,
        offered=frozenset(offered),
        by_country=dict(wishes.by_country),
        by_continent={**_shipped(offered), **wishes.by_continent},
        continent_of=CONTINENT_OF,
    )


def nearest(region: str, offered: Iterable[str]) -> str:
    """The offered region that is nearest to `region`; by its name's beginning when nobody knows where that is."""
    choices = sorted(offered)
    here = _AT.get(region)
    if here is None:
        return max(choices, key=lambda choice: len(_common_prefix(region, choice)))
    return min(choices, key=lambda choice: _distance(here, _AT.get(choice)))


def _shipped(offered: Iterable[str]) -> dict[str, str]:
    """For each continent the nearest offered region whose place is known."""
    placed = [region for region in offered if region in _AT]
    if not placed:
        return {}
    return {name: min(placed, key=lambda region: _distance(here, _AT[region])) for name, here in _CENTRES.items()}


def _wrong_choices(wishes: RegionWishes, offered: tuple[str, ...]) -> list[str]:
    default = {"": (wishes.default,) if wishes.default else ()}
    countries = {f"{code}=": (region,) for code, region in wishes.by_country.items()}
    continents = {f"{code}=": (region,) for code, region in wishes.by_continent.items()}
    strangers = [code for code in wishes.by_continent if code not in CONTINENTS]
    nowhere = [code for code in wishes.by_country if code not in CONTINENT_OF]
    return [
        *_unknown("XATA_DEFAULT_REGION", default, offered),
        *_unknown("XATA_REGION_BY_COUNTRY", countries, offered),
        *_unknown("XATA_REGION_BY_CONTINENT", continents, offered),
        *(f"XATA_REGION_BY_CONTINENT: {code} is none of {', '.join(sorted(CONTINENTS))}" for code in strangers),
        *(f"XATA_REGION_BY_COUNTRY: {code} is no ISO country code" for code in nowhere),
    ]


def _unknown(setting: str, named: Mapping[str, tuple[str, ...]], offered: tuple[str, ...]) -> list[str]:
    return [
        f"{setting}: {where}{region} is not offered to this organisation; the nearest that is: "
        f"{nearest(region, offered)} (offered: {', '.join(sorted(offered))})"
        for where, regions in named.items()
        for region in regions
        if region not in offered
    ]


def _common_prefix(one: str, other: str) -> str:
    same = next((index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    return one[:same]


def _distance(here: tuple[float, float], there: tuple[float, float] | None) -> float:
    """The angle between two places on the globe."""
    if there is None:
        return math.inf
    (lat_a, lon_a), (lat_b, lon_b) = ((math.radians(lat), math.radians(lon)) for lat, lon in (here, there))
    cosine = math.sin(lat_a) * math.sin(lat_b) + math.cos(lat_a) * math.cos(lat_b) * math.cos(lon_a - lon_b)
    return math.acos(max(-1.0, min(1.0, cosine)))
