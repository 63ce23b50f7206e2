"""Long histories, duplicated and shuffled, through three copies of each consumer: the tables equal the model.

`--webhooks 10000` makes it as long as one likes; the counts are printed with -s.
"""

from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

from cli.posting import Webhook
from tests.support.broker import depth
from tests.support.eventually import eventually
from tests.support.programs import System, system

UPDATES: Final = ("user.updated",) * 12
DUPLICATES: Final = 0.3
PER_PAIR: Final = 2 * (1 + len(UPDATES)) + 1
WAITING: Final = ("", ".retry.5s", ".retry.30s", ".retry.5m", ".retry.30m", ".retry.2h")


async def test_any_order_and_any_number_of_duplicates_end_in_the_model(
    tmp_path: Path,
    amqp_url: str,
    database_url: str,
    pool: Any,
    pytestconfig: pytest.Config,
) -> None:
    pairs = max(1, round(pytestconfig.getoption("webhooks") / (1 + DUPLICATES) / PER_PAIR))
    async with system(tmp_path, amqp_url=amqp_url, database_url=database_url, copies=3) as usher:
        accepted = await _send(usher, pairs)
        alive, gone = _model(accepted)

        async def settled() -> bool:
            states = dict(await pool.fetch("select state, count(*) from databases group by state"))
            return states == {"ready": len(alive), "deleted": len(gone)} and not await _waiting(amqp_url)

        await eventually(settled, timeout_s=100 + len(accepted) / 20, every_s=0.5, what="everything settled")
    rows = await pool.fetch("select user_id, updated_at from users")
    assert {row["user_id"]: round(row["updated_at"].timestamp() * 1000) for row in rows} == alive
    assert await _user_databases(pool, "ready") == await _existing(pool) == {f"{user}" for user in alive}
    dead = {queue: await depth(amqp_url, f"usher.{queue}.dead") for queue in ("sync_user", "provision_database")}
    assert dead == {"sync_user": 0, "provision_database": 0}
    print(_counts(accepted, alive, gone))  # noqa: T201 - the figures for whoever runs it with -s


async def _send(usher: System, pairs: int) -> list[Webhook]:
    """Half of the users leave in the end; everybody's webhooks are doubled and shuffled."""
    orders = [("user.created", *UPDATES, "user.deleted"), ("user.created", *UPDATES)]
    tallies = [
        await usher.send(*types, count=pairs, seed=seed, duplicate_share=DUPLICATES, shuffle=True, concurrency=50)
        for seed, types in enumerate(orders)
    ]
    answers = [answer for tally in tallies for answer in tally.answers]
    assert Counter(answer.status for answer in answers) == {202: len(answers)}
    return [answer.webhook for answer in answers]


def _model(accepted: list[Webhook]) -> tuple[dict[str, int], set[str]]:
    """Who lives, with the time of the last change, and who is gone; computed from what was accepted alone."""
    gone = {webhook.user_id for webhook in accepted if webhook.type == "user.deleted"}
    alive: dict[str, int] = {}
    for webhook in accepted:
        if webhook.user_id not in gone:
            alive[webhook.user_id] = max(webhook.at_ms, alive.get(webhook.user_id, 0))
    return alive, gone


async def _user_databases(pool: Any, state: str) -> set[str]:
    return {row["name"] for row in await pool.fetch("select name from databases where state = $1", state)}


async def _existing(pool: Any) -> set[str]:
    """The users' databases that are there, of all that this run has ever named."""
    statement = "select datname from pg_database where datname in (select name from databases)"
    return {row["datname"] for row in await pool.fetch(statement)}


async def _waiting(amqp_url: str) -> int:
    queues = ("usher.sync_user", "usher.provision_database")
    return sum([await depth(amqp_url, queue + rung) for queue in queues for rung in WAITING])


def _counts(accepted: list[Webhook], alive: dict[str, int], gone: set[str]) -> str:
    distinct = len({webhook.message_id for webhook in accepted})
    return (
        f"accepted {len(accepted)} · distinct {distinct} · duplicates {len(accepted) - distinct} · "
        f"users left {len(alive)} · users gone {len(gone)} · dead letters 0"
    )
