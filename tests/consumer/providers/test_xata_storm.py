"""Many users through three copies against a Xata that fails in every way: one branch each, no dead letter."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Final

import pytest

from consumer.database_state import State
from consumer.outcome import Ack, DeadLetter, Retry, decide
from consumer.providers.regions import RegionMap
from consumer.providers.xata.configuration import BranchWishes, PoolWishes
from consumer.provision_database import ProvisionDatabase
from local.xata import Fault, Garbling, XataStandIn
from shared.events import UserEvent
from tests.consumer.providers.xata_account import REGION, SOON, Account
from tests.consumer.provisioning import WEEK, World, new_user
from tests.support.events import user_event

USERS: Final = 40
FAILING: Final = 0.3
REQUESTS_PER_S: Final = 100.0
WAYS: Final = (
    Fault.answer(500),
    Fault.answer(500, acts=True),
    Fault.answer(502, acts=True),
    Fault.answer(503, retry_after_s=0.0),
    Fault.answer(429, retry_after_s=0.0),
    Fault.hang(),
    Fault.hang(acts=True),
    Fault.reset(),
    Fault.reset(acts=True),
    Fault.cut(7),
    *(Fault.garble(garbling) for garbling in Garbling),
)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("templates", [{}, {REGION: ("template-us",)}], ids=["custom", "inherit"])
async def test_every_user_gets_one_healthy_database(
    account: Account, stand_in: XataStandIn, templates: dict[str, tuple[str, ...]]
) -> None:
    stand_in.behaviour.max_branches_per_project = 15
    copies = [_copy(account, templates) for _ in range(3)]
    users = [new_user() for _ in range(USERS)]
    for way in WAYS:
        share = FAILING / len(WAYS) / (1 - FAILING / 2)
        stand_in.faults.add(Fault.read({**way.as_json(), "probability": share}))
    events = [user_event("user.created", user, event_id=f"msg_{user}") for user in users * 2]
    random.Random(7).shuffle(events)  # every user twice

    outcomes = await _work_off(copies, events)

    stand_in.faults.clear()
    assert set(outcomes) == {Ack}
    names = Counter(branch.name for branch in stand_in.live_branches() if branch.name != "template-us")
    assert names == Counter(users)
    assert all(count == 1 for name, count in stand_in.creates.items() if name != "template-us")
    rows = [await copies[0].row(user) for user in users]
    assert {row.state for row in rows} == {State.READY}
    assert {row.provider_id for row in rows} == {
        branch.id for branch in stand_in.live_branches() if branch.name in names
    }
    assert stand_in.pace(1.0) <= REQUESTS_PER_S * 1.1 + 1
    assert 0.2 < sum(request.fault is not None for request in stand_in.requests) / len(stand_in.requests) < 0.4


def _copy(account: Account, templates: dict[str, tuple[str, ...]]) -> World:
    provider = account.provider(
        pool=PoolWishes(prefix="tenants-", most=4),
        branch=BranchWishes(templates=templates),
        waiting=SOON,
        requests_per_s=REQUESTS_PER_S,
    )
    return World(account.pool, provider)


async def _work_off(copies: list[World], events: list[UserEvent]) -> Counter[type]:
    """As consumers and their retry ladder do, only sooner."""
    waiting = asyncio.Queue[tuple[UserEvent, int]]()
    for event in events:
        waiting.put_nowait((event, 1))
    outcomes: Counter[type] = Counter()

    async def work(effect: ProvisionDatabase) -> None:
        while outcomes.total() < len(events):
            try:
                event, attempt = await asyncio.wait_for(waiting.get(), timeout=0.5)
            except TimeoutError:
                continue
            match decide(await _error_of(effect, event), attempt):
                case Retry(attempt=again):
                    await asyncio.sleep(0.05)
                    waiting.put_nowait((event, again))
                case Ack() | DeadLetter() as last:
                    outcomes[type(last)] += 1

    regions = RegionMap.single(REGION)
    effects = [ProvisionDatabase(copy.pool, copy.provider, regions, WEEK, copy.announce) for copy in copies]
    await asyncio.gather(*(work(effect) for effect in effects for _ in range(2)))
    return outcomes


async def _error_of(effect: ProvisionDatabase, event: UserEvent) -> Exception | None:
    try:
        await effect(event)
    except Exception as error:  # noqa: BLE001 - every error becomes an outcome
        return error
    return None
