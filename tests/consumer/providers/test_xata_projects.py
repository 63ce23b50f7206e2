"""Branches spread over a pool of projects: by room, without races, with new projects on demand, and never beyond."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial

import pytest
from prometheus_client import CollectorRegistry

from consumer.providers.protocol import QuotaBlocked
from consumer.providers.xata import projects as projects_module
from consumer.providers.xata.configuration import BranchWishes, PoolWishes
from consumer.providers.xata.metrics import XataMetrics
from consumer.providers.xata.provider import XataProvider
from local.xata import Fault, XataStandIn
from shared.errors import DependencyDown, NotYet
from shared.migrations import user_migrations
from tests.consumer.providers.contract import made, patiently
from tests.consumer.providers.xata_account import QUICK, REGION, Account, new_wish


def _spread(account: Account) -> list[int]:
    """How many branches each project has, the fullest first."""
    counts = Counter(branch.project_id for branch in account.stand_in.live_branches())
    return sorted(counts.values(), reverse=True)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full pool is looked at again at once."""
    monkeypatch.setattr(projects_module, "AGE_WHEN_FULL_S", 0.0)


class TestGiven:
    async def test_the_project_with_most_room_is_next(self, account: Account, stand_in: XataStandIn) -> None:
        other = stand_in.add_project("other")
        await stand_in.add_branch(account.projects[0], "a-strangers")
        provider = account.provider(pool=PoolWishes((account.projects[0], other)))

        places = [await provider.create(new_wish()) for _ in range(3)]

        assert [place.project for place in places].count(other) == 2

    async def test_projects_can_be_given_by_name(self, account: Account, stand_in: XataStandIn) -> None:
        other = stand_in.add_project("other")

        assert (await account.provider(pool=PoolWishes(("other",))).create(new_wish())).project == other

    async def test_a_project_that_the_organisation_does_not_have_is_told(self, account: Account) -> None:
        with pytest.raises(DependencyDown, match=r"XATA_PROJECTS.*nowhere"):
            await account.provider(pool=PoolWishes(("nowhere",))).create(new_wish())

    async def test_a_project_that_was_deleted_is_passed_over(self, account: Account, stand_in: XataStandIn) -> None:
        gone = stand_in.add_project("gone")
        stand_in.cloud.delete_project(gone)

        place = await account.provider(pool=PoolWishes((gone, account.projects[0]))).create(new_wish())

        assert place.project == account.projects[0]

    async def test_copies_that_reserve_at_once_fill_each_project_to_its_limit_and_no_further(
        self, account: Account, stand_in: XataStandIn
    ) -> None:
        stand_in.behaviour.max_branches_per_project = 4
        pool = PoolWishes((account.projects[0], stand_in.add_project("b"), stand_in.add_project("c")))
        providers = [account.provider(pool=pool) for _ in range(3)]

        results = await asyncio.gather(
            *(patiently(partial(_placed, each)) for each in providers for _ in range(5)),
            return_exceptions=True,
        )

        assert _spread(account) == [4, 4, 4]
        assert sum(result is None for result in results) == 3
        assert 400 not in [request.status for request in stand_in.requests]

    @pytest.mark.parametrize("copies", [1, 3])
    async def test_who_begins_at_the_same_moment_looks_once_and_makes_no_project_beside_one_with_room(
        self, account: Account, stand_in: XataStandIn, copies: int
    ) -> None:
        stand_in.add_project("bench-1")
        stand_in.faults.add(Fault.slow(0.3, method="GET", path="*/limits"))
        providers = [account.provider(pool=PoolWishes(prefix="bench-")) for _ in range(copies)]

        await asyncio.gather(*(provider.create(new_wish()) for provider in providers for _ in range(6)))

        assert account.asked("createProject") == 0
        assert account.asked("getProjectLimits") == 1
        assert account.asked("listProjects") == copies

    async def test_reservations_at_the_same_moment_never_exceed_the_room(
        self, account: Account, stand_in: XataStandIn
    ) -> None:
        stand_in.behaviour.max_branches_per_project = 20
        provider = account.provider()
        await provider.create(new_wish())
        for room in range(2, 21, 3):
            await account.pool.execute("update xata_projects set max_branches = $1", room)

            reserve = provider._projects._reserve
            await asyncio.gather(*(reserve(new_wish(), REGION, list(account.projects)) for _ in range(30)))

            assert await account.pool.fetchval("select count(*) from xata_placements") == room

    async def test_a_name_keeps_its_project(self, account: Account, stand_in: XataStandIn) -> None:
        wanted = new_wish()
        pool = PoolWishes((account.projects[0], stand_in.add_project("b")))
        first = await account.provider(pool=pool).create(wanted)

        for _ in range(3):
            assert await account.provider(pool=pool).create(wanted) == first

    async def test_a_project_that_is_full_before_we_know_is_left_for_the_next(
        self, account: Account, stand_in: XataStandIn
    ) -> None:
        stand_in.behaviour.max_branches_per_project = 2
        pool = PoolWishes((account.projects[0], stand_in.add_project("b")))
        provider = account.provider(pool=pool)
        await provider.create(new_wish())
        [full] = [project for project in pool.given if not stand_in.live_branches(project)]
        for stranger in ("stranger-1", "stranger-2"):  # they come and fill the one that is next
            await stand_in.add_branch(full, stranger)

        place = await patiently(lambda: provider.create(new_wish()))

        assert place.project != full
        assert _spread(account) == [2, 2]

    async def test_a_region_without_a_template_of_that_id_waits_for_no_other_project(
        self, account: Account, stand_in: XataStandIn
    ) -> None:
        template = await stand_in.add_branch(account.projects[0], "mine", region="eu-central-1")
        pool = PoolWishes((stand_in.add_project("b"), account.projects[0]))
        branch = BranchWishes(templates={"eu-central-1": (template,)})

        place = await account.provider(pool=pool, branch=branch).create(new_wish("eu-central-1"))

        assert place.project == account.projects[0]


async def _placed(provider: XataProvider) -> str | None:
    try:
        return (await provider.create(new_wish())).project
    except QuotaBlocked:
        return None


class TestFull:
    @pytest.mark.usefixtures("hasty")
    async def test_with_no_room_it_says_why_and_goes_on_when_there_is_room(
        self, account: Account, stand_in: XataStandIn
    ) -> None:
        stand_in.behaviour.max_branches_per_project = 1
        provider = account.provider()
        first = await made(provider, new_wish())
        wanted = new_wish()
        with pytest.raises(QuotaBlocked, match=r"1 of 1 are used in 1 projects.*XATA_PROJECTS"):
            await provider.create(wanted)

        await provider.delete(first)

        assert (await provider.create(wanted)).project == account.projects[0]

    @pytest.mark.usefixtures("hasty")
    async def test_it_goes_on_when_xata_allows_more(self, account: Account, stand_in: XataStandIn) -> None:
        stand_in.behaviour.max_branches_per_project = 1
        provider = account.provider()
        await provider.create(new_wish())
        wanted = new_wish()
        with pytest.raises(QuotaBlocked):
            await provider.create(wanted)

        stand_in.behaviour.max_branches_per_project = 2

        assert (await provider.create(wanted)).project == account.projects[0]

    async def test_a_full_pool_is_not_looked_at_once_for_every_user(
        self, account: Account, stand_in: XataStandIn
    ) -> None:
        stand_in.behaviour.max_branches_per_project = 1
        providers = [account.provider() for _ in range(2)]
        await providers[0].create(new_wish())
        with pytest.raises(QuotaBlocked):
            await providers[0].create(new_wish())
        stand_in.requests.clear()

        for provider in providers:
            for _ in range(20):
                with pytest.raises(QuotaBlocked):
                    await provider.create(new_wish())

        assert len(stand_in.requests) <= 2

    async def test_the_count_of_places_taken_goes_with_the_placements(self, account: Account) -> None:
        provider = account.provider()
        wanted = [new_wish() for _ in range(2)]
        for each in wanted:
            await provider.create(each)
        assert await account.pool.fetchval("select placed from xata_projects") == 2

        await provider.delete(wanted[0])
        assert await account.pool.fetchval("select placed from xata_projects") == 1

        await account.pool.execute("delete from xata_projects")
        await account.provider().create(new_wish())  # it comes back, with what it had
        assert await account.pool.fetchval("select placed from xata_projects") == 2

    async def test_at_four_fifths_of_the_pool_there_is_a_warning_once_and_a_metric(
        self, account: Account, stand_in: XataStandIn, capsys: pytest.CaptureFixture[str]
    ) -> None:
        stand_in.behaviour.max_branches_per_project = 5
        registry = CollectorRegistry()
        provider = XataProvider(
            account.pool,
            account.configuration(),
            default_region=REGION,
            migrations=user_migrations(),
            metrics=XataMetrics(registry),
            timeouts=QUICK,
        )

        for expected in (0.0, 0.0, 0.0, 1.0, 1.0):
            await provider.create(new_wish())
            assert registry.get_sample_value("usher_xata_pool_nearly_full") == expected

        assert registry.get_sample_value("usher_xata_branches") == 5
        assert registry.get_sample_value("usher_xata_branches_max") == 5
        assert capsys.readouterr().out.count("xata_pool_nearly_full") == 1
        await provider.close()

    async def test_a_name_that_has_its_place_is_not_counted_again(self, account: Account) -> None:
        registry, wanted = CollectorRegistry(), new_wish()
        provider = XataProvider(
            account.pool,
            account.configuration(),
            default_region=REGION,
            migrations=user_migrations(),
            metrics=XataMetrics(registry),
            timeouts=QUICK,
        )

        for _ in range(5):
            await provider.create(wanted)
        await provider.create(new_wish())

        assert registry.get_sample_value("usher_xata_branches") == 2
        await provider.close()


class TestOnDemand:
    async def test_projects_are_made_under_the_prefix_when_all_are_full(
        self, account: Account, stand_in: XataStandIn
    ) -> None:
        stand_in.behaviour.max_branches_per_project = 2
        provider = account.provider(pool=PoolWishes(prefix="tenants-", most=3))

        for _ in range(6):
            await provider.create(new_wish())
        with pytest.raises(QuotaBlocked, match="6 of 6 are used in 3 projects"):
            await provider.create(new_wish())

        names = [project.name for project in stand_in.cloud.live_projects()]
        assert names == ["users", "tenants-1", "tenants-2", "tenants-3"]
        assert _spread(account) == [2, 2, 2]

    async def test_given_projects_are_used_beside_those_of_the_prefix(
        self, account: Account, stand_in: XataStandIn
    ) -> None:
        stand_in.behaviour.max_branches_per_project = 1
        provider = account.provider(pool=PoolWishes(account.projects, prefix="tenants-", most=1))

        places = [await provider.create(new_wish()) for _ in range(2)]

        assert places[0].project == account.projects[0]
        assert [project.name for project in stand_in.cloud.live_projects()] == ["users", "tenants-1"]

    async def test_copies_that_need_a_project_at_once_make_one(self, account: Account, stand_in: XataStandIn) -> None:
        providers = [account.provider(pool=PoolWishes(prefix="tenants-", most=9)) for _ in range(4)]

        await asyncio.gather(*(patiently(partial(each.create, new_wish())) for each in providers))

        assert [project.name for project in stand_in.cloud.live_projects()] == ["users", "tenants-1"]

    async def test_who_finds_the_project_made_by_another_copy_waits_for_its_look(
        self, account: Account, stand_in: XataStandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looks: list[asyncio.Task[str]] = []

        async def another_makes_it(_projects: object) -> None:
            project = stand_in.add_project("tenants-1")
            await account.pool.execute(
                "insert into xata_projects (project, name, looking_until) values ($1, 'tenants-1', now() + '20 s')",
                project,
            )
            looks.append(asyncio.create_task(another_has_looked(project)))

        async def another_has_looked(project: str) -> str:
            await asyncio.sleep(0.3)
            return await account.pool.execute(
                "update xata_projects set max_branches = 5, looked_at = now(), looking_until = null where project = $1",
                project,
            )

        monkeypatch.setattr(projects_module.Projects, "_make_one", another_makes_it)
        provider = account.provider(pool=PoolWishes(prefix="tenants-", most=1))

        place = await provider.create(new_wish())  # without a word of "no room", which lasts five minutes

        assert len(looks) == 1
        assert place.project == stand_in.cloud.live_projects()[-1].id

    @pytest.mark.parametrize("acts", [True, False])
    async def test_an_unclear_creation_of_a_project_ends_in_one(
        self, account: Account, stand_in: XataStandIn, *, acts: bool
    ) -> None:
        stand_in.faults.add(Fault.hang(acts=acts, method="POST", path="*/projects", times=1))
        provider = account.provider(pool=PoolWishes(prefix="tenants-", most=9))

        for _ in range(2):
            try:
                await provider.create(new_wish())
            except QuotaBlocked:
                continue

        assert [project.name for project in stand_in.cloud.live_projects()] == ["users", "tenants-1"]

    async def test_the_hours_projects_are_counted(self, account: Account, stand_in: XataStandIn) -> None:
        stand_in.behaviour.max_branches_per_project = 1
        stand_in.behaviour.max_projects_per_hour = 2
        provider = account.provider(pool=PoolWishes(prefix="tenants-", most=9))
        stand_in.cloud._recent_projects.clear()

        for _ in range(2):
            await provider.create(new_wish())
        with pytest.raises(QuotaBlocked, match="project creations an hour"):
            await provider.create(new_wish())

        assert account.asked("createProject") == 2

    async def test_templates_are_made_in_each_project_and_take_their_place(
        self, account: Account, stand_in: XataStandIn
    ) -> None:
        stand_in.behaviour.max_branches_per_project = 3
        provider = account.provider(
            pool=PoolWishes(prefix="tenants-", most=2), branch=BranchWishes(templates={REGION: ("template-us",)})
        )

        for _ in range(4):
            await made(provider, new_wish())
        with pytest.raises(QuotaBlocked):
            await provider.create(new_wish())

        assert _spread(account) == [3, 3]
        assert stand_in.creates["template-us"] == 2
        assert 400 not in [request.status for request in stand_in.requests]


async def test_who_finds_another_copy_looking_waits(account: Account) -> None:
    provider = account.provider()
    await account.pool.execute(
        "insert into xata_projects (project, name, looking_until) values ($1, 'users', now() + interval '1 minute')",
        account.projects[0],
    )

    with pytest.raises(NotYet, match="another copy"):
        await provider.create(new_wish())


async def test_a_copy_that_died_while_it_looked_is_not_waited_for_long(account: Account) -> None:
    await account.pool.execute(
        "insert into xata_projects (project, name, looking_until) values ($1, 'users', now() - interval '1 second')",
        account.projects[0],
    )

    assert (await account.provider().create(new_wish())).project == account.projects[0]
