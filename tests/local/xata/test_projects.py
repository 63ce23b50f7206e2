"""Projects: created, read, changed, deleted, and every refusal."""

from typing import Any

import httpx
import pytest

from local.xata import XataStandIn
from tests.local.xata.wishes import custom, message

OFF = {"enabled": False, "inactivityPeriodMinutes": 30}


async def test_a_project_without_configuration_never_scales_to_zero(client: httpx.AsyncClient) -> None:
    response = await client.post("/projects", json={"name": "users-1"})

    assert response.status_code == 201
    assert response.json()["configuration"] == {"scaleToZero": {"baseBranches": OFF, "childBranches": OFF}}


async def test_a_project_keeps_its_configuration(client: httpx.AsyncClient) -> None:
    on = {"enabled": True, "inactivityPeriodMinutes": 15}
    configuration = {
        "scaleToZero": {"baseBranches": OFF, "childBranches": on},
        "ipFiltering": {"enabled": True, "cidr": [{"cidr": "10.0.0.0/8", "description": "us"}]},
    }

    made = (await client.post("/projects", json={"name": "users-1", "configuration": configuration})).json()

    assert made["configuration"] == configuration
    assert (await client.get(f"/projects/{made['id']}")).json() == made
    assert (await client.get("/projects")).json() == {"projects": [made]}


async def test_a_taken_name_is_409_until_its_project_is_deleted(client: httpx.AsyncClient, project: str) -> None:
    taken = await client.post("/projects", json={"name": "users"})
    deleted = await client.delete(f"/projects/{project}")
    again = await client.post("/projects", json={"name": "users"})

    assert (taken.status_code, message(taken)) == (409, "project [users] already exists")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert again.status_code == 201
    assert again.json()["id"] != project


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": None}])
async def test_a_project_without_a_name_is_refused(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    response = await client.post("/projects", json=body)

    assert (response.status_code, message(response)) == (400, "invalid project name []")


async def test_a_name_of_another_type_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.post("/projects", json={"name": 5})

    assert response.status_code == 400
    assert message(response).startswith("Unmarshal type error: expected=string, got=number, field=name")


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b'{"name": "a"', "unexpected EOF"),
        (b"{name}", "Syntax error: offset=2, error=invalid character 'n'"),
    ],
)
async def test_broken_json_is_refused(client: httpx.AsyncClient, raw: bytes, text: str) -> None:
    response = await client.post("/projects", content=raw, headers={"Content-Type": "application/json"})

    assert (response.status_code, message(response)) == (400, text)


async def test_another_content_type_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.post("/projects", content=b"name=a", headers={"Content-Type": "text/plain"})

    assert (response.status_code, message(response)) == (415, "Unsupported Media Type")


async def test_a_project_can_be_renamed_and_reconfigured(client: httpx.AsyncClient, project: str) -> None:
    on = {"enabled": True, "inactivityPeriodMinutes": 60}
    change = {"name": "renamed", "configuration": {"scaleToZero": {"baseBranches": on, "childBranches": on}}}

    response = await client.patch(f"/projects/{project}", json=change)

    assert response.status_code == 200
    assert response.json()["name"] == "renamed"
    assert response.json()["configuration"]["scaleToZero"]["childBranches"] == on


async def test_a_change_without_a_field_is_refused(client: httpx.AsyncClient, project: str) -> None:
    response = await client.patch(f"/projects/{project}", json={})

    assert response.status_code == 400
    assert message(response) == (
        f"Project [{project}]: invalid parameter [all]: at least one of the request fields needs to be set"
    )


async def test_a_project_cannot_take_anothers_name(
    stand_in: XataStandIn, client: httpx.AsyncClient, project: str
) -> None:
    stand_in.add_project("taken")

    response = await client.patch(f"/projects/{project}", json={"name": "taken"})

    assert (response.status_code, message(response)) == (409, "project [taken] already exists")


async def test_a_project_with_branches_is_not_deleted(client: httpx.AsyncClient, project: str, branches: str) -> None:
    branch = (await client.post(branches, json=custom("a"))).json()["id"]

    full = await client.delete(f"/projects/{project}")
    await client.delete(f"{branches}/{branch}")
    empty = await client.delete(f"/projects/{project}")

    assert (full.status_code, message(full)) == (
        400,
        f"project {project} is not empty. Please delete its branches first.",
    )
    assert empty.status_code == 204


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_an_unknown_project_is_404(client: httpx.AsyncClient, method: str) -> None:
    response = await client.request(method, "/projects/prj_x", json={"name": "a"} if method == "PATCH" else None)

    assert (response.status_code, message(response)) == (404, "project [prj_x] not found")
