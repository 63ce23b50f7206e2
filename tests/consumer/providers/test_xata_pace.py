"""All copies of the consumer keep one pace together, and the hourly caps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from consumer.providers.protocol import QuotaBlocked
from consumer.providers.xata.pace import Pace
from local.ports import free_port
from local.xata.record import densest
from shared import postgres
from shared.errors import DependencyDown, NotYet


@pytest.fixture
async def other_pool(database_url: str) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    pool = await postgres.create_pool(database_url, max_size=5, name="another copy")
    yield pool
    await pool.close()


def _pace(pool: asyncpg.Pool[asyncpg.Record], *, requests_per_s: float = 50, patience_s: float = 10.0) -> Pace:
    return Pace(pool, requests_per_s=requests_per_s, patience_s=patience_s)


async def test_two_copies_together_are_never_faster_than_the_pace(
    pool: asyncpg.Pool[asyncpg.Record], other_pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    turns: list[float] = []

    async def work(pace: Pace) -> None:
        for _ in range(5):
            await pace.turn()
            turns.append(time.monotonic())

    began = time.monotonic()
    await asyncio.gather(*(work(_pace(each)) for each in (pool, other_pool) for _ in range(4)))

    # 40 turns at 50 a second: 39 distances, whoever took them.
    assert time.monotonic() - began >= 39 / 50 - 0.05
    assert densest(turns, 0.2) <= 0.2 * 50 + 2  # as sharp as this machine's clocks and scheduler are
    assert len(turns) == 40


async def test_the_first_turn_comes_at_once_also_after_a_rest(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    pace = _pace(pool, requests_per_s=0.5, patience_s=0.0)
    await pace.turn()
    with pytest.raises(NotYet):
        await pace.turn()
    await pool.execute("update xata_pace set free_at = free_at - interval '2 hours'")

    await pace.turn()

    with pytest.raises(NotYet):  # the rest was not saved up
        await pace.turn()


async def test_who_would_wait_too_long_is_sent_away_and_takes_no_turn(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    pace = _pace(pool, requests_per_s=0.1, patience_s=1.0)
    await pace.turn()

    waits = []
    for _ in range(3):
        with pytest.raises(NotYet) as caught:
            await pace.turn()
        waits.append(caught.value.retry_after_s)

    assert all(8 < wait_s <= 10 for wait_s in waits)


async def test_when_xata_asks_for_patience_all_copies_wait(
    pool: asyncpg.Pool[asyncpg.Record], other_pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    await _pace(pool).hold(30)
    await _pace(pool).hold(1)  # the longer one stays

    with pytest.raises(NotYet) as caught:
        await _pace(other_pool).turn()

    assert 28 < caught.value.retry_after_s <= 30


async def test_a_pause_in_creating_stops_no_other_request(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    pace = _pace(pool)
    await pace.creating_allowed()
    await pace.pause_creating(30)

    await pace.turn()
    with pytest.raises(NotYet) as caught:
        await pace.creating_allowed()

    assert 28 < caught.value.retry_after_s <= 30


async def test_copies_that_claim_at_once_never_exceed_the_hours_creations(
    pool: asyncpg.Pool[asyncpg.Record], other_pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    claims = [_pace(each).claim("branch", 7) for each in (pool, other_pool) for _ in range(10)]

    results = await asyncio.gather(*claims, return_exceptions=True)

    blocked = [result for result in results if isinstance(result, QuotaBlocked)]
    assert len([result for result in results if isinstance(result, int)]) == 7
    assert len(blocked) == 13
    assert all(3590 < error.retry_after_s <= 3600 for error in blocked)


async def test_the_hour_rolls_and_what_did_not_come_about_does_not_count(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    pace = _pace(pool)
    first = await pace.claim("branch", 1)
    with pytest.raises(QuotaBlocked):
        await pace.claim("branch", 1)
    await pace.claim("project", 1)

    await pace.refund(first)
    await pace.claim("branch", 1)
    await pool.execute("update xata_creations set created_at = created_at - interval '61 minutes'")
    await pace.claim("branch", 1)

    await pool.execute("update xata_creations set created_at = created_at - interval '3 hours'")
    await pace.claim("branch", 1)
    assert await pool.fetchval("select count(*) from xata_creations where kind = 'branch'") == 1


async def test_a_minutes_creations_are_one_row_however_many_they_are(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    pace = _pace(pool)
    for _ in range(5):
        await pace.claim("branch", 1000)
    assert await pool.fetchval("select array_agg(creations) from xata_creations") == [5]

    await pool.execute("update xata_creations set began_at = began_at - interval '1 minute'")
    await pace.refund(await pace.claim("branch", 1000))

    assert await pool.fetchval("select array_agg(creations order by creation_id) from xata_creations") == [5, 0]


async def test_without_a_cap_nothing_is_counted(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    pace = _pace(pool)

    await pace.refund(await pace.claim("branch", None))

    assert await pool.fetchval("select count(*) from xata_creations") == 0


async def test_without_postgres_nothing_is_sent() -> None:
    pool = await postgres.create_pool(f"postgresql://u:p@127.0.0.1:{free_port()}/x", max_size=1, name="nowhere")

    with pytest.raises(DependencyDown):
        await _pace(pool).turn()

    await pool.close()
