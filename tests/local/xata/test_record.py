"""What is recorded: every request, its violations, the creations of each name, and the pace."""

import httpx
import pytest

from local.xata import Request, XataStandIn
from local.xata.record import Record, densest
from tests.local.xata.wishes import custom


async def test_every_request_is_recorded_in_order(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str
) -> None:
    await client.post(branches, json=custom("a"))
    await client.get(f"{branches}/nope/credentials", params={"username": "xata"})

    create, credentials = stand_in.requests
    assert (create.operation, create.status, create.acted) == ("createBranch", 201, True)
    assert create.body == custom("a")
    assert (credentials.status, credentials.acted) == (404, False)
    assert credentials.query == {"username": "xata"}
    assert create.at <= credentials.at
    assert create.duration_s is not None


async def test_neither_keys_nor_passwords_are_recorded(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str, template: str
) -> None:
    await client.get(f"{branches}/{template}/credentials", params={"username": "xata"})

    text = f"{stand_in.requests} {[request.as_json() for request in stand_in.requests]}"
    assert stand_in.api_key not in text
    assert stand_in.branch(template).password not in text
    assert stand_in.branch(template).password not in repr(stand_in.branch(template))


async def test_creations_are_counted_by_name_and_refusals_are_not(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str
) -> None:
    for name in ("a", "a", "b"):
        await client.post(branches, json=custom(name))

    assert stand_in.creates == {"a": 1, "b": 1}
    assert len(stand_in.record.of("POST", "createBranch")) == 3


@pytest.mark.parametrize(
    ("times", "window_s", "most"),
    [
        ([], 1.0, 0),
        ([5.0], 1.0, 1),
        ([0.0, 1.0, 2.0], 1.0, 1),
        ([0.0, 0.5, 0.99, 1.0], 1.0, 3),
        ([3.0, 0.0, 0.2, 0.1], 1.0, 3),
        ([0.0, 0.0, 0.0], 0.001, 3),
    ],
)
def test_the_pace_is_the_densest_window(times: list[float], window_s: float, most: int) -> None:
    assert densest(times, window_s) == most


def test_the_pace_can_be_of_one_operation() -> None:
    record = Record()
    for at, operation in ((0.0, "a"), (0.1, "b"), (0.2, "a")):
        record.requests.append(Request("GET", "/", {}, at=at, operation=operation))

    assert record.peak(1.0) == 3
    assert record.peak(1.0, "a") == 2


async def test_the_pace_of_real_requests(stand_in: XataStandIn, client: httpx.AsyncClient) -> None:
    for _ in range(5):
        await client.get("/regions")

    assert stand_in.pace(60.0) == 5
