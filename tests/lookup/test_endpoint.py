"""The answers over HTTP, from the real table. Every one of them is held to docs/openapi.yaml (asker.py)."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import Any

import asyncpg
import pytest
import structlog

from local.postgres import PostgresCluster
from lookup import databases, watch
from tests.consumer.provisioning import World, new_user, postgres_provider
from tests.lookup.asker import OTHER_TOKEN, TOKEN, Answered, Asker, Table
from tests.support.events import user_event
from tests.support.eventually import eventually


async def test_a_database_that_the_consumer_made_is_told_with_its_place_and_without_its_login(
    asker: Asker, pool: asyncpg.Pool[asyncpg.Record], postgres: PostgresCluster
) -> None:
    user = new_user()
    provider = postgres_provider(postgres.url("postgres"))
    world = World(pool, provider)
    await world.effect()(user_event("user.created", user))
    await provider.close()

    answered = await asker.about(user)

    assert answered.status == 200
    body = answered.json
    assert body.pop("ready_at").startswith("20")
    assert body == {
        "user_id": user,
        "state": "ready",
        "provider": "postgres",
        "project": None,
        "name": user,
        "region": "local",
        "host": f"127.0.0.1:{postgres.port}",
        "schema_version": 1,
        "erase_after": None,
    }
    assert postgres.password not in answered.text
    await pool.execute(f'drop database "{user}" with (force)')


async def test_a_held_database_is_told_with_the_time_until_which_it_stays(asker: Asker, table: Table) -> None:
    await table.put("user_1", "held")
    answered = await asker.about("user_1")
    assert answered.status == 200
    assert answered.json["erase_after"] > answered.json["ready_at"]


async def test_a_held_database_whose_time_has_come_is_gone(asker: Asker, table: Table) -> None:
    await table.put("user_1", "held", held_s=-1)
    answered = await asker.about("user_1")
    assert (answered.status, answered.json["state"]) == (410, "deleting")


@pytest.mark.parametrize("state", ["requested", "creating", "quota_blocked", "failed"])
async def test_what_is_not_there_yet_is_answered_202_and_when_to_ask_again(
    asker: Asker, table: Table, state: str
) -> None:
    await table.put("user_1", state)
    answered = await asker.about("user_1")
    assert (answered.status, answered.json["state"]) == (202, state)
    assert int(answered.headers["Retry-After"]) >= 1


async def test_why_it_failed_is_an_operator_s_business(asker: Asker, table: Table) -> None:
    await table.put("user_1", "failed")
    assert "secret" not in (await asker.about("user_1")).text


@pytest.mark.parametrize("state", ["deleting", "deleted"])
async def test_what_is_deleted_is_answered_410(asker: Asker, table: Table, state: str) -> None:
    await table.put("user_1", state)
    answered = await asker.about("user_1")
    assert (answered.status, answered.json["state"]) == (410, state)


@pytest.mark.parametrize(
    "user_id",
    ["user_unknown", "a%2Fb", "%00", "user_1%00", "%ED%A0%80", "%", "%zz", "..%2f", "'; drop table x; --", "x" * 300],
)
async def test_a_user_that_nobody_knows_is_answered_404_however_odd_the_id(
    asker: Asker, table: Table, user_id: str
) -> None:
    await table.put("user_1", "ready")
    answered = await asker.about(user_id)
    assert (answered.status, answered.json["code"]) == (404, "unknown_user")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Authorization", "")],
        [("Authorization", "Bearer")],
        [("Authorization", "Bearer ")],
        [("Authorization", TOKEN)],
        [("Authorization", f"Basic {TOKEN}")],
        [("Authorization", f"Bearer {TOKEN}x")],
        [("Authorization", f"Bearer {TOKEN[:-1]}")],
        [("Authorization", f"Bearer {TOKEN.upper()}")],
        [("Authorization", f"Bearer {TOKEN}, {OTHER_TOKEN}")],
        [("Authorization", f"Bearer {TOKEN}"), ("Authorization", f"Bearer {TOKEN}")],
        [("Authorization", "Bearer ü\udcff")],
        [("X-Token", TOKEN)],
    ],
)
async def test_without_one_good_token_nothing_is_told(
    asker: Asker, table: Table, headers: list[tuple[str, str]]
) -> None:
    await table.put("user_1", "ready")
    answered = await asker.request("GET", "/users/user_1/database", headers=headers)
    assert (answered.status, answered.json["code"]) == (401, "unauthorized")


@pytest.mark.parametrize("shown", [f"Bearer {TOKEN}", f"bearer {OTHER_TOKEN}", f"BEARER   {TOKEN}"])
async def test_each_of_several_tokens_is_good(asker: Asker, table: Table, shown: str) -> None:
    await table.put("user_1", "ready")
    answered = await asker.request("GET", "/users/user_1/database", headers=[("Authorization", shown)])
    assert answered.status == 200


@pytest.mark.parametrize("path", ["/", "/users", "/users//database", "/users/a/b/database", "/users/a", "/livez", "/x"])
async def test_another_path_is_answered_404_and_without_a_token_not_even_that(asker: Asker, path: str) -> None:
    with_token, without = await asker.request("GET", path), await asker.request("GET", path, headers=[])
    assert (with_token.status, with_token.json["code"]) == (404, "not_found")
    assert with_token.headers["Content-Type"] == "application/problem+json"
    assert without.status == 401


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
async def test_another_method_is_answered_405(asker: Asker, method: str) -> None:
    answered = await asker.request(method, "/users/user_1/database")
    assert (answered.status, answered.headers["Allow"]) == (405, "GET")


@pytest.mark.parametrize("wait", ["-1", "26", "100", "1.5", "soon", "", " 1", "1e1", "٣"])
async def test_a_wait_that_cannot_be_is_answered_400(asker: Asker, wait: str) -> None:
    answered = await asker.about("user_1", wait=wait)
    assert (answered.status, answered.json["code"]) == (400, "bad_wait")


async def test_two_waits_are_none(asker: Asker) -> None:
    answered = await asker.request("GET", "/users/user_1/database", params=[("wait", "1"), ("wait", "2")])
    assert answered.status == 400


async def test_who_waits_is_answered_as_soon_as_it_is_there(asker: Asker, table: Table) -> None:
    await table.put("user_1", "creating")
    asking = await waiting(asker, "user_1")
    await table.set_state("user_1", "ready")
    changed = time.monotonic()
    assert (await asking).status == 200
    assert time.monotonic() - changed < 5


async def test_who_waits_is_answered_when_the_webhook_comes_only_later(asker: Asker, table: Table) -> None:
    asking = await waiting(asker, "user_1")
    await table.put("user_1", "creating")
    await table.set_state("user_1", "ready")
    assert (await asking).status == 200


@pytest.mark.parametrize(("state", "status"), [("failed", 202), ("quota_blocked", 202), ("deleting", 410)])
async def test_who_waits_is_answered_at_once_when_it_is_of_no_use(
    asker: Asker, table: Table, state: str, status: int
) -> None:
    await table.put("user_1", "creating")
    asking = await waiting(asker, "user_1")
    await table.set_state("user_1", state)
    answered = await asking
    assert (answered.status, answered.json["state"]) == (status, state)


async def test_who_waits_is_answered_how_far_it_is_when_the_time_is_over(asker: Asker, table: Table) -> None:
    await table.put("user_1", "requested")
    started = time.monotonic()
    asking = await waiting(asker, "user_1", wait=2)
    await table.set_state("user_1", "creating")
    answered = await asking
    assert (answered.status, answered.json["state"]) == (202, "creating")
    assert 2 <= time.monotonic() - started < 6


async def test_a_user_who_stays_unknown_is_answered_404_when_the_time_is_over(asker: Asker) -> None:
    assert (await asker.about("user_1", wait=1)).status == 404


async def test_many_who_wait_ask_postgres_no_more_often_than_one(
    asker: Asker, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = [f"user_{number}" for number in range(50)]
    for user in users:
        await table.put(user, "creating")

    async def about(user: str) -> Answered:
        """A busy machine may not have the first look in time: that is answered 503, and asked again."""
        while (answered := await asker.about(user, wait=25)).status == HTTPStatus.SERVICE_UNAVAILABLE:
            pass
        return answered

    asking = [asyncio.create_task(about(user)) for user in users]
    await eventually(lambda: _are_waiting(asker, 50))
    selects = _counted(monkeypatch)
    started = time.monotonic()
    await eventually(lambda: len(selects) >= 6, what="several looks")
    at_most = (time.monotonic() - started) / watch.POLL_INTERVAL_S + 1
    assert len(selects) <= at_most
    assert {len(ids) for ids in selects} == {50}

    await table.pool.execute("update databases set state = 'ready', ready_at = now()")
    assert {answered.status for answered in await asyncio.gather(*asking)} == {200}


async def test_more_than_can_wait_are_answered_at_once(
    asker: Asker, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "MAX_WAITING", 1)
    await table.put("user_1", "creating")
    first = await waiting(asker, "user_1")
    started = time.monotonic()
    assert (await asker.about("user_1", wait=25)).status == 202
    assert time.monotonic() - started < 5
    await table.set_state("user_1", "ready")
    assert (await first).status == 200


async def test_who_hangs_up_waits_no_more(asker: Asker) -> None:
    asking = await waiting(asker, "user_1")
    asking.cancel()
    await eventually(lambda: _are_waiting(asker, 0))


async def test_one_line_tells_of_a_request_and_only_ids(asker: Asker, table: Table) -> None:
    await table.put("user_1", "ready")
    await table.put("ada@example.org", "ready")
    with structlog.testing.capture_logs() as lines:
        await asker.about("user_1", wait=3)
        await asker.about("ada@example.org")
        await asker.request("GET", "/users/user_1/database", headers=[("Authorization", "Bearer a-secret-guess")])
    said = [(line["event"], line["status"], line["state"], line["user_id"], line["wait_s"]) for line in lines]
    assert said == [
        ("lookup_answered", 200, "ready", "user_1", 3),
        ("lookup_answered", 200, "ready", None, 0),
        ("lookup_answered", 401, None, None, 0),
    ]
    assert "ada@" not in str(lines)
    assert "guess" not in str(lines)


async def test_a_bug_is_answered_503_and_logged_without_its_text(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise KeyError("ada@example.org")

    monkeypatch.setattr(databases.Databases, "_select", broken)
    with structlog.testing.capture_logs() as lines:
        answered = await asker.about("user_1")
    assert answered.status == 503
    assert "ada@" not in str(lines)
    assert {"lookup_failed", "lookup_answered"} <= {line["event"] for line in lines}


async def test_the_answers_are_counted_by_status_and_state(asker: Asker, table: Table) -> None:
    await table.put("user_1", "ready")
    await asker.about("user_1")
    await asker.about("user_unknown")
    metrics = (await asker.internal("/metrics")).text
    assert 'usher_lookups_total{state="ready",status="200"} 1.0' in metrics
    assert 'usher_lookups_total{state="none",status="404"} 1.0' in metrics


async def waiting(asker: Asker, user_id: str, wait: int = 25) -> asyncio.Task[Answered]:
    """Somebody who has begun to wait."""
    asking = asyncio.create_task(asker.about(user_id, wait=wait))
    await eventually(lambda: _are_waiting(asker, 1))
    return asking


async def _are_waiting(asker: Asker, count: int) -> bool:
    return await asker.waiting() == count


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What Postgres is asked from now on."""
    selects: list[list[str]] = []
    original = databases.Databases._select

    async def select(self: databases.Databases, user_ids: Any) -> Any:
        selects.append(list(user_ids))
        return await original(self, user_ids)

    monkeypatch.setattr(databases.Databases, "_select", select)
    return selects
