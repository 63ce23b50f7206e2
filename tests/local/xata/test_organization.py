"""What the organization offers and how far it reaches."""

import re

import httpx
import pytest

from local.xata import Region, XataStandIn
from tests.local.xata.wishes import message


async def test_the_key_sees_its_organization(stand_in: XataStandIn, client: httpx.AsyncClient) -> None:
    [organization] = (await client.get(f"{stand_in.url}/organizations")).json()["organizations"]

    assert organization["id"] == stand_in.organization
    assert organization["status"]["status"] == "enabled"


async def test_regions_are_listed_with_what_they_can(client: httpx.AsyncClient) -> None:
    response = await client.get("/regions")

    assert response.status_code == 200
    assert response.json()["regions"] == [
        {
            "id": name,
            "publicAccess": True,
            "backupsEnabled": False,
            "provider": "aws",
            "organizationId": None,
        }
        for name in ("eu-central-1", "us-east-1")
    ]


async def test_another_organizations_region_is_not_listed(stand_in: XataStandIn, client: httpx.AsyncClient) -> None:
    stand_in.cloud.all_regions += [
        Region("byoc-1", owner="other0", provider="custom"),
        Region("byoc-2", owner=stand_in.organization),
    ]

    names = [region["id"] for region in (await client.get("/regions")).json()["regions"]]

    assert names == ["byoc-2", "eu-central-1", "us-east-1"]


async def test_instance_types_have_the_regions_prices(client: httpx.AsyncClient) -> None:
    micro = (await client.get("/instanceTypes", params={"region": "eu-central-1"})).json()["instanceTypes"][0]

    assert micro == {
        "name": "xata.micro",
        "vcpus": 250,
        "ram": 1,
        "hourlyRate": 0.014,
        "storageMonthlyRate": 0.34,
        "region": "eu-central-1",
    }


async def test_images_have_their_versions(client: httpx.AsyncClient) -> None:
    images = (await client.get("/images")).json()["images"]

    assert {"name": "postgres:17.9", "majorVersion": "17", "fullVersion": "17.9"} in images


@pytest.mark.parametrize("path", ["/instanceTypes?region=mars", "/images?region=mars"])
async def test_an_unknown_region_is_refused(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)

    assert response.status_code == 400
    assert message(response) == "invalid parameter [region]: invalid region: region mars is not found"


async def test_instance_types_want_a_region(client: httpx.AsyncClient) -> None:
    response = await client.get("/instanceTypes")

    assert response.status_code == 400
    assert message(response) == "Invalid format for parameter region: query parameter 'region' is required"


async def test_limits_are_told_at_three_levels(stand_in: XataStandIn, client: httpx.AsyncClient, project: str) -> None:
    stand_in.behaviour.max_branches_per_project = 42

    organization = (await client.get("/limits")).json()
    defaults = (await client.get("/projects/limits")).json()
    effective = (await client.get(f"/projects/{project}/limits")).json()

    assert defaults == {"maxInstances": 5, "minInstances": 1, "maxDescriptionLength": 50, "maxBranches": 42}
    assert effective["maxBranchesPerProject"] == 42
    assert organization["maxBranchesPerProject"] == 42
    assert set(organization) - set(effective) == {"maxProjects", "maxProjectsPerHour", "maxBranchesPerOrg"}


async def test_limits_of_an_unknown_project_are_404(client: httpx.AsyncClient) -> None:
    response = await client.get("/projects/prj_nope/limits")

    assert (response.status_code, message(response)) == (404, "project [prj_nope] not found")


async def test_an_unknown_path_is_404_and_another_method_405(client: httpx.AsyncClient) -> None:
    nowhere = await client.get("/nowhere")
    method = await client.put("/regions")

    assert (nowhere.status_code, message(nowhere)) == (404, "Not Found")
    assert (method.status_code, message(method)) == (405, "Method Not Allowed")


async def test_a_slash_at_the_end_does_not_matter(client: httpx.AsyncClient) -> None:
    assert (await client.get("/regions/")).status_code == 200


async def test_pretty_answers_are_indented(client: httpx.AsyncClient) -> None:
    assert (await client.get("/regions?_pretty")).text.startswith('{\n  "regions"')


async def test_the_request_id_is_echoed_and_part_of_errors(client: httpx.AsyncClient) -> None:
    response = await client.get("/projects/nope", headers={"X-Request-Id": "mine"})

    assert response.headers["x-request-id"] == "mine"
    assert response.json() == {"id": "mine", "message": "project [nope] not found"}


async def test_without_a_request_id_one_is_made(client: httpx.AsyncClient) -> None:
    response = await client.get("/projects/nope")

    assert re.fullmatch("req_[0-9a-v]{26}", response.headers["x-request-id"])
    assert "id" not in response.json()
