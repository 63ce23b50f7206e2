"""What the tests of the provider `xata` share: an account at the stand-in and consumers' providers that use it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import asyncpg

from consumer.providers.names import database_name
from consumer.providers.protocol import UserDatabase
from consumer.providers.xata.api import Timeouts, XataApi
from consumer.providers.xata.configuration import BranchWishes, PoolWishes, Waiting, XataConfiguration
from consumer.providers.xata.pace import Pace
from consumer.providers.xata.placements import Placement, Placements
from consumer.providers.xata.provider import XataProvider
from local.xata import Request, XataStandIn
from shared.migrations import Migration, user_migrations
from tests.consumer.provisioning import new_user

REGION: Final = "us-east-1"
# Everything as in production, only sooner.
QUICK: Final = Timeouts(connect=2.0, read=2.0, pool=2.0, whole=2.5, creation=2.0)
SOON: Final = Waiting(polls_s=(0.1, 0.1, 0.2), visible_s=20.0, ready_s=60.0, unclear_s=2.5)


@dataclass
class Account:
    stand_in: XataStandIn
    pool: asyncpg.Pool[asyncpg.Record]
    projects: tuple[str, ...] = ()
    _open: list[XataProvider | XataApi] = field(default_factory=list)

    def configuration(self, **changes: Any) -> XataConfiguration:
        configuration = XataConfiguration(
            organization=self.stand_in.organization,
            key=self.stand_in.api_key,
            url=self.stand_in.url,
            pool=PoolWishes(self.projects),
            branch=BranchWishes(),
            waiting=SOON,
            requests_per_s=2000.0,
        )
        return replace(configuration, **changes)

    def provider(self, **changes: Any) -> XataProvider:
        """As one consumer process has it, with `migrations` or Usher's."""
        migrations: Sequence[Migration] = changes.pop("migrations", user_migrations())
        provider = XataProvider(
            self.pool,
            self.configuration(**changes),
            default_region=REGION,
            migrations=migrations,
            timeouts=QUICK,
        )
        self._open.append(provider)
        return provider

    def api(self) -> XataApi:
        pace = Pace(self.pool, requests_per_s=2000.0, patience_s=2.0)
        api = XataApi(self.stand_in.url, self.stand_in.api_key, self.stand_in.organization, pace=pace, timeouts=QUICK)
        self._open.append(api)
        return api

    async def close(self) -> None:
        for opened in self._open:
            await opened.close()

    async def placement(self, wanted: UserDatabase) -> Placement | None:
        return await Placements(self.pool, unclear_s=0.0).find(wanted.name)

    def branches_of(self, wanted: UserDatabase) -> list[str]:
        """The ids of all live branches of that name, in whatever project."""
        return [branch.id for branch in self.stand_in.live_branches() if branch.name == wanted.name]

    def asked(self, operation: str, also: Callable[[Request], bool] = lambda _request: True) -> int:
        """How often the stand-in was asked for it."""
        return sum(request.operation == operation and also(request) for request in self.stand_in.requests)


def new_wish(region: str | None = REGION) -> UserDatabase:
    user_id = new_user()
    return UserDatabase(user_id, database_name(user_id), region)
