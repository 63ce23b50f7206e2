"""A stand-in of each test's own, quick by default, on the run's PostgreSQL; and an httpx client that holds its key."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from local.postgres import PostgresCluster
from local.xata import Behaviour, XataStandIn


@pytest.fixture
async def stand_in(postgres: PostgresCluster) -> AsyncIterator[XataStandIn]:
    behaviour = Behaviour(
        visible_after_s=0, credentials_after_s=0, healthy_after_s=0, wake_s=0.1, hibernated_at_first_s=0
    )
    async with XataStandIn(postgres_url=postgres.url("postgres"), behaviour=behaviour) as started:
        yield started
        assert started.record.answer_violations == []


@pytest.fixture
async def client(stand_in: XataStandIn) -> AsyncIterator[httpx.AsyncClient]:
    """Paths begin below the organization."""
    async with httpx.AsyncClient(
        base_url=f"{stand_in.url}/organizations/{stand_in.organization}",
        headers={"Authorization": f"Bearer {stand_in.api_key}"},
        timeout=10,
        trust_env=False,
    ) as made:
        yield made


@pytest.fixture
def project(stand_in: XataStandIn) -> str:
    return stand_in.add_project("users")


@pytest.fixture
def branches(project: str) -> str:
    """The path of the project's branches."""
    return f"/projects/{project}/branches"


@pytest.fixture
async def template(stand_in: XataStandIn, project: str) -> str:
    """A branch that is healthy."""
    return await stand_in.add_branch(project, "template")
