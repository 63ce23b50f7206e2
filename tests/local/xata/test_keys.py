"""Who may do what: tokens, scopes, limited keys, foreign organizations, billing."""

import httpx
import pytest

from local.xata import XataStandIn
from tests.local.xata.wishes import custom, message


def _as(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer"}, {"Authorization": "Basic abc"}])
async def test_without_a_token_it_is_401(stand_in: XataStandIn, header: dict[str, str]) -> None:
    async with httpx.AsyncClient(trust_env=False) as nobody:
        response = await nobody.get(f"{stand_in.url}/organizations/{stand_in.organization}/regions", headers=header)

    assert (response.status_code, message(response)) == (401, "no token found")


async def test_an_unknown_token_is_401(client: httpx.AsyncClient) -> None:
    response = await client.get("/regions", headers=_as("xau_unknown"))

    assert (response.status_code, message(response)) == (401, "invalid token")


async def test_a_key_that_was_taken_away_is_401(stand_in: XataStandIn, client: httpx.AsyncClient) -> None:
    stand_in.remove_key(stand_in.api_key)

    assert (await client.get("/regions")).status_code == 401


async def test_a_foreign_organization_is_401_and_not_403(stand_in: XataStandIn, client: httpx.AsyncClient) -> None:
    response = await client.get(f"{stand_in.url}/organizations/other0/regions")

    assert (response.status_code, message(response)) == (401, "no access to organization [other0]")


async def test_a_key_without_the_scope_is_403(stand_in: XataStandIn, client: httpx.AsyncClient, branches: str) -> None:
    reader = stand_in.add_key("branch:read")

    listed = await client.get(branches, headers=_as(reader))
    refused = await client.post(branches, headers=_as(reader), json=custom("a"))

    assert listed.status_code == 200
    assert (refused.status_code, message(refused)) == (403, "access denied")
    assert stand_in.creates == {}


async def test_a_key_of_one_project_sees_no_other(stand_in: XataStandIn, client: httpx.AsyncClient) -> None:
    mine, other = stand_in.add_project("mine"), stand_in.add_project("other")
    key = stand_in.add_key(projects=[mine])

    assert (await client.get(f"/projects/{mine}", headers=_as(key))).status_code == 200
    assert (await client.get(f"/projects/{other}", headers=_as(key))).status_code == 403


async def test_disabled_by_billing_nothing_is_made_but_all_is_seen_and_deleted(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str, template: str
) -> None:
    stand_in.billing_ok = False

    refused = [
        await client.post("/projects", json={"name": "p"}),
        await client.post(branches, json=custom("a")),
        await client.patch(f"{branches}/{template}", json={"name": "b"}),
        await client.post(f"{branches}/{template}/credentials/rotate", json={"username": "xata"}),
    ]
    allowed = [await client.get(f"{branches}/{template}"), await client.delete(f"{branches}/{template}")]

    text = f"Organization [{stand_in.organization}] is disabled, please check your billing settings or contact support"
    assert [(response.status_code, message(response)) for response in refused] == [(403, text)] * 4
    assert [response.status_code for response in allowed] == [200, 204]
