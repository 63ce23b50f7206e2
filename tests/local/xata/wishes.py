"""Bodies and looks that the tests of the stand-in share."""

from typing import Any

import httpx

from tests.support.eventually import eventually

CONFIGURATION: dict[str, Any] = {
    "region": "us-east-1",
    "image": "postgres:17.9",
    "instanceType": "xata.micro",
    "replicas": 0,
}


def custom(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "mode": "custom", "configuration": CONFIGURATION, **more}


def inherit(name: str, parent: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "mode": "inherit", "parentID": parent, **more}


def message(response: httpx.Response) -> str:
    text = response.json()["message"]
    assert isinstance(text, str)
    return text


async def status_type(client: httpx.AsyncClient, path: str) -> str | None:
    """What a branch says of itself; None while it is not found."""
    response = await client.get(path)
    return response.json()["status"]["statusType"] if response.status_code == 200 else None


async def healthy(client: httpx.AsyncClient, path: str) -> None:
    async def is_healthy() -> bool:
        return await status_type(client, path) == "STATUS_TYPE_HEALTHY"

    await eventually(is_healthy, every_s=0.02, what=f"{path} healthy")


async def created(client: httpx.AsyncClient, branches: str, body: dict[str, Any]) -> str:
    """The id of a branch that was created and has become healthy."""
    response = await client.post(branches, json=body)
    assert response.status_code == 201, response.text
    branch_id = str(response.json()["id"])
    await healthy(client, f"{branches}/{branch_id}")
    return branch_id
