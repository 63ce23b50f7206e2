"""Webhooks as Clerk's Svix sends them, straight or through Hookdeck: planned, signed, posted, and counted by answer.

In: an `Order`. Out: a `Tally`. The signature is made here with the standard library alone, so that what the ingress
checks with the svix library has been made by something else.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Final, Literal

import aiohttp

from cli.people import BASE62, ID_LENGTH, new_user_id, webhook_body
from shared.errors import SettingsError

Via = Literal["svix", "hookdeck"]

STALE_BY_S: Final = 3600
TIMEOUT_S: Final = 15  # as long as Svix waits
RETRY_DELAYS_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
LONGEST_RETRY_AFTER_S: Final = 10.0
SVIX_USER_AGENT: Final = "Svix-Webhooks/1.84.0 (sender-9YMgn; +https://www.svix.com/http-sender/)"


@dataclass(frozen=True, slots=True)
class Secrets:
    """What is signed with. `clerk` may be missing only where Hookdeck signs."""

    clerk: str | None
    hookdeck: str | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be sent: `count` people (or as many webhooks about `user_id`), each with all of `types` in turn."""

    url: str
    types: tuple[str, ...]
    secrets: Secrets
    user_id: str | None = None
    count: int = 1
    via: Via = "svix"
    duplicate_share: float = 0.0
    shuffle: bool = False
    tamper: bool = False
    stale: bool = False
    rate: float | None = None
    concurrency: int = 10
    retries: int = 0
    seed: int | None = None
    region: str | None = None

    @property
    def total(self) -> int:
        once = self.count * len(self.types)
        return once + _duplicates(once, self.duplicate_share)

    def expects(self, status: int) -> bool:
        """401 for what nobody may accept, else 2xx. Behind a relay the age of Svix's signature does not count."""
        refused = self.tamper or (self.stale and self.via == "svix")
        return status == 401 if refused else 200 <= status < 300  # noqa: PLR2004 - HTTP's own numbers


@dataclass(frozen=True, slots=True)
class Webhook:
    """One webhook to be sent; a duplicate is the same one twice."""

    message_id: str
    user_id: str
    type: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Answer:
    """`status` 0: there was none, and `said` tells why; else `said` is the reason code of a refusal."""

    webhook: Webhook
    status: int
    seconds: float
    said: str
    attempts: int


@dataclass(slots=True)
class Tally:
    answers: list[Answer] = field(default_factory=list)

    def by_status(self) -> dict[str, int]:
        """How many webhooks got which answer; "no answer" comes last."""
        counted = Counter(answer.status for answer in self.answers)
        return {str(status) if status else "no answer": counted[status] for status in sorted(counted, key=_none_last)}


def plan(order: Order, now_ms: int) -> list[Webhook]:
    """All webhooks in the order in which they will be sent; with a seed, people and order are always the same."""
    random = Random(order.seed)  # noqa: S311 - made-up people, no secret
    planned = list(_each(order, random, now_ms))
    twice = random.sample(range(len(planned)), _duplicates(len(planned), order.duplicate_share))
    doubled = set(twice)
    planned = [webhook for at, webhook in enumerate(planned) for _ in range(2 if at in doubled else 1)]
    if order.shuffle:
        random.shuffle(planned)
    return planned


def sign_svix(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    """The `svix-signature` of a webhook (Standard Webhooks v1: HMAC-SHA256 over id, timestamp and body).

    Raises:
        SettingsError: the secret is no `whsec_…`.
    """
    text = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise SettingsError("CLERK_WEBHOOK_SIGNING_SECRET: is no whsec_… secret: copy it from Clerk again") from error
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def sign_hookdeck(secret: str, body: bytes) -> str:
    """The `x-hookdeck-signature` of a body: HMAC-SHA256 with the secret's text as it is."""
    return base64.b64encode(hmac.digest(secret.encode(), body, hashlib.sha256)).decode()


def headers(order: Order, webhook: Webhook, body: bytes, *, now_s: int, attempt: int) -> dict[str, str]:
    """All headers of one attempt, signed."""
    found = {"content-type": "application/json", "user-agent": SVIX_USER_AGENT, "svix-id": webhook.message_id}
    found["svix-timestamp"] = timestamp = str(now_s - STALE_BY_S if order.stale else now_s)
    if order.secrets.clerk is not None:
        found["svix-signature"] = sign_svix(order.secrets.clerk, webhook.message_id, timestamp, body)
    if order.via == "hookdeck":
        found |= _hookdeck_headers(order.secrets.hookdeck or "", webhook, body, attempt)
    return found


async def post_all(order: Order, tally: Tally, on_answer: Callable[[], None]) -> None:
    """Send everything; answers are in `tally` as they come, so that a Ctrl-C leaves what was reached."""
    webhooks = iter(plan(order, time.time_ns() // 1_000_000))
    pace = _Pace(order.rate)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    connector = aiohttp.TCPConnector(limit=order.concurrency)
    async with (
        aiohttp.ClientSession(timeout=timeout, connector=connector) as session,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(min(order.concurrency, order.total)):
            group.create_task(_send_next(session, order, webhooks, pace, tally, on_answer))


async def _send_next(
    session: aiohttp.ClientSession,
    order: Order,
    webhooks: Iterator[Webhook],
    pace: "_Pace",
    tally: Tally,
    on_answer: Callable[[], None],
) -> None:
    # All tasks draw from one iterator: each takes the next as soon as it is free.
    for webhook in webhooks:
        await pace.wait()
        tally.answers.append(await _send(session, order, webhook))
        on_answer()


async def _send(session: aiohttp.ClientSession, order: Order, webhook: Webhook) -> Answer:
    """Send one webhook, again as often as the order allows, as Svix does: same id, new timestamp, new signature."""
    for attempt in range(1, order.retries + 2):
        answer, retry_after_s = await _attempt(session, order, webhook, attempt)
        if order.expects(answer.status) or attempt > order.retries:
            return answer
        delay_s = RETRY_DELAYS_S[min(attempt, len(RETRY_DELAYS_S)) - 1]
        await asyncio.sleep(max(delay_s, min(retry_after_s, LONGEST_RETRY_AFTER_S)))
    raise AssertionError("the last attempt returns")


async def _attempt(
    session: aiohttp.ClientSession, order: Order, webhook: Webhook, attempt: int
) -> tuple[Answer, float]:
    body = webhook_body(webhook.user_id, webhook.type, webhook.at_ms, region=order.region)
    signed = headers(order, webhook, body, now_s=int(time.time()), attempt=attempt)
    sent = body[:-1] + b', "tampered": true}' if order.tamper else body
    begun = time.perf_counter()
    try:
        async with session.post(order.url, data=sent, headers=signed, allow_redirects=False) as response:
            said = await _reason(response)
            retry_after = response.headers.get("retry-after", "0")
            status = response.status
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        status, said, retry_after = 0, _why(error), "0"
    answer = Answer(webhook, status, time.perf_counter() - begun, said, attempt)
    return answer, float(retry_after) if retry_after.isdigit() else 0.0


async def _reason(response: aiohttp.ClientResponse) -> str:
    """The reason code of a problem+json; no other text of the receiver is repeated."""
    if response.content_type != "application/problem+json":
        return ""
    try:
        problem = await response.json(content_type=None)
    except ValueError:
        return ""
    said = [problem.get(name) for name in ("reason", "code", "title")] if isinstance(problem, dict) else []
    return next((text for text in said if isinstance(text, str)), "")


def _why(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_S} s"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect: {error.os_error.strerror or error}"
    return type(error).__name__


def _each(order: Order, random: Random, now_ms: int) -> Iterator[Webhook]:
    # One millisecond apart and none of them in the future, so that no two updates of a person are of the same version.
    moments = itertools.count(now_ms - order.count * len(order.types) + 1)
    for _ in range(order.count):
        user_id = order.user_id or new_user_id(random)
        for event_type in order.types:
            message_id = "msg_" + "".join(random.choices(BASE62, k=ID_LENGTH))
            if order.seed is not None:
                # A repeated run is a set of new webhooks about the same people, not a replay of the old ones.
                message_id = f"msg_{hashlib.sha256(f'{message_id} {now_ms}'.encode()).hexdigest()[:ID_LENGTH]}"
            yield Webhook(message_id, user_id, event_type, next(moments))


def _none_last(status: int) -> tuple[bool, int]:
    return status == 0, status


def _duplicates(count: int, share: float) -> int:
    return round(count * share)


def _hookdeck_headers(secret: str, webhook: Webhook, body: bytes, attempt: int) -> dict[str, str]:
    event_id = f"evt_{hashlib.sha256(webhook.message_id.encode()).hexdigest()[:ID_LENGTH]}"
    return {
        "x-hookdeck-signature": sign_hookdeck(secret, body),
        "x-hookdeck-eventid": event_id,
        "x-hookdeck-requestid": event_id.replace("evt_", "req_"),
        "x-hookdeck-source-name": "clerk",
        "x-hookdeck-connection-name": "clerk-usher",
        "x-hookdeck-destination-name": "usher",
        "x-hookdeck-attempt-count": str(attempt),
        "x-hookdeck-attempt-trigger": "INITIAL" if attempt == 1 else "AUTOMATIC",
        "x-hookdeck-will-retry-after": "60",
        "x-hookdeck-event-url": f"https://dashboard.hookdeck.com/events/{event_id}",
        "x-hookdeck-verified": "true",
        "x-hookdeck-original-ip": "54.164.207.221",
        "idempotency-key": event_id,
    }


class _Pace:
    """Lets callers through at a steady rate, measured from the first; None: at once."""

    def __init__(self, rate: float | None) -> None:
        self._gap_s = 1 / rate if rate else 0.0
        self._next_at = 0.0

    async def wait(self) -> None:
        if not self._gap_s:
            return
        now = time.monotonic()
        at = max(self._next_at, now)
        self._next_at = at + self._gap_s
        await asyncio.sleep(at - now)
