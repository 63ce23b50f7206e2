"""The switches and the evidence over HTTP, for whoever tries the system by hand."""

import httpx
import pytest

from local.xata import XataStandIn
from tests.local.xata.wishes import custom, status_type


@pytest.fixture
def panel(stand_in: XataStandIn) -> str:
    return f"{stand_in.url}/_stand_in"


async def test_the_index_tells_what_there_is(client: httpx.AsyncClient, panel: str) -> None:
    text = (await client.get(f"{panel}/")).text

    for path in ("requests", "pace", "branches", "faults", "behaviour", "organization", "keys"):
        assert f"/_stand_in/{path}" in text


async def test_requests_and_their_pace_can_be_read_and_forgotten(
    stand_in: XataStandIn, client: httpx.AsyncClient, panel: str
) -> None:
    await client.get("/regions")

    seen = (await client.get(f"{panel}/requests")).json()
    pace = (await client.get(f"{panel}/pace", params={"window_s": 5})).json()
    await client.delete(f"{panel}/requests")

    assert [request["path"] for request in seen["requests"]] == [f"/organizations/{stand_in.organization}/regions"]
    assert pace == {"window_s": 5.0, "most": 1, "operations": {"listRegions": 1}}
    assert stand_in.requests == []


async def test_branches_are_shown_without_their_passwords(
    stand_in: XataStandIn, client: httpx.AsyncClient, panel: str, branches: str, template: str
) -> None:
    await client.post(branches, json=custom("a"))

    response = await client.get(f"{panel}/branches")

    assert [branch["name"] for branch in response.json()["branches"]] == ["template", "a"]
    assert response.json()["creates"] == {"a": 1}
    assert stand_in.branch(template).password not in response.text


async def test_a_branch_can_be_made_to_say_and_be_something(
    client: httpx.AsyncClient, panel: str, branches: str, template: str
) -> None:
    path = f"{branches}/{template}"
    said = []
    for body in ({"status": "STATUS_TYPE_FAULT"}, {"status": None}, {"hibernated": True}):
        assert (await client.post(f"{panel}/branches/{template}", json=body)).status_code == 204
        said.append(await status_type(client, path))

    assert said == ["STATUS_TYPE_FAULT", "STATUS_TYPE_HEALTHY", "STATUS_TYPE_HIBERNATED"]


async def test_faults_can_be_added_read_and_cleared(client: httpx.AsyncClient, panel: str) -> None:
    added = await client.post(f"{panel}/faults", json={"kind": "answer", "status": 429, "retry_after_s": 3})
    struck = await client.get("/regions")
    [active] = (await client.get(f"{panel}/faults")).json()["faults"]
    await client.delete(f"{panel}/faults")

    assert added.status_code == 201
    assert (struck.status_code, struck.headers["retry-after"]) == (429, "3")
    assert (active["status"], active["strikes"]) == (429, 1)
    assert (await client.get("/regions")).status_code == 200


async def test_faults_do_not_strike_the_switches_themselves(
    stand_in: XataStandIn, client: httpx.AsyncClient, panel: str
) -> None:
    await client.post(f"{panel}/faults", json={"kind": "reset"})

    assert (await client.get(f"{panel}/faults")).status_code == 200
    assert stand_in.requests == []


async def test_behaviour_can_be_read_and_changed(stand_in: XataStandIn, client: httpx.AsyncClient, panel: str) -> None:
    changed = await client.patch(f"{panel}/behaviour", json={"healthy_after_s": None, "max_branches_per_project": 3})

    assert changed.json() == (await client.get(f"{panel}/behaviour")).json()
    assert changed.json()["healthy_after_s"] is None
    assert stand_in.behaviour.healthy_after_s == float("inf")
    assert stand_in.behaviour.max_branches_per_project == 3


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("behaviour", {"colour": 1}),
        ("behaviour", {"healthy_after_s": "2s"}),
        ("behaviour", {"branch_creation_disabled": 1}),
        ("behaviour", {"max_projects": 1.5}),
        ("behaviour", {"hourly_cap_scope": "universe"}),
        ("faults", {"kind": "earthquake"}),
        ("faults", {"stauts": 500}),
        ("faults", []),
        ("branches/nope", {"status": "STATUS_TYPE_FAULT"}),
        ("keys", {"scopes": ["world:domination"]}),
    ],
)
async def test_a_wrong_switch_is_400_and_changes_nothing(
    stand_in: XataStandIn, client: httpx.AsyncClient, panel: str, path: str, body: object
) -> None:
    before = stand_in.behaviour.as_json()

    response = await client.request("PATCH" if path == "behaviour" else "POST", f"{panel}/{path}", json=body)

    assert response.status_code == 400
    assert response.json()["message"]
    assert stand_in.behaviour.as_json() == before
    assert stand_in.faults.active() == []


async def test_billing_and_age_of_the_organization_can_be_changed(
    stand_in: XataStandIn, client: httpx.AsyncClient, panel: str
) -> None:
    await client.patch(f"{panel}/organization", json={"billing_ok": False, "age_s": 60})

    assert not stand_in.billing_ok
    assert stand_in.cloud.organization.is_new


async def test_another_key_can_be_had(client: httpx.AsyncClient, panel: str, branches: str) -> None:
    key = (await client.post(f"{panel}/keys", json={"scopes": ["branch:read"]})).json()["key"]
    headers = {"Authorization": f"Bearer {key}"}

    assert (await client.get(branches, headers=headers)).status_code == 200
    assert (await client.post(branches, headers=headers, json=custom("a"))).status_code == 403
