"""The databases behind the branches are real: credentials log in, children inherit, deletion takes them away."""

import asyncio

import asyncpg
import httpx
import pytest

from local.postgres import PostgresCluster
from local.xata import XataStandIn
from tests.local.xata.wishes import created, custom, inherit, message


async def _url(client: httpx.AsyncClient, branches: str, branch: str) -> str:
    response = await client.get(f"{branches}/{branch}/credentials", params={"username": "xata"})
    assert response.status_code == 200, response.text
    return str(response.json()["connectionString"])


async def _run(url: str, *statements: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetchval(statements[-1])
    finally:
        await connection.close()


async def test_credentials_really_log_in(client: httpx.AsyncClient, branches: str) -> None:
    branch = await created(client, branches, custom("user_1"))
    login = (await client.get(f"{branches}/{branch}/credentials?username=xata")).json()

    by_parts = await asyncpg.connect(
        host=login["hostname"],
        port=login["port"],
        user=login["username"],
        password=login["password"],
        database=login["dbname"],
    )
    assert await by_parts.fetchval("select current_database()") == login["dbname"]
    await by_parts.close()
    assert await _run(login["connectionString"], "select current_database()") == login["dbname"]
    assert "sslmode" not in login["connectionString"]
    assert branch in login["dbname"]


async def test_a_child_inherits_schema_and_data_and_may_change_them(
    client: httpx.AsyncClient, branches: str, template: str
) -> None:
    await _run(
        await _url(client, branches, template),
        "create schema app",
        "create table app.notes (id int generated always as identity primary key, text text)",
        "insert into app.notes (text) values ('of the template')",
        "select 1",
    )
    child = await created(client, branches, inherit("user_1", template))

    url = await _url(client, branches, child)
    inherited = await _run(url, "select text from app.notes")
    await _run(url, "alter table app.notes add column mine int", "drop table app.notes", "select 1")

    assert inherited == "of the template"
    assert await _run(await _url(client, branches, template), "select count(*) from app.notes") == 1


async def test_a_branch_of_its_own_is_empty(client: httpx.AsyncClient, branches: str, template: str) -> None:
    await _run(await _url(client, branches, template), "create table t ()", "select 1")

    branch = await created(client, branches, custom("user_1"))

    count = "select count(*) from information_schema.tables where table_schema = 'public'"
    assert await _run(await _url(client, branches, branch), count) == 0


async def test_a_template_in_use_can_be_copied(client: httpx.AsyncClient, branches: str, template: str) -> None:
    url = await _url(client, branches, template)
    await _run(url, "create table t ()", "select 1")
    user = await asyncpg.connect(url)

    child = await created(client, branches, inherit("user_1", template))

    assert await _run(await _url(client, branches, child), "select to_regclass('t') is not null")
    user.terminate()


async def test_one_branchs_login_does_not_open_another(client: httpx.AsyncClient, branches: str, template: str) -> None:
    child = await created(client, branches, inherit("user_1", template))
    login = (await client.get(f"{branches}/{child}/credentials?username=xata")).json()
    other = (await client.get(f"{branches}/{template}/credentials?username=xata")).json()["dbname"]

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(login["connectionString"], database=other)


async def test_extensions_that_are_trusted_can_be_had(client: httpx.AsyncClient, branches: str) -> None:
    branch = await created(client, branches, custom("user_1"))

    url = await _url(client, branches, branch)

    assert await _run(url, "create extension pgcrypto", "select length(gen_random_uuid()::text)") == 36


async def test_rotated_credentials_replace_the_old_ones(
    client: httpx.AsyncClient, branches: str, template: str
) -> None:
    old = await _url(client, branches, template)

    rotated = await client.post(f"{branches}/{template}/credentials/rotate", json={"username": "xata"})

    assert (rotated.status_code, rotated.content) == (204, b"")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await _run(old, "select 1")
    assert await _run(await _url(client, branches, template), "select 1") == 1


async def test_only_the_user_xata_has_credentials(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str, template: str
) -> None:
    path = f"{branches}/{template}/credentials"
    text = f"Branch [{template}]: invalid parameter [username]: only the xata user credentials can be "

    unnamed = await client.get(path)
    other = await client.get(path, params={"username": "postgres"})
    rotated = await client.post(f"{path}/rotate", json={"username": "postgres"})
    stand_in.behaviour.username_is_required = False
    later = await client.get(path)

    assert [(answer.status_code, message(answer)) for answer in (unnamed, other)] == [(400, f"{text}retrieved")] * 2
    assert (rotated.status_code, message(rotated)) == (400, f"{text}rotated")
    assert later.status_code == 200


async def test_the_connection_string_of_a_branch_is_deprecated_and_leads_nowhere(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str, template: str
) -> None:
    given = (await client.get(f"{branches}/{template}")).json()["connectionString"]
    stand_in.behaviour.connection_string_is_null = True
    withheld = (await client.get(f"{branches}/{template}")).json()["connectionString"]

    assert f"@{template}-deprecated.us-east-1.xata.tech/xata?sslmode=require" in given
    assert withheld is None


async def test_a_deleted_branch_throws_everybody_out(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str, template: str
) -> None:
    url = await _url(client, branches, template)
    database = stand_in.branch(template).database
    inside = await asyncpg.connect(url)

    await client.delete(f"{branches}/{template}")

    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await inside.fetchval("select 1")
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await asyncpg.connect(url)
    assert not await stand_in._databases.exists(database)


async def test_stopping_takes_all_databases_away_unless_they_are_kept(postgres: PostgresCluster) -> None:
    left = []
    for keep in (False, True):
        async with XataStandIn(postgres_url=postgres.url("postgres"), keep_databases=keep) as stand_in:
            branch = await stand_in.add_branch(stand_in.add_project(), "a")
            left.append(stand_in.branch(branch).database)

    async with XataStandIn(postgres_url=postgres.url("postgres")) as looking:
        assert [await looking._databases.exists(name) for name in left] == [False, True]
        await looking._databases.drop(left[1])


async def test_many_children_at_once_are_all_there(client: httpx.AsyncClient, branches: str, template: str) -> None:
    await _run(await _url(client, branches, template), "create table t ()", "select 1")

    children = await asyncio.gather(
        *(created(client, branches, inherit(f"user_{number}", template)) for number in range(12))
    )

    urls = [await _url(client, branches, child) for child in children]
    assert all([await _run(url, "select to_regclass('t') is not null") for url in urls])
    assert len(set(urls)) == 12
