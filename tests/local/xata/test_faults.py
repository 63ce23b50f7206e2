"""Every switch for misbehaviour, as an httpx client sees it, and what has happened behind it."""

import asyncio
import json
import time
from collections import Counter

import httpx
import pytest

from local.xata import Fault, FaultKind, Garbling, XataStandIn
from tests.local.xata.wishes import custom, message
from tests.support.eventually import eventually

QUICK = httpx.Timeout(0.2)


def _names(stand_in: XataStandIn) -> list[str]:
    return [branch.name for branch in stand_in.live_branches()]


async def test_slow_acts_at_once_and_answers_late(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str
) -> None:
    stand_in.faults.add(Fault.slow(0.3, times=1))
    began = time.monotonic()

    answering = asyncio.create_task(client.post(branches, json=custom("a")))
    await eventually(lambda: _names(stand_in) == ["a"], every_s=0.01)
    acted_after_s = time.monotonic() - began

    assert (await answering).status_code == 201
    assert acted_after_s < 0.3 <= time.monotonic() - began


async def test_late_acts_after_its_caller_has_gone(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str
) -> None:
    stand_in.faults.add(Fault.slow(0.5, late=True, times=1))

    with pytest.raises(httpx.ReadTimeout):
        await client.post(branches, json=custom("a"), timeout=QUICK)
    then = _names(stand_in)
    await eventually(lambda: _names(stand_in) == ["a"])

    assert then == []


@pytest.mark.parametrize(("acts", "names"), [(False, []), (True, ["a"])])
async def test_a_hang_never_answers(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str, *, acts: bool, names: list[str]
) -> None:
    stand_in.faults.add(Fault.hang(acts=acts, times=1))

    with pytest.raises(httpx.ReadTimeout):
        await client.post(branches, json=custom("a"), timeout=QUICK)

    assert _names(stand_in) == names
    assert stand_in.requests[-1].status is None
    assert stand_in.requests[-1].acted is acts


async def test_what_hangs_does_not_keep_the_stand_in_from_stopping(
    stand_in: XataStandIn, client: httpx.AsyncClient
) -> None:
    stand_in.faults.add(Fault.hang())
    hanging = asyncio.create_task(client.get("/regions", timeout=60))
    await eventually(lambda: stand_in.requests, every_s=0.01)
    began = time.monotonic()

    await stand_in.stop()

    with pytest.raises(httpx.TransportError):
        await hanging
    assert time.monotonic() - began < 5
    await stand_in.start()


@pytest.mark.parametrize("after_bytes", [0, 10])
async def test_an_answer_is_cut_after_so_many_bytes(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str, after_bytes: int
) -> None:
    stand_in.faults.add(Fault.cut(after_bytes, times=1))

    async with client.stream("POST", branches, json=custom("a")) as response:
        with pytest.raises(httpx.RemoteProtocolError, match=f"received {after_bytes} bytes"):
            await response.aread()

    assert response.status_code == 201
    assert _names(stand_in) == ["a"]


async def test_a_cut_beyond_the_end_is_none(stand_in: XataStandIn, client: httpx.AsyncClient) -> None:
    stand_in.faults.add(Fault.cut(1_000_000))

    assert (await client.get("/regions")).json()["regions"]


async def test_an_answer_without_a_body_can_be_cut_too(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str, template: str
) -> None:
    stand_in.faults.add(Fault.cut(0, method="DELETE"))

    with pytest.raises(httpx.RemoteProtocolError):
        await client.delete(f"{branches}/{template}")

    assert _names(stand_in) == []


@pytest.mark.parametrize(("acts", "names"), [(False, []), (True, ["a"])])
async def test_a_reset_ends_without_a_byte(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str, *, acts: bool, names: list[str]
) -> None:
    stand_in.faults.add(Fault.reset(acts=acts, times=1))

    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        await client.post(branches, json=custom("a"))

    assert _names(stand_in) == names


@pytest.mark.parametrize(("acts", "names"), [(False, []), (True, ["a"])])
async def test_a_500_before_or_after_acting(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str, *, acts: bool, names: list[str]
) -> None:
    stand_in.faults.add(Fault.answer(500, acts=acts, times=1))

    response = await client.post(branches, json=custom("a"))

    assert response.status_code == 500
    assert message(response) == f"Internal Error (Request ID: {response.headers['x-request-id']})"
    assert _names(stand_in) == names


@pytest.mark.parametrize(
    ("fault", "text", "retry_after"),
    [
        (Fault.answer(503), None, "30"),
        (Fault.answer(503, retry_after_s=2), None, "2"),
        (Fault.answer(429), "local_rate_limited", None),
        (Fault.answer(429, retry_after_s=1.5), "local_rate_limited", "1.5"),
        (Fault.answer(502), "upstream connect error or disconnect/reset before headers", None),
        (Fault.answer(504), "upstream request timeout", None),
        (Fault.answer(408), "stream timeout", None),
        (Fault.answer(401), '{"message":"invalid token"}\n', None),
        (Fault.answer(418, message="tea"), '{"message":"tea"}\n', None),
        (Fault.answer(409, message="branch [a] already exists"), '{"message":"branch [a] already exists"}\n', None),
    ],
)
async def test_any_status_can_be_answered_in_the_real_words(
    stand_in: XataStandIn, client: httpx.AsyncClient, fault: Fault, text: str | None, retry_after: str | None
) -> None:
    stand_in.faults.add(fault)

    response = await client.get("/regions")

    assert response.status_code == fault.status
    assert response.headers.get("retry-after") == retry_after
    assert text is None or response.text == text


async def test_403_is_billings_unless_told_otherwise(stand_in: XataStandIn, client: httpx.AsyncClient) -> None:
    stand_in.faults.add(Fault.answer(403))

    assert message(await client.get("/regions")) == (
        f"Organization [{stand_in.organization}] is disabled, please check your billing settings or contact support"
    )


async def test_a_truncated_answer_is_no_json(stand_in: XataStandIn, client: httpx.AsyncClient, branches: str) -> None:
    stand_in.faults.add(Fault.garble("truncated"))

    response = await client.post(branches, json=custom("a"))

    assert response.status_code == 201
    with pytest.raises(json.JSONDecodeError):
        response.json()
    assert _names(stand_in) == ["a"]


async def test_wrong_types_keep_the_names(stand_in: XataStandIn, client: httpx.AsyncClient, branches: str) -> None:
    stand_in.faults.add(Fault.garble("wrong_types"))

    body = (await client.post(branches, json=custom("a"))).json()

    assert isinstance(body["id"], int)
    assert body["publicAccess"] == [True]
    assert body["parentID"] == [None]


async def test_html_instead_of_json(stand_in: XataStandIn, client: httpx.AsyncClient) -> None:
    stand_in.faults.add(Fault.garble("html"))

    response = await client.get("/regions")

    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "<html>" in response.text


@pytest.mark.parametrize(("how", "body"), [("empty", b""), ("not_an_object", b'["unexpected"]\n')])
async def test_json_of_another_shape(stand_in: XataStandIn, client: httpx.AsyncClient, how: str, body: bytes) -> None:
    stand_in.faults.add(Fault.garble(how))

    response = await client.get("/regions")

    assert (response.status_code, response.content) == (200, body)


@pytest.mark.parametrize("how", list(Garbling))
async def test_an_answer_without_a_body_survives_garbling(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str, template: str, how: Garbling
) -> None:
    stand_in.faults.add(Fault.garble(how, method="DELETE"))

    assert (await client.delete(f"{branches}/{template}")).status_code == 204
    assert (await client.get("/regions")).status_code == 200


async def test_a_fault_strikes_only_where_it_is_scoped_to(
    stand_in: XataStandIn, client: httpx.AsyncClient, branches: str
) -> None:
    stand_in.faults.add(Fault.answer(500, method="POST", path="*/branches"))

    statuses = [
        (await client.post(branches, json=custom("a"))).status_code,
        (await client.get(branches)).status_code,
        (await client.post("/projects", json={"name": "p"})).status_code,
    ]

    assert statuses == [500, 200, 201]


async def test_a_fault_strikes_only_so_often(stand_in: XataStandIn, client: httpx.AsyncClient) -> None:
    stand_in.faults.add(Fault.answer(500, times=2))

    statuses = [(await client.get("/regions")).status_code for _ in range(4)]

    assert statuses == [500, 500, 200, 200]
    assert stand_in.faults.active() == []


async def test_faults_are_taken_in_the_order_in_which_they_were_added(
    stand_in: XataStandIn, client: httpx.AsyncClient
) -> None:
    for status in (500, 429):
        stand_in.faults.add(Fault.answer(status, times=1))

    assert [(await client.get("/regions")).status_code for _ in range(3)] == [500, 429, 200]


async def test_chance_strikes_about_as_often_as_it_should_and_repeats_itself(
    stand_in: XataStandIn, client: httpx.AsyncClient
) -> None:
    stand_in.faults.add(Fault.answer(500, probability=0.3))

    rounds = []
    for _ in range(2):
        stand_in.faults.reseed(7)
        rounds.append([(await client.get("/regions")).status_code for _ in range(200)])

    assert rounds[0] == rounds[1]
    assert 40 <= Counter(rounds[0])[500] <= 80


async def test_cleared_faults_are_gone(stand_in: XataStandIn, client: httpx.AsyncClient) -> None:
    stand_in.faults.add(Fault.answer(500))
    stand_in.faults.clear()

    assert (await client.get("/regions")).status_code == 200


async def test_a_struck_request_is_recorded_with_its_fault(stand_in: XataStandIn, client: httpx.AsyncClient) -> None:
    stand_in.faults.add(Fault.answer(503))

    await client.get("/regions")

    [request] = stand_in.requests
    assert (request.fault, request.status, request.acted, request.operation) == ("answer", 503, False, None)


@pytest.mark.parametrize("kind", [FaultKind.SLOW, FaultKind.CUT, FaultKind.GARBLE])
def test_what_needs_the_real_answer_cannot_be_without_acting(kind: FaultKind) -> None:
    with pytest.raises(ValueError, match="without acting"):
        Fault(kind, acts=False)


def test_a_fault_can_be_read_from_json() -> None:
    fault = Fault.read({"kind": "cut", "after_bytes": 5, "path": "*/regions", "times": 3})

    assert fault == Fault.cut(5, path="*/regions", times=3)
    assert Fault.read(fault.as_json()) == fault
