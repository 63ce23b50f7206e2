"""A stand-in for Xata whose branches are healthy at once: all of them lead to one database that is there already."""

import asyncio
import os
import signal

from consumer.providers.xata.templates import MADE_BY_USHER
from local.xata import Behaviour, XataStandIn
from local.xata.databases import Databases


class OneDatabase(Databases):
    """What every branch is given."""

    async def start(self) -> None:
        pass

    async def create(self, name: str, password: str, *, template: str | None) -> None:
        pass

    async def open(self, name: str) -> None:
        pass

    async def set_password(self, name: str, password: str) -> None:
        pass

    async def drop(self, name: str) -> None:
        pass

    async def exists(self, name: str) -> bool:  # noqa: ARG002 - as there
        return True

    async def activity(self, name: str) -> tuple[int, int]:  # noqa: ARG002 - as there
        return 0, 0

    def login_url(self, name: str, password: str) -> str:  # noqa: ARG002 - as there
        return os.environ["DATABASE_URL"]


async def _serve() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    behaviour = Behaviour(visible_after_s=0.0, credentials_after_s=0.0, healthy_after_s=0.0, wake_s=0.0)
    behaviour.max_branches_per_project = behaviour.max_branches_per_organization = 10**6
    behaviour.max_branches_per_hour = behaviour.max_projects_per_hour = 10**6
    behaviour.new_organization_max_branches = 10**6
    stand_in = XataStandIn(
        postgres_url=os.environ["DATABASE_URL"],
        port=int(os.environ["PORT"]),
        api_key=os.environ["KEY"],
        organization=os.environ["ORGANIZATION"],
        behaviour=behaviour,
    )
    stand_in._databases = stand_in._provisioning._databases = OneDatabase(os.environ["DATABASE_URL"])  # noqa: SLF001
    async with stand_in:
        # As Usher makes one, where the users are: its children are born with the schema.
        template = await stand_in.add_branch(stand_in.add_project("bench-1"), "template", region="eu-central-1")
        stand_in.branch(template).description = MADE_BY_USHER
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(_serve())
