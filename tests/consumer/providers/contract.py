"""What every provider of databases has to keep. A provider joins by subclassing with the two fixtures.

`provider`: one that works. `unreachable`: the same kind, whose service does not answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import asyncpg
import pytest

from consumer.providers.names import database_name
from consumer.providers.protocol import DatabaseProvider, Place, UserDatabase
from shared import migrations
from shared.errors import DependencyDown, NotYet, PermanentError
from tests.consumer.provisioning import new_user
from tests.support.eventually import eventually

T = TypeVar("T")


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call for as long as it says NotYet, as the retry ladder does."""

    results: list[T] = []

    async def attempt() -> bool:
        try:
            results.append(await call())
        except NotYet:
            return False
        return True

    await eventually(attempt, what="what the provider is at")
    return results[0]


async def made(provider: DatabaseProvider, wanted: UserDatabase) -> UserDatabase:
    """Create and prepare; returns the database with everything that is known of it then."""
    database = known(wanted, await patiently(lambda: provider.create(wanted)))
    await patiently(lambda: provider.prepare(database))
    return database


def known(wanted: UserDatabase, place: Place) -> UserDatabase:
    return UserDatabase(wanted.user_id, wanted.name, place.region, place.project, place.provider_id)


class ProviderContract:
    @pytest.fixture
    def provider(self) -> DatabaseProvider:
        raise NotImplementedError

    @pytest.fixture
    def unreachable(self) -> DatabaseProvider:
        raise NotImplementedError

    @pytest.fixture
    async def wanted(self, provider: DatabaseProvider) -> AsyncIterator[UserDatabase]:
        user_id = new_user()
        wanted = UserDatabase(user_id, database_name(user_id), region=None)
        yield wanted
        await provider.delete(wanted)

    async def test_a_created_database_answers_and_carries_the_newest_schema(
        self, provider: DatabaseProvider, wanted: UserDatabase
    ) -> None:
        database = known(wanted, await patiently(lambda: provider.create(wanted)))

        version = (await patiently(lambda: provider.prepare(database))).schema_version

        assert version == len(migrations.user_migrations())
        connection = await asyncpg.connect(await provider.connection_url(database))
        assert await connection.fetchval("select max(version) from schema_migrations") == version
        await connection.close()

    async def test_creating_again_finds_the_same_database_with_what_is_in_it(
        self, provider: DatabaseProvider, wanted: UserDatabase
    ) -> None:
        first = await made(provider, wanted)
        connection = await asyncpg.connect(await provider.connection_url(first))
        await connection.execute("create table kept (a integer)")
        await connection.close()

        again = await made(provider, wanted)

        assert again == first
        connection = await asyncpg.connect(await provider.connection_url(again))
        assert await connection.fetchval("select to_regclass('kept') is not null")
        await connection.close()

    async def test_many_creations_at_once_end_in_one_database(
        self, provider: DatabaseProvider, wanted: UserDatabase
    ) -> None:
        databases = await asyncio.gather(*(made(provider, wanted) for _ in range(4)))

        assert len(set(databases)) == 1
        assert len([found for found in await provider.inventory() if found.name == wanted.name]) == 1

    async def test_the_inventory_shows_it_with_its_user(self, provider: DatabaseProvider, wanted: UserDatabase) -> None:
        database = await made(provider, wanted)

        [found] = [found for found in await provider.inventory() if found.name == wanted.name]

        assert found.provider_id == database.provider_id
        assert found.region == database.region
        assert found.user_id in {wanted.user_id, None}

    async def test_a_deleted_database_is_gone(self, provider: DatabaseProvider, wanted: UserDatabase) -> None:
        database = await made(provider, wanted)

        await provider.delete(database)

        assert not [found for found in await provider.inventory() if found.name == wanted.name]
        with pytest.raises(PermanentError):
            await provider.connection_url(database)

    async def test_a_database_in_use_can_be_deleted(self, provider: DatabaseProvider, wanted: UserDatabase) -> None:
        database = await made(provider, wanted)
        connection = await asyncpg.connect(await provider.connection_url(database))

        await provider.delete(database)

        assert not [found for found in await provider.inventory() if found.name == wanted.name]
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await connection.fetchval("select 1")

    async def test_deleting_twice_and_deleting_what_never_was_succeeds(
        self, provider: DatabaseProvider, wanted: UserDatabase
    ) -> None:
        await provider.delete(wanted)
        database = await made(provider, wanted)
        await provider.delete(database)

        await provider.delete(database)

        assert not [found for found in await provider.inventory() if found.name == wanted.name]

    async def test_deletion_goes_by_name_when_the_recorded_id_is_of_an_earlier_one(
        self, provider: DatabaseProvider, wanted: UserDatabase
    ) -> None:
        earlier = await made(provider, wanted)
        await provider.delete(earlier)
        await made(provider, wanted)

        await provider.delete(earlier)

        assert not [found for found in await provider.inventory() if found.name == wanted.name]

    async def test_a_deletion_amid_creations_leaves_nothing_or_one_whole_database(
        self, provider: DatabaseProvider, wanted: UserDatabase
    ) -> None:
        create = [patiently(lambda: provider.create(wanted)) for _ in range(2)]

        await asyncio.gather(*create, provider.delete(wanted))

        assert len([found for found in await provider.inventory() if found.name == wanted.name]) <= 1
        await made(provider, wanted)

    async def test_nothing_but_the_connection_url_tells_how_to_log_in(
        self, provider: DatabaseProvider, wanted: UserDatabase
    ) -> None:
        place = await patiently(lambda: provider.create(wanted))
        await patiently(lambda: provider.prepare(known(wanted, place)))
        url = await provider.connection_url(known(wanted, place))
        password = url.split("@")[0].rsplit(":", 1)[1]

        assert password
        assert password not in repr(place)
        assert password not in repr(await provider.inventory())

    async def test_the_check_passes_while_databases_can_be_created(self, provider: DatabaseProvider) -> None:
        await provider.check()

    @pytest.mark.parametrize("method", ["create", "prepare", "delete", "connection_url"])
    async def test_a_service_that_does_not_answer_is_a_dependency_that_is_down(
        self, unreachable: DatabaseProvider, method: str
    ) -> None:
        user_id = new_user()
        call = getattr(unreachable, method)

        with pytest.raises(DependencyDown):
            await call(UserDatabase(user_id, database_name(user_id), None, None, "some-id"))

    async def test_the_check_fails_while_the_service_does_not_answer(self, unreachable: DatabaseProvider) -> None:
        with pytest.raises(DependencyDown):
            await unreachable.check()
