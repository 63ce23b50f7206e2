"""Every refusal of a creation or a change of a branch, with its status and its very words."""

from typing import Any

import httpx
import pytest

from local.xata import StatusType, XataStandIn
from tests.local.xata.wishes import CONFIGURATION, created, custom, inherit, message

BODY = "invalid parameter [body]: failed to parse branch creation details -"
NO_BACKUPS = "backup configuration cannot be specified when backups are disabled in the selected region"
NO_OBJECT = "json: cannot unmarshal array into Go value of type map[string]json.RawMessage"
NOT_TEXT = "error reading 'name': json: cannot unmarshal number into Go value of type string"
REPLICAS = (
    "json: cannot unmarshal string into Go struct field BranchFromConfiguration.configuration.replicas of type int32"
)
TOGETHER = (
    "image cannot be updated together with postgres configuration parameters, instance type, or preload libraries"
)
DAYS = "must be at least 2 days and maximum 35 days"
WHEN = "invalid backup time format 'noon', must match format 'D:HH:MM' where D= * or 0-6, HH=00-23, MM=00-59"


def _with(**changes: Any) -> dict[str, Any]:
    return {"name": "n", "mode": "custom", "configuration": {**CONFIGURATION, **changes}}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"name": "n"}, f"Branch [n]: {BODY} unknown discriminator value: "),
        ({"name": "n", "mode": "clone"}, f"Branch [n]: {BODY} unknown discriminator value: clone"),
        ({"mode": "custom"}, "invalid parameter [name]: branch name is required"),
        (custom(""), "invalid parameter [name]: branch name is required"),
        (
            {"name": "n", "mode": "inherit"},
            "Branch [n]: invalid parameter [parentID]: parentId is required for 'inherit' mode",
        ),
        (
            {"name": "n", "mode": "custom"},
            "Branch [n]: invalid parameter [configuration]: configuration is required for 'custom' mode",
        ),
        (
            {"name": "n", "mode": "custom", "configuration": {}},
            "Branch [n]: invalid parameter [configuration]: configuration is required for 'custom' mode",
        ),
        (
            _with(region="mars"),
            "Branch [n]: invalid parameter [configuration]: invalid region: region [mars] not found",
        ),
        (
            _with(image="postgres:9"),
            "Branch [n]: invalid parameter [configuration]: invalid image: image postgres:9 is not valid",
        ),
        (
            _with(instanceType="xata.nano"),
            "Branch [n]: invalid parameter [instanceType]: instance type xata.nano is not found",
        ),
        (
            _with(replicas=-1),
            "Branch [n]: invalid parameter [configuration]: number of replicas must be at least zero",
        ),
        (_with(replicas="0"), f"Branch [n]: {BODY} {REPLICAS}"),
        (custom("n", description="user_2abc"), "description user_2abc invalid: invalid branch description user_2abc"),
        (custom("n", description=" x"), "description  x invalid: invalid branch description  x"),
        (custom("n", description="line\n"), "description line\n invalid: invalid branch description line\n"),
        (custom("n", description="x" * 51), "max length is 50"),
        (custom("n", backupConfiguration={}), f"Branch [n]: invalid parameter [backupConfiguration]: {NO_BACKUPS}"),
        (
            custom("n", backupConfiguration={"retentionPeriod": 1}),
            f"Branch [n]: invalid parameter [backup retentionPeriod]: {DAYS}",
        ),
        (
            custom("n", backupConfiguration={"backupTime": "noon"}),
            f"Branch [n]: invalid parameter [backup time]: {WHEN}",
        ),
        ({"name": 5, "mode": "custom"}, f"code=400, message={NOT_TEXT}, internal={NOT_TEXT}"),
        ([], f"code=400, message={NO_OBJECT}, internal={NO_OBJECT}"),
    ],
)
async def test_a_wrong_creation_is_400(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str, body: Any, text: str
) -> None:
    response = await client.post(branches, json=body)

    assert (response.status_code, message(response)) == (400, text)
    assert stand_in.live_branches() == []


async def test_an_unknown_field_is_ignored_as_in_the_source_but_noted(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str
) -> None:
    response = await client.post(branches, json=custom("n", colour="blue"))

    assert response.status_code == 201
    assert stand_in.record.violations == ["createBranch: $.colour is unknown"]


async def test_unknown_fields_can_be_refused(stand_in: XataStandIn, client: httpx.AsyncClient, branches: str) -> None:
    stand_in.behaviour.unknown_fields_are_refused = True

    top = await client.post(branches, json=custom("n", colour="blue"))
    deep = await client.post(branches, json={**custom("n"), "configuration": {**CONFIGURATION, "zone": "a"}})

    assert (top.status_code, message(top)) == (400, "invalid key [colour] in request")
    assert (deep.status_code, message(deep)) == (400, "invalid key [configuration.zone] in request")
    assert stand_in.creates == {}


async def test_a_right_request_is_no_violation(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str, template: str
) -> None:
    scale = {"enabled": True, "inactivityPeriodMinutes": 15}

    await client.post(branches, json=custom("a", scaleToZero=scale, description="user 1-2"))
    await client.post(branches, json=inherit("b", template, scaleToZero=scale))
    await client.patch(f"{branches}/{template}", json={"hibernate": False})

    assert stand_in.record.violations == []


async def test_broken_json_comes_back_as_the_framework_wraps_it(client: httpx.AsyncClient, branches: str) -> None:
    response = await client.post(branches, content=b"{", headers={"Content-Type": "application/json"})

    assert response.status_code == 400
    assert message(response) == "code=400, message=unexpected EOF, internal=unexpected EOF"


async def test_another_content_type_is_400_here(client: httpx.AsyncClient, branches: str) -> None:
    response = await client.post(branches, content=b"name=a", headers={"Content-Type": "text/plain"})

    assert (response.status_code, message(response)) == (400, "code=415, message=Unsupported Media Type")


async def test_an_empty_body_is_one_without_a_name(client: httpx.AsyncClient, branches: str) -> None:
    response = await client.post(branches)

    assert (response.status_code, message(response)) == (400, "invalid parameter [name]: branch name is required")


async def test_a_taken_name_is_409(client: httpx.AsyncClient, branches: str, template: str) -> None:
    response = await client.post(branches, json=inherit("template", template))

    assert (response.status_code, message(response)) == (409, "branch [template] already exists")


async def test_one_name_in_two_projects_is_two_branches(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str
) -> None:
    other = f"/projects/{stand_in.add_project('other')}/branches"

    assert (await client.post(branches, json=custom("user_1"))).status_code == 201
    assert (await client.post(other, json=custom("user_1"))).status_code == 201


async def test_an_unknown_parent_is_404(client: httpx.AsyncClient, branches: str) -> None:
    response = await client.post(branches, json=inherit("n", "a" * 26))

    assert (response.status_code, message(response)) == (404, f"Branch [{'a' * 26}]: not found")


async def test_a_parent_counts_only_in_its_own_project(
    stand_in: XataStandIn, client: httpx.AsyncClient, template: str
) -> None:
    other = stand_in.add_project("other")

    response = await client.post(f"/projects/{other}/branches", json=inherit("n", template))

    assert (response.status_code, message(response)) == (404, f"Branch [{template}]: not found")


async def test_an_unknown_project_is_404(client: httpx.AsyncClient) -> None:
    response = await client.post("/projects/prj_x/branches", json=custom("n"))

    assert (response.status_code, message(response)) == (404, "project [prj_x] not found")


@pytest.mark.parametrize("status", [StatusType.TRANSIENT, StatusType.FAULT, StatusType.HIBERNATED])
async def test_a_parent_that_is_not_healthy_is_412(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str, template: str, status: StatusType
) -> None:
    stand_in.force_status(template, status)

    response = await client.post(branches, json=inherit("n", template))

    assert response.status_code == 412
    assert message(response) == f"Cannot create child branch because parent branch [{template}] is not healthy"
    assert stand_in.creates == {}


async def test_a_hibernated_parent_can_be_declared_healthy(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str, template: str
) -> None:
    stand_in.behaviour.hibernated_parent_is_healthy = True
    stand_in.hibernate(template)

    assert (await client.post(branches, json=inherit("n", template))).status_code == 201


async def test_switched_off_creation_is_503_with_30_s(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str
) -> None:
    stand_in.behaviour.branch_creation_disabled = True

    response = await client.post(branches, json=custom("n"), headers={"X-Request-Id": "mine"})

    assert (response.status_code, response.headers["retry-after"]) == (503, "30")
    assert message(response) == "Service temporarily unavailable. Please try again later. (Request ID: mine)"


async def test_children_can_be_switched_off_alone(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str, template: str
) -> None:
    stand_in.behaviour.child_branch_creation_disabled = True

    assert (await client.post(branches, json=inherit("child", template))).status_code == 503
    assert (await client.post(branches, json=custom("root"))).status_code == 201


async def test_the_tree_has_a_depth(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str, template: str
) -> None:
    stand_in.behaviour.max_depth = 2
    child = await created(client, branches, inherit("child", template))

    response = await client.post(branches, json=inherit("grandchild", child))

    assert response.status_code == 400
    assert message(response) == (
        f"BranchID [{child}]: a child branch would exceed the maximum depth of the branch tree (2). "
        "Please, remove a depth level or use a different parent"
    )


async def test_only_children_have_a_limit_of_children(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str, template: str
) -> None:
    stand_in.behaviour.max_children = 1
    child = await created(client, branches, inherit("child", template))

    answers = [
        (await client.post(branches, json=inherit(name, parent))).status_code
        for name, parent in (("b", template), ("c", template), ("d", child), ("e", child))
    ]

    assert answers == [201, 201, 201, 400]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({}, "[all]: branch [{0}]: at least one of the request fields needs to be set"),
        ({"replicas": -1}, "[configuration]: branch [{0}]: cannot set number of replicas to less than 0"),
        ({"instanceType": "x"}, "[configuration]: branch [{0}]: unknown instance type x"),
        ({"image": "postgres:18.0"}, "[image]: no major version upgrades supported: 18 is different than current 17"),
        ({"image": "postgres:17.5"}, "[image]: new minor: 5 is older than current  9"),
        (
            {"storage": 5},
            "[configuration]: storage size cannot be decreased (current: 10Gi, requested: 5Gi)",
        ),
        (
            {"image": "postgres:17.9", "instanceType": "xata.small"},
            f"[image]: {TOGETHER}",
        ),
    ],
)
async def test_a_wrong_change_is_400(
    client: httpx.AsyncClient, branches: str, template: str, change: dict[str, Any], text: str
) -> None:
    response = await client.patch(f"{branches}/{template}", json=change)

    expected = f"Branch [{template}]: invalid parameter {text.format(template)}"
    assert (response.status_code, message(response)) == (400, expected)


async def test_a_change_can_be_forbidden_or_conflict(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str, template: str
) -> None:
    stand_in.behaviour.updates_forbidden = True
    forbidden = await client.patch(f"{branches}/{template}", json={"hibernate": False})
    stand_in.behaviour.updates_forbidden = False
    stand_in.behaviour.conflicting_updates = 1
    conflict = await client.patch(f"{branches}/{template}", json={"hibernate": False})
    again = await client.patch(f"{branches}/{template}", json={"hibernate": False})

    assert (forbidden.status_code, message(forbidden)) == (
        403,
        f"Branch [{template}] update is temporarily unavailable",
    )
    assert (conflict.status_code, message(conflict)) == (
        409,
        f"branch [{template}] was modified concurrently, please retry",
    )
    assert again.status_code == 200


async def test_an_unknown_branch_is_404_everywhere(client: httpx.AsyncClient, branches: str) -> None:
    path = f"{branches}/{'b' * 26}"

    answers = [
        await client.get(path),
        await client.patch(path, json={"name": "x"}),
        await client.delete(path),
        await client.get(f"{path}/credentials?username=xata"),
        await client.post(f"{path}/credentials/rotate", json={"username": "xata"}),
    ]

    assert [answer.status_code for answer in answers] == [404] * 5
    assert {message(answer) for answer in answers[:3]} == {f"branch [{'b' * 26}] not found"}
    assert {message(answer) for answer in answers[3:]} == {f"Branch [{'b' * 26}]: not found"}
