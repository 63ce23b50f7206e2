"""Databases on Xata through the real programs: three copies of the consumer against a stand-in that fails.

`--xata-users 500` makes it as long as one likes; the counts are printed with -s.
"""

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from local.postgres import PostgresCluster
from local.xata import Behaviour, Fault, Garbling, XataStandIn
from tests.support.broker import depth
from tests.support.eventually import eventually
from tests.support.programs import System, system

FAILING: Final = 0.3
REQUESTS_PER_S: Final = 100.0
HEALTHY_AFTER_S: Final = 2.0
# A request that hangs costs a real consumer half a minute, so only those who ask for many users wait for some.
MANY_USERS: Final = 100
HANGS: Final = (Fault.hang(), Fault.hang(acts=True))
WAYS: Final = (
    *(Fault.answer(status, acts=acts) for status in (500, 502) for acts in (False, True)),
    *(Fault.answer(status, retry_after_s=1.0) for status in (429, 503)),
    *(Fault.reset(acts=acts) for acts in (False, True)),
    Fault.cut(7),
    *(Fault.garble(garbling) for garbling in Garbling),
)


@pytest.fixture
async def stand_in(postgres: PostgresCluster) -> AsyncIterator[XataStandIn]:
    behaviour = Behaviour(visible_after_s=0.2, credentials_after_s=1.0, healthy_after_s=HEALTHY_AFTER_S)
    async with XataStandIn(postgres_url=postgres.url("postgres"), behaviour=behaviour) as running:
        yield running


def _environment(stand_in: XataStandIn) -> dict[str, str]:
    return {
        "DATABASE_PROVIDER": "xata",
        "XATA_API_URL": stand_in.url,
        "XATA_API_KEY": stand_in.api_key,
        "XATA_ORGANIZATION": stand_in.organization,
        "XATA_PROJECT_PREFIX": "tenants-",
        "XATA_REQUESTS_PER_S": str(REQUESTS_PER_S),
        "XATA_TEMPLATES": "us-east-1=template,eu-central-1=template",
    }


async def test_a_user_comes_and_goes(
    tmp_path: Path, amqp_url: str, database_url: str, pool: Any, stand_in: XataStandIn
) -> None:
    environment = _environment(stand_in)
    async with system(tmp_path, amqp_url=amqp_url, database_url=database_url, environment=environment) as usher:
        (answer,) = (await usher.send("user.created")).answers
        user = answer.webhook.user_id
        await eventually(lambda: _states(pool, {"ready": 1}), timeout_s=60, what="ready")
        assert [branch.name for branch in stand_in.live_branches()].count(user) == 1
        await usher.send("user.deleted", user_id=user)
        await eventually(lambda: _states(pool, {"deleted": 1}), timeout_s=60, what="deleted")
        assert user not in [branch.name for branch in stand_in.live_branches()]
    assert list(stand_in.record.violations) == []


async def test_every_user_gets_one_database_whatever_xata_does(
    tmp_path: Path,
    amqp_url: str,
    database_url: str,
    pool: Any,
    stand_in: XataStandIn,
    pytestconfig: pytest.Config,
) -> None:
    users = pytestconfig.getoption("xata_users")
    environment = _environment(stand_in)
    async with system(
        tmp_path, amqp_url=amqp_url, database_url=database_url, copies=3, environment=environment
    ) as usher:
        ways = (*WAYS, *HANGS) if users >= MANY_USERS else WAYS
        for way in ways:
            share = FAILING / len(ways) / (1 - FAILING / 2)
            stand_in.faults.add(Fault.read({**way.as_json(), "probability": share}))
        await _sign_up(usher, users)
        await eventually(lambda: _states(pool, {"ready": users}), timeout_s=100 + users * 2, every_s=0.5, what="ready")
        stand_in.faults.clear()
        assert [await depth(amqp_url, f"usher.{name}.dead") for name in ("provision_database", "sync_user")] == [0, 0]
    live = Counter(branch.name for branch in stand_in.live_branches() if branch.name.startswith("user_"))
    named = {row["name"]: row["provider_id"] for row in await pool.fetch("select name, provider_id from databases")}
    assert live == Counter(dict.fromkeys(named, 1))
    assert {branch.id for branch in stand_in.live_branches()} >= set(named.values())
    assert max(count for name, count in stand_in.creates.items() if name in named) == 1
    assert stand_in.pace(1.0) <= REQUESTS_PER_S * 1.1 + 1
    faults = sum(request.fault is not None for request in stand_in.requests)
    assert faults > 0.2 * len(stand_in.requests)
    projects = Counter(row["project"] for row in await pool.fetch("select project from databases"))
    assert max(projects.values()) <= 100
    print(  # noqa: T201 - the figures for whoever runs it with -s
        f"users {users} · databases {len(live)} · twice 0 · dead letters 0 · projects {len(projects)} "
        f"(most {max(projects.values())}) · requests {len(stand_in.requests)}, failed on purpose {faults} · "
        f"most in a second {stand_in.pace(1.0)} of {REQUESTS_PER_S:g} allowed",
    )


async def _sign_up(usher: System, users: int) -> None:
    tally = await usher.send("user.created", count=users, duplicate_share=0.3, shuffle=True, seed=3)
    assert Counter(answer.status for answer in tally.answers) == {202: len(tally.answers)}


async def _states(pool: Any, expected: dict[str, int]) -> bool:
    return dict(await pool.fetch("select state, count(*) from databases group by state")) == expected
