"""The main job through the real programs: a signed webhook becomes a row and a database, and both follow the user."""

from pathlib import Path
from typing import Any

import asyncpg

from tests.support.broker import depth, read_log
from tests.support.eventually import eventually
from tests.support.programs import system

QUEUES = ("usher.sync_user", "usher.provision_database")


async def test_a_user_comes_changes_and_goes(tmp_path: Path, amqp_url: str, database_url: str, pool: Any) -> None:
    async with system(tmp_path, amqp_url=amqp_url, database_url=database_url) as usher:
        (user,) = {answer.webhook.user_id for answer in (await usher.send("user.created")).answers}

        async def ready() -> Any:
            return await pool.fetchrow("select * from databases where user_id = $1 and state = 'ready'", user)

        database = await eventually(ready, what="the database is ready")
        row = await eventually(lambda: pool.fetchrow("select * from users where user_id = $1", user))
        own = await asyncpg.connect(database_url.rsplit("/", 1)[0] + "/" + database["name"])
        assert await own.fetchval("select count(*) from notes") == 0
        await own.close()

        await usher.send("user.updated", user_id=user)

        async def changed() -> bool:
            now = await pool.fetchrow("select * from users where user_id = $1", user)
            return bool(now["updated_at"] > row["updated_at"] and now["last_name"] != row["last_name"])

        await eventually(changed, what="the row has changed")

        await usher.send("user.deleted", user_id=user)

        async def gone() -> bool:
            state = await pool.fetchval("select state from databases where user_id = $1", user)
            left = await pool.fetchval("select count(*) from users where user_id = $1", user)
            exists = await pool.fetchval("select count(*) from pg_database where datname = $1", database["name"])
            return (state, left, exists) == ("deleted", 0, 0)

        await eventually(gone, what="row and database are gone")
        log = await read_log(amqp_url, count=4)
    assert [entry.properties["type"] for entry in log].count("database.ready") == 1
    for queue in QUEUES:
        assert await depth(amqp_url, f"{queue}.dead") == 0


async def test_through_a_relay_it_is_the_same_event(
    tmp_path: Path, amqp_url: str, database_url: str, pool: Any
) -> None:
    async with system(tmp_path, amqp_url=amqp_url, database_url=database_url) as usher:
        direct = await usher.send("user.created", user_id="user_2NNEqL2nrIRdJ194ndJqAHwEfxC", seed=7)
        relayed = await usher.send(
            "user.created", user_id="user_2NNEqL2nrIRdJ194ndJqAHwEfxC", seed=7, via="hookdeck", stale=True
        )
        assert [answer.status for answer in (*direct.answers, *relayed.answers)] == [202, 202]

        async def counted() -> bool:
            return bool(await pool.fetchval("select count(*) from databases where state = 'ready'") == 1)

        await eventually(counted)
    assert await pool.fetchval("select count(*) from users") == 1
