"""The client of Xata's API against a Xata that throttles, hangs, cuts and lies: what it repeats and what never."""

from __future__ import annotations

import asyncio
import logging
import time

import asyncpg
import pytest

from consumer.providers.protocol import QuotaBlocked
from consumer.providers.xata.answers import (
    AlreadyThereError,
    NotFoundError,
    ProjectFullError,
    UnclearError,
)
from consumer.providers.xata.api import XataApi
from consumer.providers.xata.pace import Pace
from local.ports import free_port
from local.xata import Fault, Garbling, XataStandIn
from shared.errors import DependencyDown, EffectError, NotYet, ThrottledError
from tests.consumer.providers.xata_account import QUICK, REGION, Account

CUSTOM = {
    "mode": "custom",
    "configuration": {"region": REGION, "image": "postgres:17.9", "instanceType": "xata.micro", "replicas": 0},
}


@pytest.fixture
def api(account: Account) -> XataApi:
    return account.api()


@pytest.fixture
def project(account: Account) -> str:
    return account.projects[0]


async def _create(api: XataApi, project: str, name: str = "user_2abc") -> str:
    return (await api.create_branch(project, name, "usher 2abc", CUSTOM, sleep_after_minutes=15)).id


class TestReading:
    async def test_what_the_organisation_offers(self, api: XataApi, project: str) -> None:
        assert await api.regions() == ["eu-central-1", "us-east-1"]
        assert (await api.images(REGION))[0] == "postgres:18.3"
        assert (await api.instance_types(REGION))[0].name == "xata.micro"
        limits = await api.organization_limits()
        assert (limits.branches_per_project, limits.branches_per_hour, limits.projects_per_hour) == (100, 10_000, 1000)
        assert (await api.project_limits(project)).branches_per_project == 100

    async def test_a_branch_from_creation_to_deletion(self, api: XataApi, project: str, stand_in: XataStandIn) -> None:
        branch = await _create(api, project)

        assert [found.id for found in await api.branches(project)] == [branch]
        stand_in.behaviour.visible_after_s = 0
        state = await api.state(project, branch)
        assert (state.status, state.description) == ("STATUS_TYPE_TRANSIENT", "usher 2abc")
        assert stand_in.branch(branch).scale_to_zero.as_json() == {"enabled": True, "inactivityPeriodMinutes": 15}
        await api.rename_branch(project, branch, "other")
        assert stand_in.branch(branch).name == "other"
        await api.delete_branch(project, branch)
        with pytest.raises(NotFoundError):
            await api.delete_branch(project, branch)

    async def test_a_project_that_is_made_lets_its_branches_sleep(self, api: XataApi, stand_in: XataStandIn) -> None:
        made = await api.create_project("users-2", sleep_after_minutes=15)

        assert made in await api.projects()
        assert stand_in.cloud.project(made.id).child_branches.as_json() == {
            "enabled": True,
            "inactivityPeriodMinutes": 15,
        }
        with pytest.raises(AlreadyThereError):
            await api.create_project("users-2", sleep_after_minutes=None)

    async def test_credentials_print_without_their_secrets(
        self, api: XataApi, project: str, stand_in: XataStandIn
    ) -> None:
        branch = await stand_in.add_branch(project, "user_2abc")

        login = await api.login(project, branch)

        assert login.password not in repr(login)
        assert login.connection_string == stand_in.connection_url(branch)


FAILURES = [
    Fault.answer(500),
    Fault.answer(502),
    Fault.answer(503, retry_after_s=0),
    Fault.answer(408),
    Fault.reset(),
    Fault.cut(3),
    Fault.hang(),
    *(Fault.garble(garbling) for garbling in Garbling),
]
IDS = [f"{fault.kind}-{fault.status if fault.kind == 'answer' else fault.garbling}" for fault in FAILURES]


def _times(fault: Fault, times: int | None, **scope: str) -> Fault:
    return Fault.read({**fault.as_json(), "times": times, **scope})


class TestFailing:
    @pytest.mark.parametrize("fault", FAILURES, ids=IDS)
    async def test_what_can_be_repeated_is_repeated(
        self, api: XataApi, project: str, stand_in: XataStandIn, fault: Fault
    ) -> None:
        branch = await stand_in.add_branch(project, "user_2abc")
        stand_in.faults.add(_times(fault, 2))

        assert [found.id for found in await api.branches(project)] == [branch]
        assert len(stand_in.requests) == 3

    @pytest.mark.parametrize("fault", FAILURES, ids=IDS)
    async def test_what_fails_again_and_again_is_an_outage(
        self, api: XataApi, project: str, stand_in: XataStandIn, fault: Fault
    ) -> None:
        stand_in.faults.add(_times(fault, None))

        with pytest.raises(DependencyDown):
            await api.branches(project)
        assert len(stand_in.requests) == 3

    @pytest.mark.parametrize("fault", FAILURES, ids=IDS)
    async def test_a_creation_leaves_once_and_its_fate_is_called_unclear(
        self, api: XataApi, project: str, stand_in: XataStandIn, fault: Fault
    ) -> None:
        stand_in.faults.add(_times(fault, None))

        with pytest.raises(UnclearError):
            await _create(api, project)
        assert len(stand_in.requests) == 1

    async def test_a_creation_that_was_done_and_not_answered_is_unclear(
        self, api: XataApi, project: str, stand_in: XataStandIn
    ) -> None:
        stand_in.faults.add(Fault.hang(acts=True, times=1))

        with pytest.raises(UnclearError):
            await _create(api, project)

        assert [branch.name for branch in stand_in.live_branches()] == ["user_2abc"]

    async def test_an_answer_that_trickles_is_cut_off(self, api: XataApi, project: str, stand_in: XataStandIn) -> None:
        stand_in.faults.add(Fault.slow(60))
        began = time.monotonic()

        with pytest.raises(DependencyDown):
            await api.branches(project)

        assert time.monotonic() - began < 3 * QUICK.whole + 3

    async def test_a_server_that_is_not_there_is_an_outage_in_which_nothing_was_done(
        self, account: Account, pool: asyncpg.Pool[asyncpg.Record]
    ) -> None:
        account.stand_in.requests.clear()
        pace = Pace(pool, requests_per_s=1000, patience_s=1)
        api = XataApi(f"http://127.0.0.1:{free_port()}", "key", "org", pace=pace, timeouts=QUICK)

        with pytest.raises(DependencyDown) as caught:
            await _create(api, "prj_x")

        assert not isinstance(caught.value, UnclearError)
        await api.close()

    async def test_a_conflict_is_repeated(self, api: XataApi, project: str, stand_in: XataStandIn) -> None:
        branch = await stand_in.add_branch(project, "template")
        stand_in.behaviour.conflicting_updates = 2

        await api.wake_branch(project, branch)

        assert [request.status for request in stand_in.requests] == [409, 409, 200]

    async def test_the_key_is_in_no_error_and_no_log(
        self, api: XataApi, project: str, stand_in: XataStandIn, capsys: pytest.CaptureFixture[str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:  # fmt: skip
        texts = []
        caplog.set_level(logging.DEBUG)
        branch = await stand_in.add_branch(project, "user_2abc")
        await api.login(project, branch)
        for fault in FAILURES:
            stand_in.faults.clear()
            stand_in.faults.add(fault)
            with pytest.raises(EffectError) as caught:
                await _create(api, project)
            texts.append(f"{caught.value!r} {caught.value.__cause__!r}")

        said = " ".join([*texts, *capsys.readouterr(), caplog.text])
        assert stand_in.api_key not in said
        assert stand_in.branch(branch).password not in said


class TestThrottled:
    async def test_a_short_wait_is_waited_for_also_by_a_creation(
        self, api: XataApi, project: str, stand_in: XataStandIn
    ) -> None:
        stand_in.faults.add(Fault.answer(429, retry_after_s=1, times=1))
        began = time.monotonic()

        await _create(api, project)

        assert time.monotonic() - began >= 1
        assert len(stand_in.live_branches()) == 1

    async def test_a_long_wait_is_the_ladders_and_nobody_asks_meanwhile(
        self, api: XataApi, account: Account, project: str, stand_in: XataStandIn
    ) -> None:
        stand_in.faults.add(Fault.answer(429, retry_after_s=60, times=1))

        with pytest.raises(NotYet) as caught:
            await api.branches(project)
        assert 55 < caught.value.retry_after_s <= 60

        stand_in.requests.clear()
        with pytest.raises(NotYet) as caught:
            await account.api().regions()  # another copy
        assert 55 < caught.value.retry_after_s <= 60
        assert stand_in.requests == []

    async def test_throttled_again_and_again_it_gives_up_for_now(
        self, api: XataApi, project: str, stand_in: XataStandIn
    ) -> None:
        stand_in.faults.add(Fault.answer(429, retry_after_s=0))

        with pytest.raises(ThrottledError):
            await api.branches(project)

    async def test_the_gateways_limit_is_kept_by_waiting(
        self, api: XataApi, project: str, stand_in: XataStandIn
    ) -> None:
        stand_in.behaviour.requests_per_window, stand_in.behaviour.rate_window_s = 5, 1.0

        answers = await asyncio.gather(*(api.branches(project) for _ in range(10)))

        assert answers == [[]] * 10
        assert len(stand_in.requests) > 10  # some were refused, and came again


class TestRefused:
    async def test_each_refusal_says_what_it_is(self, api: XataApi, project: str, stand_in: XataStandIn) -> None:
        await _create(api, project)
        with pytest.raises(AlreadyThereError):
            await _create(api, project)
        stand_in.behaviour.max_branches_per_project = 1
        with pytest.raises(ProjectFullError):
            await _create(api, project, "user_2abd")
        stand_in.behaviour.max_branches_per_organization = 1
        stand_in.behaviour.max_branches_per_project = 100
        with pytest.raises(QuotaBlocked):
            await _create(api, project, "user_2abd")
        stand_in.behaviour.branch_creation_disabled = True
        with pytest.raises(UnclearError) as paused:
            await _create(api, project, "user_2abd")
        assert paused.value.retry_after_s == 30
        stand_in.behaviour.branch_creation_disabled = False
        stand_in.billing_ok = False
        with pytest.raises(DependencyDown, match="billing"):
            await _create(api, project, "user_2abd")
        with pytest.raises(NotFoundError):
            await api.branches("prj_00000000000000000000000000")
        stand_in.remove_key(stand_in.api_key)
        with pytest.raises(DependencyDown, match="XATA_API_KEY"):
            await api.regions()
