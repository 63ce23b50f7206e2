"""`usher send` against a receiver that checks signatures with the svix library, which signed none of them."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from svix.webhooks import Webhook, WebhookVerificationError

from cli.posting import sign_hookdeck, sign_svix
from tests.cli.conftest import Usher

CLERK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HOOKDECK_SECRET = "hookdeck_test_secret"
BODY = b'{"data":{"id":"user_2x","object":"user"},"object":"event","type":"user.created"}'


@dataclass
class Receiver:
    """Answers 202 to what svix accepts, 401 to the rest; the first `fail_first` of each id are answered 503."""

    url: str = ""
    fail_first: int = 0
    accepted: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)
    refused: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    most_at_once: int = 0
    arrivals: list[float] = field(default_factory=list)

    async def receive(self, request: web.Request) -> web.Response:
        self.arrivals.append(time.monotonic())
        body, headers = await request.read(), {name.lower(): value for name, value in request.headers.items()}
        self.seen[headers["svix-id"]] += 1
        if self.seen[headers["svix-id"]] <= self.fail_first:
            return web.Response(status=503, headers={"Retry-After": "0"})
        try:
            self._verify(body, headers)
        except WebhookVerificationError:
            self.refused += 1
            return web.json_response(
                {"title": "refused", "reason": "forged"}, status=401, content_type="application/problem+json"
            )
        self.accepted.append((headers, json.loads(body)))
        return web.Response(status=202)

    def _verify(self, body: bytes, headers: dict[str, str]) -> None:
        if "x-hookdeck-signature" in headers:
            digest = hmac.new(HOOKDECK_SECRET.encode(), body, hashlib.sha256).digest()
            if headers["x-hookdeck-signature"] != base64.b64encode(digest).decode():
                raise WebhookVerificationError
            return
        Webhook(CLERK_SECRET).verify(body, headers)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [body for _, body in self.accepted]

    @property
    def ids(self) -> list[str]:
        return [headers["svix-id"] for headers, _ in self.accepted]

    @property
    def users(self) -> list[str]:
        return [body["data"]["id"] for body in self.bodies]


@pytest.fixture
async def receiver(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    it = Receiver()
    app = web.Application()
    app.router.add_post("/webhooks/clerk", it.receive)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    it.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    monkeypatch.setenv("INGRESS_URL", it.url)
    monkeypatch.setenv("CLERK_WEBHOOK_SIGNING_SECRET", CLERK_SECRET)
    monkeypatch.setenv("HOOKDECK_WEBHOOK_SECRET", HOOKDECK_SECRET)
    yield it
    await runner.cleanup()


def test_the_svix_signature_is_that_of_the_known_vector() -> None:
    signature = sign_svix(CLERK_SECRET, "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W", "1674087231", BODY)

    assert signature == "v1,xR7cOdAhTCE96KPtJPI/NCQNGanVEydCaFqdsxGFBM4="


def test_the_hookdeck_signature_is_that_of_the_known_vector() -> None:
    assert sign_hookdeck(HOOKDECK_SECRET, BODY) == "/P7zeI181tBjcmIcVUJUlklS2SDbXO/F/7TjwdRwS7I="


async def test_one_webhook_is_accepted_and_its_user_named(usher: Usher, receiver: Receiver) -> None:
    done = await usher("send", "user.created")

    assert done.code == 0, done.err
    assert f"user {receiver.users[0]}" in done.out
    assert "202" in done.out


async def test_a_named_user_is_sent_as_it_is_named(usher: Usher, receiver: Receiver) -> None:
    await usher("send", "user.created", "--user", "user_ada")
    await usher("send", "user.updated", "--user", "user_ada")

    created, updated = receiver.bodies
    assert receiver.users == ["user_ada", "user_ada"]
    assert created["data"]["updated_at"] < updated["data"]["updated_at"]
    assert created["data"]["last_name"] != updated["data"]["last_name"]


async def test_many_people_are_distinct(usher: Usher, receiver: Receiver) -> None:
    done = await usher("send", "user.created", "--count", "30", "--json")

    assert done.code == 0, done.err
    assert len(set(receiver.users)) == len(set(receiver.ids)) == 30
    assert sorted(done.json["users"]) == sorted(receiver.users)
    assert done.json["answers"] == {"202": 30}


async def test_several_types_are_sent_in_turn_for_each_person(usher: Usher, receiver: Receiver) -> None:
    await usher("send", "user.created", "user.updated", "user.deleted", "--count", "2", "--concurrency", "1")

    types = [body["type"] for body in receiver.bodies]
    assert types == ["user.created", "user.updated", "user.deleted"] * 2
    assert len(set(receiver.users[:3])) == 1


async def test_updates_of_one_person_each_have_a_later_version(usher: Usher, receiver: Receiver) -> None:
    await usher("send", "user.updated", "--user", "user_ada", "--count", "5", "--concurrency", "1")

    versions = [body["data"]["updated_at"] for body in receiver.bodies]
    assert versions == sorted(set(versions))
    assert versions[-1] <= time.time() * 1000


async def test_via_hookdeck_carries_both_signatures(usher: Usher, receiver: Receiver) -> None:
    done = await usher("send", "user.created", "--via", "hookdeck")

    assert done.code == 0, done.err
    headers, body = receiver.accepted[0]
    assert headers["x-hookdeck-verified"] == "true"
    assert headers["idempotency-key"] == headers["x-hookdeck-eventid"]
    assert headers["svix-signature"].startswith("v1,")
    assert body["type"] == "user.created"


async def test_via_hookdeck_works_without_clerks_secret(
    usher: Usher, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CLERK_WEBHOOK_SIGNING_SECRET")

    done = await usher("send", "user.created", "--via", "hookdeck")

    assert done.code == 0, done.err
    assert "svix-signature" not in receiver.accepted[0][0]
    assert receiver.ids[0].startswith("msg_")


async def test_duplicates_have_the_same_id_and_body(usher: Usher, receiver: Receiver) -> None:
    await usher("send", "user.created", "--count", "5", "--duplicate")

    assert set(Counter(receiver.ids).values()) == {2}
    assert len(receiver.ids) == 10
    bodies = {(message_id, json.dumps(body)) for message_id, body in zip(receiver.ids, receiver.bodies, strict=True)}
    assert len(bodies) == 5


async def test_a_share_of_duplicates_is_that_share(usher: Usher, receiver: Receiver) -> None:
    done = await usher("send", "user.created", "--count", "20", "--duplicate-share", "0.3", "--json")

    assert done.json["sent"] == done.json["planned"] == len(receiver.ids) == 26
    assert len(set(receiver.ids)) == 20


async def test_shuffled_means_another_order_of_the_same(usher: Usher, receiver: Receiver) -> None:
    plain = ("send", "user.created", "--count", "20", "--seed", "7", "--concurrency", "1")
    await usher(*plain)
    straight = receiver.users.copy()
    receiver.accepted.clear()
    await usher(*plain, "--shuffle")

    assert receiver.users != straight
    assert sorted(receiver.users) == sorted(straight)


async def test_a_seed_gives_the_same_people_in_new_webhooks(usher: Usher, receiver: Receiver) -> None:
    for _ in range(2):
        await usher("send", "user.created", "--count", "3", "--seed", "7", "--concurrency", "1")

    assert receiver.users[:3] == receiver.users[3:]
    assert len(set(receiver.ids)) == 6


@pytest.mark.parametrize("via", ["svix", "hookdeck"])
async def test_a_tampered_body_is_refused_and_that_is_as_expected(usher: Usher, receiver: Receiver, via: str) -> None:
    done = await usher("send", "user.created", "--tamper", "--via", via)

    assert done.code == 0, done.err
    assert (receiver.refused, receiver.accepted) == (1, [])


async def test_a_stale_signature_is_refused_and_that_is_as_expected(usher: Usher, receiver: Receiver) -> None:
    done = await usher("send", "user.created", "--stale")

    assert done.code == 0, done.err
    assert receiver.refused == 1


async def test_behind_a_relay_a_stale_signature_is_accepted(usher: Usher, receiver: Receiver) -> None:
    done = await usher("send", "user.created", "--stale", "--via", "hookdeck")

    assert done.code == 0, done.err
    assert int(receiver.accepted[0][0]["svix-timestamp"]) < time.time() - 1800


async def test_a_wrong_secret_is_an_unexpected_answer(
    usher: Usher, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLERK_WEBHOOK_SIGNING_SECRET", "whsec_" + base64.b64encode(b"x" * 24).decode())

    done = await usher("send", "user.created")

    assert done.code == 1
    assert "401 (forged)" in done.err
    assert receiver.refused == 1


async def test_without_retries_an_outage_is_reported(usher: Usher, receiver: Receiver) -> None:
    receiver.fail_first = 1

    done = await usher("send", "user.created", "--json")

    assert done.code == 1
    assert done.json["answers"] == {"503": 1}


async def test_retries_use_the_same_id(usher: Usher, receiver: Receiver) -> None:
    receiver.fail_first = 2

    done = await usher("send", "user.created", "--retry", "3", "--json")

    assert done.code == 0
    assert done.json["webhooks"][0]["attempts"] == 3
    assert receiver.seen == {receiver.ids[0]: 3}


async def test_the_rate_is_kept(usher: Usher, receiver: Receiver) -> None:
    await usher("send", "user.created", "--count", "6", "--rate", "20")

    assert receiver.arrivals[-1] - receiver.arrivals[0] >= 0.22


async def test_the_region_is_asked_for(usher: Usher, receiver: Receiver) -> None:
    await usher("send", "user.created", "--region", "eu-central-1")

    assert receiver.bodies[0]["data"]["public_metadata"] == {"region": "eu-central-1"}


async def test_another_url_wins_over_the_environment(
    usher: Usher, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INGRESS_URL", "http://127.0.0.1:1")

    done = await usher("send", "session.created", "--url", receiver.url + "/webhooks/clerk")

    assert done.code == 0, done.err
    assert receiver.bodies[0]["type"] == "session.created"


async def test_an_ingress_that_is_not_there_is_said_so(usher: Usher, receiver: Receiver) -> None:
    done = await usher("send", "user.created", "--url", "http://127.0.0.1:1")

    assert done.code == 1
    assert "no answer (cannot connect" in done.err
    assert receiver.arrivals == []


@pytest.mark.parametrize(
    ("name", "via"), [("CLERK_WEBHOOK_SIGNING_SECRET", "svix"), ("HOOKDECK_WEBHOOK_SECRET", "hookdeck")]
)
async def test_a_missing_secret_is_named(
    usher: Usher, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, name: str, via: str
) -> None:
    monkeypatch.delenv(name)

    done = await usher("send", "user.created", "--via", via)

    assert done.code == 2
    assert done.err.startswith(f"usher: {name}: is not set")
    assert receiver.arrivals == []


async def test_a_secret_that_is_none_is_refused_before_anything_is_sent(
    usher: Usher, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLERK_WEBHOOK_SIGNING_SECRET", "whsec_!!not-base64!!")

    done = await usher("send", "user.created")

    assert done.code == 2
    assert "not-base64" not in done.err
    assert receiver.arrivals == []


@pytest.mark.parametrize(
    "arguments", [("--via", "pigeon"), ("--count", "0"), ("--duplicate", "--duplicate-share", "0.5"), ("--rate", "-1")]
)
async def test_misuse_is_told_apart(usher: Usher, receiver: Receiver, arguments: tuple[str, ...]) -> None:
    done = await usher("send", "user.created", *arguments)

    assert done.code == 2
    assert receiver.arrivals == []


async def test_addresses_and_secrets_are_found_in_the_nearest_env_file(
    usher: Usher, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for name in ("INGRESS_URL", "CLERK_WEBHOOK_SIGNING_SECRET"):
        monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    (home / ".usher").mkdir()
    (home / ".usher" / "env").write_text(
        f"INGRESS_URL={receiver.url}\nCLERK_WEBHOOK_SIGNING_SECRET={CLERK_SECRET}\nOTHER=1\n"
    )
    (home / "deep" / "inside").mkdir(parents=True)
    monkeypatch.chdir(home / "deep" / "inside")

    done = await usher("send", "user.created")

    assert done.code == 0, done.err
    assert len(receiver.accepted) == 1


async def test_the_first_of_several_secrets_signs(
    usher: Usher, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLERK_WEBHOOK_SIGNING_SECRET", f"v1,{CLERK_SECRET}, whsec_other")

    assert (await usher("send", "user.created")).code == 0
    assert len(receiver.accepted) == 1


async def test_the_concurrency_is_a_bound(usher: Usher, receiver: Receiver) -> None:
    at_once = 0

    async def slow(_request: web.Request) -> web.Response:
        nonlocal at_once
        at_once += 1
        receiver.most_at_once = max(receiver.most_at_once, at_once)
        await asyncio.sleep(0.02)
        at_once -= 1
        return web.Response(status=202)

    app = web.Application()
    app.router.add_post("/webhooks/clerk", slow)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]

    await usher("send", "user.created", "--count", "20", "--concurrency", "4", "--url", f"http://127.0.0.1:{port}")

    await runner.cleanup()
    assert receiver.most_at_once == 4


async def test_an_address_with_an_impossible_port_is_misuse_and_no_traceback(usher: Usher) -> None:
    done = await usher("send", "user.created", "--url", "http://127.0.0.1:99999")

    assert done.code == 2
    assert "is no http address" in done.err
