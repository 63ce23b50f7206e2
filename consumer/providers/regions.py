"""In which region a user's database is to be: what the user asked for → country → continent → default.

Pure; the map is data. A wish that the provider cannot fulfil is passed over, never an error: it comes from a stranger.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RegionMap:
    """`offered` are the provider's region ids, `default` one of them; countries and continents are codes (DE, EU)."""

    default: str
    offered: frozenset[str]
    by_country: Mapping[str, str] = field(default_factory=dict)
    by_continent: Mapping[str, str] = field(default_factory=dict)
    continent_of: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def single(cls, region: str) -> "RegionMap":
        """One region for everybody."""
        return cls(default=region, offered=frozenset({region}))

    def known(self) -> "RegionMap":
        return self

    async def verified(self) -> "RegionMap":
        return self


class Regions(Protocol):
    """The map, which may have to be asked for first."""

    def known(self) -> RegionMap | None:
        """None until the provider has told what it offers."""

    async def verified(self) -> RegionMap:
        """Ask, if it has not told yet.

        Raises:
            DependencyDown, NotYet: it does not tell now, or the settings name what it does not offer.
        """


def choose_region(regions: RegionMap, *, asked: str | None, country: str | None) -> str:
    """The first of the four that the provider offers; the default without asking whether it does."""
    wished = (asked or "").strip().lower()
    code = (country or "").upper()
    by_country = regions.by_country.get(code)
    by_continent = regions.by_continent.get(regions.continent_of.get(code, ""))
    candidates = (wished, by_country, by_continent)
    return next((region for region in candidates if region and region in regions.offered), regions.default)
