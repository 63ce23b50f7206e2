from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from urllib.parse import urlsplit

import asyncpg
import pytest

from consumer.providers import postgres as postgres_module
from consumer.providers import postgres_template
from consumer.providers.addresses import at_database, host_of
from consumer.providers.names import database_name
from consumer.providers.postgres import PostgresProvider
from consumer.providers.protocol import UserDatabase
from local.ports import free_port
from local.postgres import PostgresCluster
from shared.errors import DependencyDown, PermanentError, TransientError
from shared.migrations import user_migrations
from tests.consumer.providers.contract import ProviderContract, made
from tests.consumer.provisioning import new_user, postgres_provider
from tests.support.tcp_proxy import TcpProxy

Opened = Callable[[str], PostgresProvider]


@pytest.fixture
async def opened() -> AsyncIterator[Opened]:
    """Makes providers and closes them in the end."""
    providers: list[PostgresProvider] = []

    def open_(url: str) -> PostgresProvider:
        providers.append(postgres_provider(url))
        return providers[-1]

    yield open_
    for provider in providers:
        await provider.close()


@pytest.fixture
def provider(postgres: PostgresCluster, opened: Opened) -> PostgresProvider:
    return opened(postgres.url("postgres"))


@pytest.fixture
async def admin(postgres: PostgresCluster) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(postgres.url("postgres"))
    yield connection
    await connection.close()


@pytest.fixture
async def wanted(provider: PostgresProvider) -> AsyncIterator[UserDatabase]:
    user_id = new_user()
    wanted = UserDatabase(user_id, database_name(user_id), region=None)
    yield wanted
    await provider.delete(wanted)


class TestPostgres(ProviderContract):
    @pytest.fixture
    def provider(self, postgres: PostgresCluster, opened: Opened) -> PostgresProvider:
        return opened(postgres.url("postgres"))

    @pytest.fixture
    def unreachable(self, opened: Opened) -> PostgresProvider:
        return opened(f"postgresql://usher:password@127.0.0.1:{free_port()}/postgres")


async def test_a_strangers_database_of_that_name_is_neither_adopted_nor_dropped(
    provider: PostgresProvider, admin: asyncpg.Connection[asyncpg.Record], wanted: UserDatabase
) -> None:
    await admin.execute(f'create database "{wanted.name}"')

    with pytest.raises(PermanentError, match=wanted.name):
        await provider.create(wanted)
    with pytest.raises(PermanentError):
        await provider.connection_url(wanted)
    await provider.delete(wanted)

    assert await admin.fetchval("select 1 from pg_database where datname = $1", wanted.name)
    await admin.execute(f'drop database "{wanted.name}"')


async def test_another_users_database_of_that_name_is_a_strangers(
    provider: PostgresProvider, wanted: UserDatabase
) -> None:
    await made(provider, wanted)

    with pytest.raises(PermanentError):
        await provider.create(replace(wanted, user_id=new_user()))


async def test_the_servers_own_databases_are_strangers(
    provider: PostgresProvider, admin: asyncpg.Connection[asyncpg.Record]
) -> None:
    for name in ("postgres", "template0", "template1"):
        with pytest.raises(PermanentError):
            await provider.create(UserDatabase(new_user(), name, None))
        await provider.delete(UserDatabase(new_user(), name, None))

    assert await admin.fetchval("select count(*) from pg_database where datname like 'template_'") == 2


async def test_a_creation_that_was_cut_off_before_the_mark_is_finished(
    provider: PostgresProvider, admin: asyncpg.Connection[asyncpg.Record], wanted: UserDatabase
) -> None:
    await admin.execute(f'create database "{wanted.name}" template template0 allow_connections false')

    await made(provider, wanted)

    assert wanted.name in {found.name for found in await provider.inventory()}


async def test_a_creation_that_was_cut_off_before_the_mark_can_be_deleted(
    provider: PostgresProvider, admin: asyncpg.Connection[asyncpg.Record], wanted: UserDatabase
) -> None:
    await admin.execute(f'create database "{wanted.name}" template template0 allow_connections false')

    await provider.delete(wanted)

    assert not await admin.fetchval("select 1 from pg_database where datname = $1", wanted.name)


@pytest.mark.parametrize("user_id", ["o'hara", 'say "hi"', "back\\slash'", "'; drop database postgres; --", "ünï cødé"])
async def test_user_ids_of_any_characters_are_only_data(provider: PostgresProvider, user_id: str) -> None:
    wanted = UserDatabase(user_id, f'name {user_id}"'[:30], None)

    await made(provider, wanted)

    assert (wanted.name, user_id) in {(found.name, found.user_id) for found in await provider.inventory()}
    await provider.delete(wanted)
    assert wanted.name not in {found.name for found in await provider.inventory()}


async def test_a_session_in_the_template_database_is_not_in_the_way(
    provider: PostgresProvider, postgres: PostgresCluster, wanted: UserDatabase
) -> None:
    connection = await asyncpg.connect(postgres.url("template1"))

    await made(provider, wanted)

    assert wanted.name in {found.name for found in await provider.inventory()}
    await connection.close()


async def test_a_login_that_may_not_create_databases_stops_the_consumer_and_names_the_setting(
    admin: asyncpg.Connection[asyncpg.Record], postgres: PostgresCluster, wanted: UserDatabase, opened: Opened
) -> None:
    await admin.execute("create role powerless login password 'test-password'")
    powerless = opened(_as("powerless", postgres.url("postgres")))

    with pytest.raises(DependencyDown, match="PROVIDER_POSTGRES_URL"):
        await powerless.check()
    with pytest.raises(DependencyDown):
        await powerless.create(wanted)

    await _drop_role(admin, "powerless")


async def test_what_is_made_from_the_template_has_nothing_to_be_prepared(
    provider: PostgresProvider, wanted: UserDatabase
) -> None:
    first = await provider.create(wanted)
    again = await provider.create(wanted)

    assert first.schema_version == len(user_migrations())
    assert again.schema_version is None  # made by whom, and when? To be looked at
    connection = await asyncpg.connect(await provider.connection_url(wanted))
    assert await connection.fetchval("select count(*) from notes") == 0
    await connection.close()


async def test_a_users_database_takes_less_room_than_an_empty_one(
    provider: PostgresProvider, admin: asyncpg.Connection[asyncpg.Record], wanted: UserDatabase
) -> None:
    """Schema and all: that much less is copied and logged with each creation."""
    await made(provider, wanted)

    assert await _compact(admin, wanted)


@pytest.mark.parametrize(
    "left",
    [
        "create database {0} template template0 allow_connections false",
        "create database {0} template template0; comment on database {0} is 'Usher''s template, being made'",
    ],
    ids=["before_the_mark", "before_the_migrations"],
)
async def test_a_template_whose_making_was_cut_off_is_finished(
    provider: PostgresProvider, admin: asyncpg.Connection[asyncpg.Record], wanted: UserDatabase, left: str
) -> None:
    template = await _dropped_template(provider, admin)
    for statement in left.format(template).split("; "):
        await admin.execute(statement)

    await made(provider, wanted)

    assert await admin.fetchval("select datallowconn from pg_database where datname = $1", template) is False


async def test_a_template_whose_rewriting_was_cut_off_is_rewritten(
    provider: PostgresProvider,
    admin: asyncpg.Connection[asyncpg.Record],
    wanted: UserDatabase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await _dropped_template(provider, admin)
    with monkeypatch.context() as patch:
        patch.setattr(postgres_template, "_REWRITE", "select 'select pg_terminate_backend(pg_backend_pid())'")
        with pytest.raises(DependencyDown):
            await provider.create(wanted)

    await made(provider, wanted)

    assert await _compact(admin, wanted)


async def test_a_template_that_was_dropped_is_made_anew(
    provider: PostgresProvider, admin: asyncpg.Connection[asyncpg.Record], wanted: UserDatabase
) -> None:
    await made(provider, wanted)
    await provider.delete(wanted)
    await _without_templates(admin)

    with pytest.raises(TransientError, match="anew"):
        await provider.create(wanted)
    await made(provider, wanted)


async def test_a_strangers_database_under_the_templates_name_stops_the_consumer(
    provider: PostgresProvider, admin: asyncpg.Connection[asyncpg.Record], wanted: UserDatabase
) -> None:
    template = await _dropped_template(provider, admin)
    await admin.execute(f"create database {template}")

    with pytest.raises(DependencyDown, match=template):
        await provider.create(wanted)

    await admin.execute(f"drop database {template}")


async def test_copies_that_need_the_template_at_once_make_one(
    opened: Opened, postgres: PostgresCluster, admin: asyncpg.Connection[asyncpg.Record]
) -> None:
    await _without_templates(admin)
    copies = [opened(postgres.url("postgres")) for _ in range(3)]
    wanted = [UserDatabase(user, user, None) for user in (new_user() for _ in copies)]

    await asyncio.gather(*(made(copy, each) for copy, each in zip(copies, wanted, strict=True)))

    for each in wanted:
        await copies[0].delete(each)
    assert len(await _without_templates(admin)) == 1


async def test_a_login_that_may_only_create_databases_is_enough(
    admin: asyncpg.Connection[asyncpg.Record], postgres: PostgresCluster, wanted: UserDatabase, opened: Opened
) -> None:
    await admin.execute("create role maker login createdb password 'test-password'")
    maker = opened(_as("maker", postgres.url("postgres")))

    await maker.check()
    await made(maker, wanted)
    assert await _compact(admin, wanted)
    await maker.delete(wanted)

    assert not await admin.fetchval("select 1 from pg_database where datname = $1", wanted.name)
    await _drop_role(admin, "maker")


async def test_a_server_without_free_connections_is_a_dependency_that_is_down(
    admin: asyncpg.Connection[asyncpg.Record], postgres: PostgresCluster, wanted: UserDatabase, opened: Opened
) -> None:
    await admin.execute("create role crowded login createdb connection limit 0 password 'test-password'")
    crowded = opened(_as("crowded", postgres.url("postgres")))

    with pytest.raises(DependencyDown):
        await crowded.create(wanted)

    await _drop_role(admin, "crowded")


async def test_a_connection_that_is_cut_while_the_server_works_is_a_dependency_that_is_down(
    postgres: PostgresCluster, wanted: UserDatabase, provider: PostgresProvider, opened: Opened
) -> None:
    async with TcpProxy("127.0.0.1", postgres.port) as proxy:
        behind = opened(_at(proxy.port, postgres.url("postgres")))
        proxy.cut_after(900)  # past the login, amid the statements

        with pytest.raises(DependencyDown):
            await behind.create(wanted)

    await made(provider, wanted)


async def test_a_server_that_accepts_and_says_nothing_is_a_dependency_that_is_down(
    postgres: PostgresCluster, wanted: UserDatabase, monkeypatch: pytest.MonkeyPatch, opened: Opened
) -> None:
    monkeypatch.setattr("shared.postgres.CONNECT_TIMEOUT_S", 0.3)
    async with TcpProxy("127.0.0.1", postgres.port) as proxy:
        proxy.black_hole()

        with pytest.raises(DependencyDown):
            await opened(_at(proxy.port, postgres.url("postgres"))).create(wanted)


async def test_a_database_that_somebody_else_is_at_for_long_is_tried_again_later(
    provider: PostgresProvider,
    admin: asyncpg.Connection[asyncpg.Record],
    wanted: UserDatabase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(postgres_module._SESSION, "lock_timeout", "50ms")
    await admin.execute(postgres_module._LOCK, wanted.name)

    with pytest.raises(TransientError) as caught:
        await provider.create(wanted)

    assert not isinstance(caught.value, DependencyDown)
    await admin.execute("select pg_advisory_unlock_all()")


async def test_a_database_that_another_login_made_is_left_to_an_operator_and_is_no_outage(
    postgres: PostgresCluster,
    provider: PostgresProvider,
    admin: asyncpg.Connection[asyncpg.Record],
    wanted: UserDatabase,
    opened: Opened,
) -> None:
    await made(provider, wanted)
    await admin.execute("create role newcomer login createdb password 'test-password'")
    newcomer = opened(_as("newcomer", postgres.url("postgres")))

    await newcomer.check()
    for doing in (newcomer.create, newcomer.delete):
        with pytest.raises(PermanentError, match="owner to"):
            await doing(wanted)

    await admin.execute(f'alter database "{wanted.name}" owner to newcomer')
    await newcomer.delete(wanted)
    assert not await admin.fetchval("select 1 from pg_database where datname = $1", wanted.name)
    await _drop_role(admin, "newcomer")


async def test_a_session_of_another_login_delays_the_deletion_and_is_no_outage(
    postgres: PostgresCluster, admin: asyncpg.Connection[asyncpg.Record], wanted: UserDatabase, opened: Opened
) -> None:
    await admin.execute("create role latecomer login createdb password 'test-password'")
    latecomer = opened(_as("latecomer", postgres.url("postgres")))
    await made(latecomer, wanted)
    inside = await asyncpg.connect(postgres.url(wanted.name))

    with pytest.raises(TransientError) as caught:
        await latecomer.delete(wanted)
    assert not isinstance(caught.value, DependencyDown)

    await inside.close()
    await latecomer.delete(wanted)
    assert not await admin.fetchval("select 1 from pg_database where datname = $1", wanted.name)
    await _drop_role(admin, "latecomer")


async def test_a_database_that_carries_other_migrations_is_left_to_an_operator(
    postgres: PostgresCluster, provider: PostgresProvider, wanted: UserDatabase
) -> None:
    await made(provider, wanted)
    changed = [replace(migration, sql="select 1") for migration in user_migrations()]
    other = PostgresProvider(postgres.url("postgres"), region="local", migrations=changed)

    with pytest.raises(PermanentError, match="0001"):
        await other.prepare(wanted)


@pytest.mark.parametrize(
    ("url", "expected", "host"),
    [
        ("postgresql://u:p@h:5432/postgres", "postgresql://u:p@h:5432/n", "h:5432"),
        ("postgres://u:p%40@h/x?sslmode=require", "postgres://u:p%40@h/n?sslmode=require", "h"),
        ("postgresql://u:p@[::1]:5432/x", "postgresql://u:p@[::1]:5432/n", "[::1]:5432"),
        ("postgresql:///x?host=/run/postgresql", "postgresql:///n?host=/run/postgresql", None),
        ("postgresql://u@h", "postgresql://u@h/n", "h"),
    ],
)
def test_the_address_of_a_users_database_is_the_admins_with_another_name(
    url: str, expected: str, host: str | None
) -> None:
    assert at_database(url, "n") == expected
    assert host_of(url) == host


async def _without_templates(admin: asyncpg.Connection[asyncpg.Record], owner: str = "usher") -> list[str]:
    """The names of the login's templates, after they were dropped."""
    rows = await admin.fetch(
        """select datname from pg_database
        where starts_with(datname, 'usher_template_') and pg_get_userbyid(datdba) = $1""",
        owner,
    )
    for row in rows:
        await admin.execute(f"drop database {row['datname']}")
    return [row["datname"] for row in rows]


async def _dropped_template(provider: PostgresProvider, admin: asyncpg.Connection[asyncpg.Record]) -> str:
    """The name of the provider's template, which is there no more."""
    some = new_user()
    await provider.create(UserDatabase(some, some, None))
    await provider.delete(UserDatabase(some, some, None))
    provider._template.forget()
    (name,) = await _without_templates(admin)
    return name


async def _drop_role(admin: asyncpg.Connection[asyncpg.Record], name: str) -> None:
    await _without_templates(admin, name)
    await admin.execute(f"drop role {name}")


def _as(user: str, url: str) -> str:
    parts = urlsplit(url)
    return f"postgresql://{user}:test-password@{parts.hostname}:{parts.port}{parts.path}"


def _at(port: int, url: str) -> str:
    return url.replace(f":{urlsplit(url).port}/", f":{port}/")


async def test_a_warm_provider_has_its_sessions_and_the_template_before_the_first_creation(
    provider: PostgresProvider, admin: asyncpg.Connection[asyncpg.Record]
) -> None:
    sessions = "select count(*) from pg_stat_activity where application_name = 'usher provider'"
    before = await admin.fetchval(sessions)

    await provider.warm()

    assert await admin.fetchval(sessions) == before + postgres_module.MAX_SESSIONS
    assert provider._template._name is not None


async def _compact(admin: asyncpg.Connection[asyncpg.Record], database: UserDatabase) -> bool:
    sizes = "select pg_database_size($1), pg_database_size('template0')"
    ours, empty = await admin.fetchrow(sizes, database.name) or (0, 0)
    return bool(0 < ours < 0.95 * empty)
