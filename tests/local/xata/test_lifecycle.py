"""A branch's life in time: not seen, transient, healthy, hibernated, awake, faulty."""

import asyncio
import math
import time
from typing import Any

import asyncpg
import httpx
import pytest

from local.xata import StatusType, XataStandIn
from tests.local.xata.wishes import created, custom, healthy, inherit, message, status_type
from tests.support.eventually import eventually

SLEEPY = {"enabled": True, "inactivityPeriodMinutes": 1}


async def _branch(client: httpx.AsyncClient, path: str) -> Any:
    return (await client.get(path)).json()


async def test_a_new_branch_is_listed_at_once_and_seen_later(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str
) -> None:
    stand_in.behaviour.visible_after_s = math.inf
    branch = (await client.post(branches, json=custom("user_1"))).json()["id"]

    listed = (await client.get(branches)).json()["branches"]
    early = await client.get(f"{branches}/{branch}")
    stand_in.behaviour.visible_after_s = 0
    late = await client.get(f"{branches}/{branch}")

    assert [found["id"] for found in listed] == [branch]
    assert (early.status_code, message(early)) == (404, f"Branch [{branch}]: not found")
    assert late.status_code == 200


async def test_it_is_transient_until_it_is_due_and_then_healthy(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str
) -> None:
    stand_in.behaviour.healthy_after_s = 0.4
    began = time.monotonic()
    path = f"{branches}/{(await client.post(branches, json=custom('user_1'))).json()['id']}"

    early = (await _branch(client, path))["status"]
    await healthy(client, path)
    took_s = time.monotonic() - began

    assert early["status"] == "Setting up primary"
    assert early["statusType"] == "STATUS_TYPE_TRANSIENT"
    assert (early["instanceCount"], early["instanceReadyCount"]) == (1, 0)
    assert early["instances"][0]["status"] == "Unknown"
    late = (await _branch(client, path))["status"]
    assert (late["status"], late["instanceReadyCount"]) == ("Cluster in healthy state", 1)
    assert took_s >= 0.4


async def test_nobody_gets_in_before_it_is_healthy(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str
) -> None:
    stand_in.behaviour.healthy_after_s = math.inf
    path = f"{branches}/{(await client.post(branches, json=custom('user_1'))).json()['id']}"
    url = (await client.get(f"{path}/credentials?username=xata")).json()["connectionString"]

    async def refused() -> bool:
        with pytest.raises((asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidPasswordError)) as error:
            await asyncpg.connect(url)
        # While the login is not there at all it is a wrong password.
        return "not permitted to log in" in str(error.value)

    await eventually(refused, what="a login that is there and closed")
    stand_in.behaviour.healthy_after_s = 0
    await healthy(client, path)
    await (await asyncpg.connect(url)).close()


async def test_credentials_are_404_for_a_while(stand_in: XataStandIn, client: httpx.AsyncClient, branches: str) -> None:
    stand_in.behaviour.credentials_after_s = math.inf
    branch = await created(client, branches, custom("user_1"))
    path = f"{branches}/{branch}/credentials?username=xata"

    early = await client.get(path)
    stand_in.behaviour.credentials_after_s = 0
    late = await client.get(path)

    assert (early.status_code, message(early)) == (
        404,
        f"Credentials for username [xata] on branch [{branch}]: not found",
    )
    assert late.status_code == 200


async def test_it_may_say_hibernated_before_its_cluster_is_there(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str
) -> None:
    stand_in.behaviour.hibernated_at_first_s = math.inf
    path = f"{branches}/{(await client.post(branches, json=custom('user_1'))).json()['id']}"

    first = (await _branch(client, path))["status"]
    stand_in.behaviour.hibernated_at_first_s = 0

    assert (first["statusType"], first["instanceCount"], first["instances"]) == ("STATUS_TYPE_HIBERNATED", 0, [])
    await healthy(client, path)


async def test_a_faulty_branch_ends_in_fault_and_stays_there(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str
) -> None:
    stand_in.behaviour.faulty_branches = 1
    faulty = (await client.post(branches, json=custom("a"))).json()["id"]
    await created(client, branches, custom("b"))

    assert await status_type(client, f"{branches}/{faulty}") == "STATUS_TYPE_FAULT"


async def test_a_forced_status_is_said_until_it_is_taken_back(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str, template: str
) -> None:
    path = f"{branches}/{template}"
    said = []
    for status in StatusType:
        stand_in.force_status(template, status)
        said.append(await status_type(client, path))
    stand_in.force_status(template, None)

    assert said == [status.value for status in StatusType]
    assert await status_type(client, path) == "STATUS_TYPE_HEALTHY"


async def test_an_idle_branch_falls_asleep_and_is_woken_by_a_change(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str
) -> None:
    branch = await created(client, branches, custom("user_1", scaleToZero=SLEEPY))
    path = f"{branches}/{branch}"
    stand_in.behaviour.minute_s = 0

    async def sleeps() -> bool:
        return await status_type(client, path) == "STATUS_TYPE_HIBERNATED"

    await eventually(sleeps, every_s=0.02)
    stand_in.behaviour.minute_s, stand_in.behaviour.wake_s = 60, 3600
    await client.patch(path, json={"hibernate": False})
    waking = await status_type(client, path)
    stand_in.branch(branch).awake_at = 0
    await healthy(client, path)

    assert waking == "STATUS_TYPE_TRANSIENT"


async def test_without_scale_to_zero_it_stays_awake(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str, template: str
) -> None:
    stand_in.behaviour.minute_s = 0

    assert await status_type(client, f"{branches}/{template}") == "STATUS_TYPE_HEALTHY"


async def test_a_connection_wakes_it_and_keeps_it_awake(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str
) -> None:
    branch = await created(client, branches, custom("user_1", scaleToZero=SLEEPY))
    path = f"{branches}/{branch}"
    await client.patch(path, json={"hibernate": True})
    asleep = await status_type(client, path)

    connection = await asyncpg.connect(stand_in.connection_url(branch))
    awake = await status_type(client, path)
    await connection.close()

    assert (asleep, awake) == ("STATUS_TYPE_HIBERNATED", "STATUS_TYPE_HEALTHY")


async def test_a_short_connection_that_has_gone_again_has_woken_it(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str
) -> None:
    branch = await created(client, branches, custom("user_1", scaleToZero=SLEEPY))
    path = f"{branches}/{branch}"
    await client.patch(path, json={"hibernate": True})

    await (await asyncpg.connect(stand_in.connection_url(branch))).close()

    async def awake() -> bool:
        return await status_type(client, path) == "STATUS_TYPE_HEALTHY"

    # The server counts sessions a moment later.
    await eventually(awake, every_s=0.02)


async def test_a_sleeping_parent_is_412_until_it_is_woken(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str, template: str
) -> None:
    stand_in.hibernate(template)

    asleep = await client.post(branches, json=inherit("user_1", template))
    await client.patch(f"{branches}/{template}", json={"hibernate": False})
    await healthy(client, f"{branches}/{template}")
    awake = await client.post(branches, json=inherit("user_1", template))

    assert (asleep.status_code, awake.status_code) == (412, 201)


async def test_a_branch_whose_database_cannot_be_made_says_fault(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str, template: str
) -> None:
    await stand_in._databases.drop(stand_in.branch(template).database)

    orphan = (await client.post(branches, json=inherit("user_2", template))).json()["id"]

    async def faulty() -> bool:
        return await status_type(client, f"{branches}/{orphan}") == "STATUS_TYPE_FAULT"

    await eventually(faulty)


async def test_a_branch_that_is_deleted_while_it_comes_up_leaves_nothing(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str, template: str
) -> None:
    for delay_s in (0.0, 0.005, 0.01, 0.02, 0.04, 0.08):
        branch = (await client.post(branches, json=inherit("user_1", template))).json()["id"]
        database = stand_in.branch(branch).database
        await asyncio.sleep(delay_s)  # not a wait: each length meets the creation at another place

        assert (await client.delete(f"{branches}/{branch}")).status_code == 204
        assert not await stand_in._databases.exists(database)
