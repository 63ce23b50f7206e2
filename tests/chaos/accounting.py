"""The one accounting for all scenarios: every accepted id is applied, superseded or a dead letter, or it is lost.

In: a world whose breaks are repaired. Out: an `Account`. Compared with the tables, the queues, the dead letters, the
log stream and the databases themselves; nothing that the programs say of themselves is taken for it.
"""

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from cli.posting import Webhook
from shared.topology import dead_queue_of, queue_of
from tests.chaos import broker
from tests.chaos.model import Key, Model, Row, key_of, model_of
from tests.chaos.world import World
from tests.support.eventually import eventually

SYNC_DEAD: Final = dead_queue_of(queue_of("sync_user"))
PROVISION_DEAD: Final = dead_queue_of(queue_of("provision_database"))


@dataclass(frozen=True, slots=True)
class Account:
    """One line of the proof. `applied` counts what is in the tables or was superseded by a greater event."""

    name: str
    sent: int
    refused: int
    accepted: int
    applied: int
    duplicates: int
    dead: int
    lost: int
    registered_s: float | None
    recovered_s: float | None
    problems: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return self.lost == 0 and not self.problems


@dataclass(frozen=True, slots=True)
class Tables:
    """What is in Postgres."""

    keys: dict[str, Key]
    rows: dict[str, Row]
    databases: dict[str, str]
    existing: Counter[str]


def failed(name: str, problem: str) -> Account:
    """Of a scenario that could not be counted."""
    return Account(name, 0, 0, 0, 0, 0, 0, 0, None, None, (problem,))


async def account(world: World) -> Account:
    """Wait until everything is settled, as long as that may take; then count, whether it is or not."""
    webhooks = {webhook_id: webhook for load in world.loads for webhook_id, webhook in load.accepted.items()}
    model = model_of(
        *(_without(webhooks, world.expected_dead.get(queue, set())) for queue in (SYNC_DEAD, PROVISION_DEAD))
    )
    recovered_s = await _settle(world, model)
    tables = await _tables(world)
    dead = await broker.dead_letters(world.amqp_url)
    dead_ids = {queue: {letter.properties["message_id"] for letter in letters} for queue, letters in dead.items()}
    logged = Counter(entry.properties["message_id"] for entry in await broker.logged(world.amqp_url, webhooks))
    lost = {webhook.message_id for webhook in webhooks.values() if is_lost(webhook, tables, model, dead_ids)}
    given_up = {letter for letters in dead_ids.values() for letter in letters}
    return Account(
        name=world.name,
        sent=sum(len(load.webhooks) for load in world.loads),
        refused=sum(load.refused for load in world.loads),
        accepted=len(webhooks),
        applied=len(set(webhooks) - lost - given_up),
        duplicates=logged.total() - len(logged),
        dead=sum(len(letters) for letters in dead.values()),
        lost=len(lost),
        registered_s=world.watch.registered_s if world.watch else None,
        recovered_s=recovered_s,
        problems=tuple(
            filter(
                None,
                (
                    *differences(model, tables),
                    _say("accepted, but not in the log", set(webhooks) - set(logged)),
                    *_unexpected(dead_ids, world.expected_dead),
                    None if recovered_s is not None else "not settled in time",
                    None if world.watch and world.watch.registered_s else "consumers not registered again",
                    None if world.may_blame or not any(load.permanent for load in world.loads) else "sender blamed",
                    *world.problems,
                ),
            )
        ),
    )


def _without(webhooks: dict[str, Webhook], ids: set[str]) -> list[Webhook]:
    return [webhook for webhook_id, webhook in webhooks.items() if webhook_id not in ids]


async def _settle(world: World, model: Model) -> float | None:
    """Seconds from the repair until nothing waits and the tables are as they must be; None: not in time."""

    async def settled() -> bool:
        return await broker.backlog(world.amqp_url) == 0 and not differences(model, await _tables(world))

    patience_s = max(world.ground.patience_s, world.setting.patience_s)
    try:
        await eventually(settled, timeout_s=patience_s, every_s=0.2)
    except AssertionError:
        return None
    return time.monotonic() - world.repaired_at


def is_lost(webhook: Webhook, tables: Tables, model: Model, dead: dict[str, set[str]]) -> bool:
    """Whether an effect that had to see the event did not: it is neither in its table nor among its dead letters."""
    user, webhook_id = webhook.user_id, webhook.message_id
    synced = tables.keys.get(user, (False, -1, "")) >= key_of(webhook) or webhook_id in dead[SYNC_DEAD]
    wanted = model.databases.get(user) if webhook.type != "user.updated" else None
    provisioned = wanted is None or tables.databases.get(user) == wanted or webhook_id in dead[PROVISION_DEAD]
    return not (synced and provisioned)


def differences(model: Model, tables: Tables) -> list[str]:
    there = {user for user, state in model.databases.items() if state == "ready"}
    return [
        *_compared("guard", model.keys, tables.keys),
        *_compared("row", model.rows, tables.rows),
        *_compared("database's state", model.databases, tables.databases),
        *_compared("number of databases", dict.fromkeys(there, 1), dict(tables.existing)),
    ]


def _compared(what: str, wanted: dict[str, Any], found: dict[str, Any]) -> list[str]:
    wrong = {user for user in wanted.keys() | found.keys() if wanted.get(user) != found.get(user)}
    said = _say(f"{what} not as in the model", wrong)
    return [said] if said else []


def _unexpected(dead: dict[str, set[str]], expected: dict[str, set[str]]) -> list[str | None]:
    return [_say(f"{queue} not as expected", ids ^ expected.get(queue, set())) for queue, ids in dead.items()]


def _say(what: str, which: set[str]) -> str | None:
    return f"{what}: {len(which)} ({', '.join(sorted(map(str, which))[:2])})" if which else None


async def _tables(world: World) -> Tables:
    try:
        async with world.database() as connection:
            guards = await connection.fetch("select user_id, deleted, version, event_id from user_guards")
            users = await connection.fetch("select user_id, updated_at, last_name from users")
            databases = await connection.fetch("select user_id, name, state from databases")
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise AssertionError(f"Postgres does not answer: {error}") from error
    return Tables(
        keys={row["user_id"]: (row["deleted"], row["version"], row["event_id"]) for row in guards},
        rows={row["user_id"]: Row(_milliseconds(row), row["last_name"]) for row in users},
        databases={row["user_id"]: row["state"] for row in databases},
        existing=await world.existing({row["name"]: row["user_id"] for row in databases}),
    )


def _milliseconds(row: Any) -> int:
    return int(row["updated_at"].timestamp() * 1000 + 0.5)
