"""One branch per user at Xata, whatever becomes of the request to create it."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from consumer.providers.protocol import QuotaBlocked, UserDatabase
from consumer.providers.xata.configuration import BranchWishes, PoolWishes
from consumer.providers.xata.creating import description
from consumer.providers.xata.placements import Placements
from consumer.providers.xata.provider import XataProvider
from local.xata import Fault, Garbling, XataStandIn
from shared.errors import DependencyDown, EffectError, NotYet, PermanentError
from shared.migrations import Migration, user_migrations
from tests.consumer.providers.contract import known, made, patiently
from tests.consumer.providers.xata_account import REGION, Account, new_wish

BRANCHES = "*/branches"
TEMPLATED = BranchWishes(templates={REGION: ("template-us",)})


@pytest.fixture
def wanted() -> UserDatabase:
    return new_wish()


async def _stubbornly(provider: XataProvider, wanted: UserDatabase) -> UserDatabase:
    """As the retry ladder does: through outages and waits, until it is there."""
    for _ in range(200):
        try:
            database = known(wanted, await provider.create(wanted))
            await provider.prepare(database)
        except (NotYet, DependencyDown):
            await asyncio.sleep(0.05)
        else:
            return database
    raise AssertionError("never came about")


class TestTheRequest:
    async def test_a_branch_of_its_own_runs_on_what_xata_offers_and_sleeps_when_idle(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn
    ) -> None:
        place = await account.provider(branch=BranchWishes(sleep_after_minutes=15)).create(wanted)

        branch = stand_in.branch(place.provider_id)
        assert (branch.name, branch.description) == (wanted.name, description(wanted.name))
        assert branch.parent_id is None
        assert (branch.cluster.image, branch.cluster.instance_type) == ("postgres:18.3", "xata.micro")
        assert branch.scale_to_zero.as_json() == {"enabled": True, "inactivityPeriodMinutes": 15}
        assert (place.region, place.project) == (REGION, account.projects[0])

    async def test_image_and_instance_type_can_be_set_and_sleeping_switched_off(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn
    ) -> None:
        branch = BranchWishes(image="postgres:17.9", instance_type="xata.small", sleep_after_minutes=None)

        place = await account.provider(branch=branch).create(wanted)

        made = stand_in.branch(place.provider_id)
        assert (made.cluster.image, made.cluster.instance_type) == ("postgres:17.9", "xata.small")
        assert not made.scale_to_zero.enabled
        assert account.asked("listImages") + account.asked("listInstanceTypes") == 0

    async def test_an_image_that_is_not_offered_stops_the_consumer_and_names_the_setting(
        self, account: Account, wanted: UserDatabase
    ) -> None:
        with pytest.raises(DependencyDown, match="XATA_IMAGE"):
            await account.provider(branch=BranchWishes(image="postgres:1.0")).create(wanted)

    async def test_it_is_created_in_the_region_that_was_chosen(self, account: Account) -> None:
        wanted = new_wish("eu-central-1")

        place = await account.provider().create(wanted)

        assert place.region == "eu-central-1"

    async def test_a_new_user_costs_few_requests_however_many_there_are(
        self, account: Account, stand_in: XataStandIn
    ) -> None:
        provider = account.provider()
        await made(provider, new_wish())
        stand_in.behaviour.update(healthy_after_s=0, visible_after_s=0, credentials_after_s=0)
        stand_in.requests.clear()

        for _ in range(5):
            await made(provider, new_wish())

        assert account.asked("createBranch") == 5
        assert account.asked("getBranchCredentials") == 5
        assert account.asked("listBranches") == 0

    @pytest.mark.parametrize("name", ["user_2abcDEF", "user_" + "z" * 58, "usr_" + "0123456789ab" * 4])
    def test_descriptions_are_within_what_xata_takes(self, name: str) -> None:
        assert len(description(name)) <= 50
        assert "_" not in description(name)


class TestTemplates:
    async def test_a_template_is_made_and_migrated_where_it_is_missing(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn
    ) -> None:
        database = await made(account.provider(branch=TEMPLATED), wanted)

        [template] = [branch for branch in stand_in.live_branches() if branch.name == "template-us"]
        assert stand_in.branch(database.provider_id or "").parent_id == template.id
        connection = await asyncpg.connect(stand_in.connection_url(template.id))
        assert await connection.fetchval("select to_regclass('notes') is not null")
        await connection.close()

    async def test_a_copy_of_the_newest_schema_is_not_logged_in_to(
        self, account: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await made(account.provider(branch=TEMPLATED), new_wish())
        wanted, provider = new_wish(), account.provider(branch=TEMPLATED)
        place = await patiently(lambda: provider.create(wanted))
        monkeypatch.setattr("consumer.providers.schema.session", None)

        usable = await patiently(lambda: account.provider().prepare(known(wanted, place)))  # another process

        assert usable.schema_version == len(user_migrations())
        assert usable.host is not None

    async def test_a_copy_of_an_older_schema_is_brought_up_to_date(self, account: Account) -> None:
        newer = [*user_migrations(), Migration(len(user_migrations()) + 1, "more", "create table more (a integer)")]
        provider = account.provider(branch=TEMPLATED)
        await made(provider, new_wish())
        wanted = new_wish()
        place = await patiently(lambda: provider.create(wanted))

        usable = await patiently(
            lambda: account.provider(migrations=newer, branch=TEMPLATED).prepare(known(wanted, place))
        )

        assert usable.schema_version == len(newer)
        connection = await asyncpg.connect(await provider.connection_url(known(wanted, place)))
        assert await connection.fetchval("select to_regclass('more') is not null")
        await connection.close()

    async def test_copies_that_need_a_template_at_once_make_one(self, account: Account, stand_in: XataStandIn) -> None:
        providers = [account.provider(branch=TEMPLATED) for _ in range(3)]

        await asyncio.gather(*(made(provider, new_wish()) for provider in providers for _ in range(2)))

        assert stand_in.creates["template-us"] == 1
        assert len(stand_in.live_branches()) == 7

    async def test_a_template_of_the_operators_is_used_by_its_id_and_left_as_it_is(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn
    ) -> None:
        template = await stand_in.add_branch(account.projects[0], "mine", region=REGION)

        database = await made(account.provider(branch=BranchWishes(templates={REGION: (template,)})), wanted)

        assert stand_in.branch(database.provider_id or "").parent_id == template
        connection = await asyncpg.connect(stand_in.connection_url(template))
        assert not await connection.fetchval("select to_regclass('notes') is not null")
        await connection.close()

    async def test_a_template_that_sleeps_is_woken(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn
    ) -> None:
        template = await stand_in.add_branch(account.projects[0], "template-us", region=REGION)
        stand_in.hibernate(template)

        await made(account.provider(branch=TEMPLATED), wanted)

        assert len(account.branches_of(wanted)) == 1
        assert 412 in [request.status for request in stand_in.requests]

    async def test_a_template_that_is_deleted_is_made_again(self, account: Account, stand_in: XataStandIn) -> None:
        provider = account.provider(branch=TEMPLATED)
        await made(provider, new_wish())
        [template] = [branch for branch in stand_in.live_branches() if branch.name == "template-us"]
        await account.api().delete_branch(account.projects[0], template.id)
        wanted = new_wish()

        await _stubbornly(provider, wanted)

        assert stand_in.creates["template-us"] == 2
        assert len(account.branches_of(wanted)) == 1

    async def test_a_project_without_the_template_of_that_id_gets_no_branch(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn
    ) -> None:
        other = stand_in.add_project("other")
        template = await stand_in.add_branch(account.projects[0], "mine", region=REGION)
        stand_in.behaviour.max_branches_per_project = 2
        account.projects = (other, *account.projects)
        provider = account.provider(branch=BranchWishes(templates={REGION: (template,)}))

        assert (await made(provider, wanted)).project == account.projects[1]
        with pytest.raises(QuotaBlocked):
            await provider.create(new_wish())


SPOILT = [
    *(Fault.answer(status, acts=acts) for status in (500, 502, 503, 504, 408) for acts in (False, True)),
    *(Fault.hang(acts=acts) for acts in (False, True)),
    *(Fault.reset(acts=acts) for acts in (False, True)),
    *(Fault.cut(after) for after in (0, 10)),
    *(Fault.garble(garbling) for garbling in Garbling),
]


def _id(fault: Fault) -> str:
    which = fault.status if fault.kind == "answer" else fault.garbling if fault.kind == "garble" else fault.after_bytes
    return f"{fault.kind}-{which}-{'done' if fault.acts else 'not_done'}"


class TestUnclear:
    @pytest.mark.parametrize("fault", SPOILT, ids=_id)
    async def test_an_unclear_creation_ends_in_one_branch(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn, fault: Fault
    ) -> None:
        spoil = {"method": "POST", "path": BRANCHES, "times": 1, "retry_after_s": 0 if fault.status == 503 else None}
        stand_in.faults.add(Fault.read({**fault.as_json(), **spoil}))

        database = await _stubbornly(account.provider(), wanted)

        assert account.branches_of(wanted) == [database.provider_id]
        assert stand_in.creates[wanted.name] == 1
        assert len(stand_in.record.of("POST")) == (1 if fault.acts else 2)

    async def test_done_and_not_answered_it_is_found_by_looking_within_the_same_call(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn
    ) -> None:
        stand_in.faults.add(Fault.hang(acts=True, method="POST", times=1))

        place = await account.provider().create(wanted)

        assert account.branches_of(wanted) == [place.provider_id]
        assert account.asked("createBranch") == 1

    async def test_when_the_look_fails_too_the_next_attempt_looks_before_it_creates(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn
    ) -> None:
        provider = account.provider()
        await provider.create(new_wish())
        stand_in.faults.add(Fault.hang(acts=True, method="POST", times=1))
        stand_in.faults.add(Fault.answer(500, method="GET", path=BRANCHES, times=3))
        with pytest.raises(DependencyDown):
            await provider.create(wanted)
        stand_in.requests.clear()

        place = await account.provider().create(wanted)  # another process

        assert account.branches_of(wanted) == [place.provider_id]
        assert account.asked("createBranch") == 0

    async def test_done_after_the_look_it_is_adopted_when_the_name_is_taken(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn
    ) -> None:
        stand_in.faults.add(Fault.hang(method="POST", times=1))
        provider = account.provider()
        with pytest.raises(DependencyDown):
            await provider.create(wanted)
        late = await stand_in.add_branch(account.projects[0], wanted.name, region=REGION)

        assert (await provider.create(wanted)).provider_id == late

    async def test_taken_and_not_listed_yet_it_waits(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn
    ) -> None:
        stand_in.faults.add(
            Fault.answer(409, message=f"branch [{wanted.name}] already exists", method="POST", path=BRANCHES, times=1)
        )

        with pytest.raises(NotYet):
            await account.provider().create(wanted)
        await account.provider().create(wanted)

    async def test_a_creation_without_an_answer_keeps_the_name_in_its_project(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn
    ) -> None:
        """It may take effect when nobody looks any more: a second branch elsewhere would be one too many."""
        other = stand_in.add_project("other")
        provider = account.provider(pool=PoolWishes((account.projects[0], other)))
        stand_in.faults.add(Fault.hang(method="POST", times=1))
        with pytest.raises(DependencyDown):
            await provider.create(wanted)
        before = await account.placement(wanted)
        assert before is not None
        stand_in.faults.add(
            Fault.answer(400, message="project [p] has too many branches", method="POST", path=BRANCHES, times=1)
        )

        with pytest.raises(NotYet, match="no answer yet"):
            await provider.create(wanted)

        assert await account.placement(wanted) is not None
        await account.pool.execute("update xata_placements set unanswered_until = now()")
        database = await _stubbornly(provider, wanted)
        assert account.branches_of(wanted) == [database.provider_id]


class TestAdopting:
    async def test_a_branch_that_is_there_is_adopted_wherever_it_is_from(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn
    ) -> None:
        there = await stand_in.add_branch(account.projects[0], wanted.name, region="eu-central-1")

        place = await account.provider().create(wanted)

        assert (place.provider_id, place.region) == (there, "eu-central-1")

    async def test_without_its_placement_the_table_of_databases_tells_where_it_is(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn
    ) -> None:
        pool = PoolWishes((account.projects[0], stand_in.add_project("other")))
        database = await made(account.provider(pool=pool), wanted)
        await account.pool.execute("delete from xata_placements")

        again = await made(account.provider(pool=PoolWishes((pool.given[1],))), database)

        assert again == database
        assert account.branches_of(wanted) == [database.provider_id]

    async def test_a_strangers_branch_of_that_name_is_neither_adopted_nor_deleted(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn
    ) -> None:
        there = await stand_in.add_branch(account.projects[0], wanted.name, region=REGION)
        stand_in.branch(there).description = "our CRM"

        with pytest.raises(PermanentError, match=wanted.name):
            await account.provider().create(wanted)
        await account.provider().delete(wanted)

        assert account.branches_of(wanted) == [there]

    async def test_a_branch_that_was_deleted_at_xata_is_made_again(
        self, account: Account, wanted: UserDatabase
    ) -> None:
        provider = account.provider()
        database = await made(provider, wanted)
        await account.api().delete_branch(database.project or "", database.provider_id or "")
        await account.pool.execute("update xata_placements set posted_at = now() - interval '1 hour'")

        with pytest.raises(EffectError, match="not to be found"):
            await provider.prepare(database)
        again = await made(provider, wanted)

        assert account.branches_of(wanted) == [again.provider_id]
        assert again.provider_id != database.provider_id


class TestRefusals:
    async def test_a_wrong_key_stops_the_consumer_and_leaves_nothing_behind(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn
    ) -> None:
        provider = account.provider()
        await provider.create(new_wish())
        key = stand_in.api_key
        stand_in.remove_key(key)

        with pytest.raises(DependencyDown, match="XATA_API_KEY"):
            await provider.create(wanted)
        with pytest.raises(DependencyDown, match="XATA_API_KEY"):
            await provider.check()

    async def test_a_key_without_the_right_scope_is_told(self, account: Account, wanted: UserDatabase) -> None:
        key = account.stand_in.add_key("project:read", "org:read", "branch:read")

        with pytest.raises(DependencyDown, match="branch:read/write"):
            await account.provider(key=key).create(wanted)

    async def test_a_bill_that_is_not_paid_stops_the_consumer_and_is_no_ones_fault(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn
    ) -> None:
        provider = account.provider()
        stand_in.billing_ok = False
        with pytest.raises(DependencyDown, match="billing"):
            await provider.create(wanted)

        stand_in.billing_ok = True

        await made(provider, wanted)

    async def test_creation_that_is_switched_off_is_not_asked_for_before_retry_after(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn
    ) -> None:
        busy = account.provider()
        await busy.create(new_wish())
        stand_in.behaviour.branch_creation_disabled = True
        with pytest.raises(DependencyDown):
            await account.provider().create(wanted)
        spent = await account.pool.fetchval(counted := "select sum(creations) from xata_creations")

        for copy in (account.provider(), busy, account.provider()):
            with pytest.raises(NotYet) as caught:
                await copy.create(new_wish())  # other copies, other users
            assert 20 < caught.value.retry_after_s <= 30
        assert account.asked("createBranch") == 2
        assert await account.pool.fetchval(counted) == spent > 0

        stand_in.behaviour.branch_creation_disabled = False
        await account.pool.execute("delete from xata_pace")
        await made(account.provider(), wanted)

    async def test_a_new_organisations_limit_blocks_for_the_quota(
        self, account: Account, wanted: UserDatabase, stand_in: XataStandIn
    ) -> None:
        stand_in.cloud.organization.age_s = 0
        stand_in.behaviour.new_organization_max_branches = 1
        await account.provider().create(new_wish())

        with pytest.raises(QuotaBlocked, match="new organizations"):
            await account.provider().create(wanted)

    @pytest.mark.parametrize("status", [400, 403, 429])
    async def test_the_hours_creations_block_for_the_quota_whatever_xata_answers(
        self, account: Account, stand_in: XataStandIn, status: int
    ) -> None:
        provider = account.provider()
        await provider.create(new_wish())
        stand_in.behaviour.max_branches_per_hour = 1  # told too late to be counted here
        stand_in.behaviour.hourly_cap_status = status

        with pytest.raises(QuotaBlocked, match="per hour"):
            await provider.create(new_wish())

    async def test_the_hours_creations_are_counted_before_xata_has_to_say_so(
        self, account: Account, stand_in: XataStandIn
    ) -> None:
        stand_in.behaviour.max_branches_per_hour = 4
        providers = [account.provider() for _ in range(3)]
        await providers[0].create(new_wish())

        results = await asyncio.gather(
            *(provider.create(new_wish()) for provider in providers for _ in range(3)), return_exceptions=True
        )

        assert sum(isinstance(result, QuotaBlocked) for result in results) == 6
        assert account.asked("createBranch") == 4


async def test_a_placement_that_moved_on_takes_no_request(account: Account, wanted: UserDatabase) -> None:
    placements = Placements(account.pool, unclear_s=60)
    await account.provider().create(wanted)
    placement = await placements.find(wanted.name)
    assert placement is not None
    await account.pool.execute("update xata_placements set project = 'prj_other'")

    assert not await placements.begin_post(placement, 0)
