"""Caps: branches of a project, of a new organization, of an hour; requests of a minute."""

import asyncio

import httpx
import pytest

from local.xata import XataStandIn
from tests.local.xata.wishes import custom, message
from tests.support.eventually import eventually


async def _create(client: httpx.AsyncClient, branches: str, *names: str) -> list[int]:
    return [(await client.post(branches, json=custom(name))).status_code for name in names]


async def test_a_full_project_takes_no_more_until_one_is_deleted(
    stand_in: XataStandIn, client: httpx.AsyncClient, project: str, branches: str
) -> None:
    stand_in.behaviour.max_branches_per_project = 2
    first = (await client.post(branches, json=custom("a"))).json()["id"]

    assert await _create(client, branches, "b", "c") == [201, 400]
    refused = await client.post(branches, json=custom("c"))
    assert message(refused) == f"project [{project}] has too many branches"
    await client.delete(f"{branches}/{first}")
    assert await _create(client, branches, "c") == [201]


async def test_a_full_project_says_so_even_for_a_taken_name(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str
) -> None:
    stand_in.behaviour.max_branches_per_project = 1

    assert await _create(client, branches, "a", "a") == [201, 400]


async def test_the_hundredth_branch_is_the_last_by_default(stand_in: XataStandIn) -> None:
    assert stand_in.behaviour.max_branches_per_project == 100


async def test_an_organization_younger_than_12_h_may_create_10_in_all(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str
) -> None:
    stand_in.behaviour.new_organization_max_branches = 2
    stand_in.cloud.organization.age_s = 12 * 3600 - 60
    first = (await client.post(branches, json=custom("a"))).json()["id"]
    await client.delete(f"{branches}/{first}")

    assert await _create(client, branches, "b") == [201]
    refused = await client.post(branches, json=custom("c"))
    stand_in.cloud.organization.age_s = 12 * 3600
    grown = await client.post(branches, json=custom("c"))

    assert (refused.status_code, message(refused)) == (
        403,
        f"Organization [{stand_in.organization}] has reached the branch limit for new organizations",
    )
    assert grown.status_code == 201


@pytest.mark.parametrize(("scope", "elsewhere"), [("organization", 429), ("project", 201)])
async def test_an_hour_has_its_creations(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str, scope: str, elsewhere: int
) -> None:
    stand_in.behaviour.update(max_branches_per_hour=2, hourly_cap_scope=scope)
    other = f"/projects/{stand_in.add_project('other')}/branches"

    assert await _create(client, branches, "a", "b", "c") == [201, 201, 429]
    assert await _create(client, other, "d") == [elsewhere]


async def test_the_hour_rolls_on(stand_in: XataStandIn, client: httpx.AsyncClient, branches: str) -> None:
    stand_in.behaviour.update(max_branches_per_hour=1, hour_s=0.3)
    assert await _create(client, branches, "a", "b") == [201, 429]

    async def has_room() -> bool:
        return await _create(client, branches, "b") == [201]

    await eventually(has_room)


async def test_a_refused_creation_does_not_count(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str
) -> None:
    stand_in.behaviour.max_branches_per_hour = 2

    assert await _create(client, branches, "a", "a", "b", "c") == [201, 409, 201, 429]


async def test_projects_have_their_caps(stand_in: XataStandIn, client: httpx.AsyncClient) -> None:
    async def create(name: str) -> httpx.Response:
        return await client.post("/projects", json={"name": name})

    stand_in.behaviour.max_projects_per_hour = 1
    assert [(await create(name)).status_code for name in "ab"] == [201, 429]
    stand_in.behaviour.update(max_projects_per_hour=1000, max_projects=1)
    refused = await create("c")

    assert (refused.status_code, message(refused)) == (
        400,
        f"organization [{stand_in.organization}] has too many projects",
    )


async def test_an_organization_has_its_cap_over_all_projects(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str
) -> None:
    stand_in.behaviour.max_branches_per_organization = 1
    other = f"/projects/{stand_in.add_project('other')}/branches"

    assert await _create(client, branches, "a") == [201]
    assert await _create(client, other, "b") == [400]


@pytest.mark.parametrize("tells", [True, False])
async def test_the_gateway_limits_the_pace_in_plain_text(
    stand_in: XataStandIn, client: httpx.AsyncClient, *, tells: bool
) -> None:
    stand_in.behaviour.update(requests_per_window=2, rate_window_s=30.0, rate_limit_tells_when=tells)

    answers = [await client.get("/regions") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].text == "local_rate_limited"
    assert answers[2].headers["content-type"].startswith("text/plain")
    assert answers[2].headers.get("retry-after") == ("30" if tells else None)


async def test_two_creations_of_one_name_are_one_branch(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str
) -> None:
    for name in ("a", "b", "c"):
        answers = await asyncio.gather(*(client.post(branches, json=custom(name)) for _ in range(8)))

        assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    assert stand_in.creates == {"a": 1, "b": 1, "c": 1}


async def test_creations_at_once_never_go_over_the_cap(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str
) -> None:
    stand_in.behaviour.max_branches_per_project = 5

    answers = await asyncio.gather(*(client.post(branches, json=custom(f"user_{number}")) for number in range(12)))

    assert sorted(answer.status_code for answer in answers) == [201] * 5 + [400] * 7
    assert len(stand_in.live_branches()) == 5


async def test_deletions_at_once_are_one_deletion(client: httpx.AsyncClient, branches: str, template: str) -> None:
    answers = await asyncio.gather(*(client.delete(f"{branches}/{template}") for _ in range(4)))

    assert sorted(answer.status_code for answer in answers) == [204, 404, 404, 404]
