"""Brings a branch's database up and down: created at once in the background, open to its user when it is due.

Promise: a branch that says HEALTHY lets its user in; after `remove` nobody is in and nothing of it is left.
"""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

import structlog

from local.xata import lifecycle
from local.xata.behaviour import Behaviour
from local.xata.databases import Databases
from local.xata.model import Branch

log = structlog.get_logger()


class Provisioning:
    def __init__(self, databases: Databases, behaviour: Behaviour, changed: Callable[[], None]) -> None:
        """`changed`: told when a branch has come up, before anybody can hear of it."""
        self._databases = databases
        self._behaviour = behaviour
        self._changed = changed
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, branch: Branch, parent: Branch | None, *, again: bool = False) -> None:
        """`again`: an earlier life has begun with it."""
        work = self._bring_up(branch, parent, again=again)
        branch.provisioning = asyncio.create_task(work, name=f"provision {branch.id}")
        self._tasks.add(branch.provisioning)
        branch.provisioning.add_done_callback(self._tasks.discard)

    async def take_up(self, branch: Branch, parent: Branch | None) -> None:
        """Go on with a branch of an earlier life, wherever that ended."""
        if not branch.up:
            branch.doomed |= branch.parent_id is not None and parent is None
            self.begin(branch, parent, again=True)
        elif await self._databases.complete(branch.database):
            # A rotation that nobody was told of does not count.
            await self._databases.set_password(branch.database, branch.password)
        else:
            log.warning("xata_branch_lost", branch_id=branch.id)
            branch.deleted = True

    async def remove(self, branch: Branch) -> None:
        if branch.provisioning is not None:
            branch.provisioning.cancel()
            await asyncio.gather(branch.provisioning, return_exceptions=True)
        await self._databases.drop(branch.database)
        branch.up = False

    def credentials(self, branch: Branch) -> dict[str, Any]:
        """The real login at the real server; the dbname of the real API is always `xata`."""
        return {
            "username": branch.database,
            "password": branch.password,
            "hostname": self._databases.host,
            "port": self._databases.port,
            "dbname": branch.database,
            "connectionString": self._databases.login_url(branch.database, branch.password),
        }

    async def rotate(self, branch: Branch, password: str) -> None:
        await self._databases.set_password(branch.database, password)
        branch.password = password

    async def look(self, branch: Branch) -> None:
        """Let it fall asleep, or have been woken by a connection."""
        if branch.up and branch.scale_to_zero.enabled:
            connected, sessions = await self._databases.activity(branch.database)
            lifecycle.fall_asleep_when_idle(branch, self._behaviour, connected=connected, sessions=sessions)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _bring_up(self, branch: Branch, parent: Branch | None, *, again: bool) -> None:
        try:
            if not again or not await self._databases.complete(branch.database):
                await self._create(branch, parent, again=again)
            await self._until_due(branch)
            await self._databases.open(branch.database)
            branch.active_at = time.monotonic()
            branch.up = True
            self._changed()
        except Exception as error:  # noqa: BLE001 - whatever it is, the branch says so as FAULT
            branch.up = False
            log.warning("xata_branch_failed", branch_id=branch.id, error=type(error).__name__)
            branch.doomed = True

    async def _create(self, branch: Branch, parent: Branch | None, *, again: bool) -> None:
        if again:
            await self._databases.drop(branch.database)
        await self._databases.create(branch.database, branch.password, template=parent.database if parent else None)

    async def _until_due(self, branch: Branch) -> None:
        """Looks at the behaviour again and again: a test may change it meanwhile."""
        while branch.doomed or branch.age_s < self._behaviour.healthy_after_s:
            left_s = self._behaviour.healthy_after_s - branch.age_s
            await asyncio.sleep(0.05 if branch.doomed or math.isinf(left_s) else min(max(left_s, 0.0), 0.05))
