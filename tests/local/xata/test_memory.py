"""With a state file, what a stand-in was asked for outlives it."""

import asyncio
import stat
from pathlib import Path

import asyncpg
import httpx
import pytest

from local.errors import ServerError
from local.postgres import PostgresCluster
from local.xata import Behaviour, XataStandIn
from tests.local.xata.wishes import created, custom, healthy, inherit
from tests.support.eventually import eventually


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "xata.json"


def _life(postgres: PostgresCluster, state: Path, **delays: float) -> XataStandIn:
    quick = {"visible_after_s": 0.0, "credentials_after_s": 0.0, "healthy_after_s": 0.0} | delays
    return XataStandIn(postgres_url=postgres.url("postgres"), behaviour=Behaviour(**quick), state=state)  # type: ignore[arg-type]  # all of these are seconds


def _client(stand_in: XataStandIn, key: str | None = None) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"{stand_in.url}/organizations/{stand_in.organization}",
        headers={"Authorization": f"Bearer {key or stand_in.api_key}"},
        timeout=10,
        trust_env=False,
    )


async def _select(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_projects_branches_and_keys_are_there_again_and_what_was_deleted_is_not(
    postgres: PostgresCluster, state: Path
) -> None:
    async with _life(postgres, state) as first, _client(first) as client:
        project = first.add_project("users")
        branches = f"/projects/{project}/branches"
        template = await first.add_branch(project, "template")
        child = await created(client, branches, inherit("user_1", template, description="of user 1"))
        gone = await created(client, branches, custom("user_2"))
        await client.delete(f"{branches}/{gone}")
        await client.patch(f"{branches}/{child}", json={"name": "user_1b"})
        # As a rotation that was killed before anybody was told of it.
        await first._databases.set_password(f"xata_{child}", "another")
        limited = first.add_key("branch:read", projects=[project])
        before = [(await client.get(path)).json() for path in ("/projects", branches, f"{branches}/{child}")]

    async with _life(postgres, state) as second, _client(second) as client:
        assert (second.organization, second.api_key) == (first.organization, first.api_key)
        after = [(await client.get(path)).json() for path in ("/projects", branches, f"{branches}/{child}")]
        taken = await client.post(branches, json=custom("user_1b"))
        free = await client.post(branches, json=custom("user_2"))
        async with _client(second, limited) as reader:
            read = await reader.get(branches)
            refused = await reader.delete(f"{branches}/{child}")
        assert await _select(second.connection_url(child), "select 1") == 1
        for branch in (child, template, free.json()["id"]):
            assert (await client.delete(f"{branches}/{branch}")).status_code == 204

    assert after == before
    assert (taken.status_code, free.status_code) == (409, 201)
    assert (read.status_code, refused.status_code) == (200, 403)
    assert second.creates["user_2"] == 2


async def test_an_organization_whose_bill_is_not_paid_stays_so(postgres: PostgresCluster, state: Path) -> None:
    async with _life(postgres, state) as first, httpx.AsyncClient(base_url=first.url, trust_env=False) as client:
        for switch in ({"age_s": 1e6}, {"billing_ok": False}):
            switched = await client.patch("/_stand_in/organization", json=switch)
            assert switched.status_code == 204

    async with _life(postgres, state) as second:
        assert not second.billing_ok
        assert second.cloud.organization.age_s >= 1e6


async def test_the_file_with_its_passwords_is_its_owners_alone(postgres: PostgresCluster, state: Path) -> None:
    async with _life(postgres, state) as life:
        life.add_project("users")

    mode = await asyncio.to_thread(lambda: state.stat().st_mode)
    assert stat.S_IMODE(mode) == 0o600


async def test_a_branch_that_was_not_up_comes_up_in_the_next_life_whatever_there_was_of_it(
    postgres: PostgresCluster, state: Path
) -> None:
    async with _life(postgres, state, healthy_after_s=float("inf")) as first, _client(first) as client:
        project = first.add_project("users")
        branches = f"/projects/{project}/branches"
        whole, half = [(await client.post(branches, json=custom(name))).json()["id"] for name in ("whole", "half")]
        await eventually(lambda: first._databases.complete(f"xata_{whole}"))
        await eventually(lambda: first._databases.complete(f"xata_{half}"))
    await _select(postgres.url(f"xata_{whole}"), "create table kept ()")
    await _select(postgres.url("postgres"), f"drop owned by xata_{half}")
    await _select(postgres.url("postgres"), f"drop role xata_{half}")

    async with _life(postgres, state) as second, _client(second) as client:
        for branch in (whole, half):
            await healthy(client, f"{branches}/{branch}")
        kept = await _select(second.connection_url(whole), "select to_regclass('kept') is not null")
        anew = await _select(second.connection_url(half), "select to_regclass('kept') is null")
        for branch in (whole, half):
            assert (await client.delete(f"{branches}/{branch}")).status_code == 204

    assert (kept, anew) == (True, True)


async def test_a_branch_whose_database_is_gone_is_gone_and_its_name_is_free(
    postgres: PostgresCluster, state: Path
) -> None:
    async with _life(postgres, state) as first:
        project = first.add_project("users")
        branch = await first.add_branch(project, "user_1")
        await first._databases.drop(f"xata_{branch}")

    async with _life(postgres, state) as second, _client(second) as client:
        listed = (await client.get(f"/projects/{project}/branches")).json()["branches"]
        again = await created(client, f"/projects/{project}/branches", custom("user_1"))
        await client.delete(f"/projects/{project}/branches/{again}")

    assert listed == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 99}'])
def test_a_file_that_is_no_state_is_refused_with_what_to_do(postgres: PostgresCluster, state: Path, text: str) -> None:
    state.write_text(text)

    with pytest.raises(ServerError, match=r"xata\.json .* move it away"):
        _life(postgres, state)

    assert state.read_text() == text
