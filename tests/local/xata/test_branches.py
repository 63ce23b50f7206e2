"""Branches: created, listed, read, changed, deleted."""

import re
from typing import Any

import httpx

from local.xata import Region, XataStandIn
from tests.local.xata.wishes import CONFIGURATION, created, custom, inherit, message


async def test_a_branch_of_its_own_is_created(client: httpx.AsyncClient, branches: str) -> None:
    response = await client.post(branches, json=custom("user_1", description="user 1"))

    branch = response.json()
    assert response.status_code == 201
    assert re.fullmatch("[a-v][0-9a-v]{25}", branch["id"])
    assert (branch["name"], branch["description"]) == ("user_1", "user 1")
    assert (branch["parentID"], branch["region"], branch["publicAccess"]) == (None, "us-east-1", True)
    assert branch["createdAt"] == branch["updatedAt"]


async def test_a_child_has_its_parents_region_and_size(
    stand_in: XataStandIn, client: httpx.AsyncClient, project: str, branches: str
) -> None:
    parent = await stand_in.add_branch(project, "template", region="eu-central-1")

    child = await created(client, branches, inherit("user_1", parent))

    branch = (await client.get(f"{branches}/{child}")).json()
    assert (branch["parentID"], branch["region"]) == (parent, "eu-central-1")
    assert branch["configuration"]["instanceType"] == "xata.micro"


async def test_the_region_stands_at_the_top_and_never_in_the_configuration(
    client: httpx.AsyncClient, branches: str
) -> None:
    branch_id = await created(client, branches, custom("user_1"))

    branch = (await client.get(f"{branches}/{branch_id}")).json()

    assert branch["region"] == "us-east-1"
    assert branch["configuration"] == {
        **CONFIGURATION,
        "region": "",
        "storage": 10,
        "postgresConfigurationParameters": {},
        "preloadLibraries": [],
    }


async def test_scale_to_zero_is_the_projects_unless_asked_for(client: httpx.AsyncClient) -> None:
    base, child, own = (
        {"enabled": enabled, "inactivityPeriodMinutes": minutes}
        for enabled, minutes in ((False, 60), (True, 15), (True, 120))
    )
    body = {"name": "p", "configuration": {"scaleToZero": {"baseBranches": base, "childBranches": child}}}
    branches = f"/projects/{(await client.post('/projects', json=body)).json()['id']}/branches"

    async def scale(body: dict[str, Any]) -> Any:
        return (await client.get(f"{branches}/{await created(client, branches, body)}")).json()["scaleToZero"]

    assert await scale(custom("root")) == base
    root = (await client.get(branches)).json()["branches"][0]["id"]
    assert await scale(inherit("child", root)) == child
    assert await scale(inherit("own", root, scaleToZero=own)) == own


async def test_the_list_has_neither_status_nor_connection_string(
    client: httpx.AsyncClient, branches: str, template: str
) -> None:
    await client.post(branches, json=inherit("user_1", template, description="hidden in lists"))

    listed = (await client.get(branches)).json()["branches"]

    assert [branch["name"] for branch in listed] == ["template", "user_1"]
    assert set(listed[1]) == {
        "id",
        "name",
        "createdAt",
        "updatedAt",
        "parentID",
        "region",
        "publicAccess",
        "backupsEnabled",
    }


async def test_the_list_of_an_unknown_project_is_404(client: httpx.AsyncClient) -> None:
    response = await client.get("/projects/prj_x/branches")

    assert (response.status_code, message(response)) == (404, "project [prj_x] not found")


async def test_a_deleted_branch_is_gone_and_its_name_free(
    client: httpx.AsyncClient, branches: str, template: str
) -> None:
    first = await created(client, branches, inherit("user_1", template))

    deleted = await client.delete(f"{branches}/{first}")
    again = await client.post(branches, json=inherit("user_1", template))

    assert (deleted.status_code, deleted.content) == (204, b"")
    assert again.status_code == 201
    assert again.json()["id"] != first
    gone = await client.get(f"{branches}/{first}")
    assert (gone.status_code, message(gone)) == (404, f"branch [{first}] not found")


async def test_deleting_twice_is_404(client: httpx.AsyncClient, branches: str, template: str) -> None:
    await client.delete(f"{branches}/{template}")

    again = await client.delete(f"{branches}/{template}")

    assert (again.status_code, message(again)) == (404, f"branch [{template}] not found")


async def test_a_branch_can_be_renamed_and_described(client: httpx.AsyncClient, branches: str, template: str) -> None:
    response = await client.patch(f"{branches}/{template}", json={"name": "base", "description": "the base"})

    assert response.status_code == 200
    assert (response.json()["name"], response.json()["description"]) == ("base", "the base")


async def test_a_branch_cannot_take_anothers_name(client: httpx.AsyncClient, branches: str, template: str) -> None:
    await client.post(branches, json=inherit("user_1", template))

    response = await client.patch(f"{branches}/{template}", json={"name": "user_1"})

    assert (response.status_code, message(response)) == (409, "branch [user_1] already exists")


async def test_a_branch_can_be_made_larger(client: httpx.AsyncClient, branches: str, template: str) -> None:
    change = {"instanceType": "xata.small", "replicas": 1, "storage": 20}

    await client.patch(f"{branches}/{template}", json=change)

    configuration = (await client.get(f"{branches}/{template}")).json()["configuration"]
    assert {name: configuration[name] for name in change} == change


async def test_backups_are_kept_where_the_region_has_them(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str
) -> None:
    stand_in.cloud.all_regions.append(Region("eu-north-1", backups_enabled=True))
    backup = {"retentionPeriod": 7, "backupTime": "*:02:30"}
    configuration = {**CONFIGURATION, "region": "eu-north-1"}

    body = {**custom("a", backupConfiguration=backup), "configuration": configuration}
    branch = await created(client, branches, body)

    assert (await client.get(f"{branches}/{branch}")).json()["backupConfiguration"] == backup
