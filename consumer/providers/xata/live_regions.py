"""The region map as Xata's live list makes it: asked for once it is needed, kept until the next check."""

from __future__ import annotations

from consumer.providers.regions import RegionMap
from consumer.providers.xata.api import XataApi
from consumer.providers.xata.configuration import RegionWishes
from consumer.providers.xata.places import region_map
from shared.errors import DependencyDown, SettingsError


class LiveRegions:
    def __init__(self, api: XataApi, wishes: RegionWishes) -> None:
        self._api = api
        self._wishes = wishes
        self._map: RegionMap | None = None

    def known(self) -> RegionMap | None:
        return self._map

    async def verified(self) -> RegionMap:
        return self._map or await self.compared()

    async def compared(self) -> RegionMap:
        """Asked anew.

        Raises:
            DependencyDown: Xata does not tell, or the settings name what it does not offer.
        """
        try:
            return await self.asked()
        except SettingsError as error:
            raise DependencyDown(str(error)) from error

    async def asked(self) -> RegionMap:
        """As `compared`; raises SettingsError for the settings."""
        self._map = region_map(await self._api.regions(), self._wishes)
        return self._map
