"""The sender: Clerk's webhooks the way Svix sends them, each again and again until it is answered 2xx.

Svix waits seconds, minutes and hours between its tries; here they follow each other within a second.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Final

import aiohttp

from cli.people import webhook_body
from cli.posting import Order, Webhook, headers, plan
from tests.support.eventually import eventually

RETRY_DELAYS_S: Final = (0.2, 0.5, 1.0)
ATTEMPT_TIMEOUT_S: Final = 15  # as long as Svix waits
DUPLICATE_SHARE: Final = 0.3
FIRST_SHARE: Final = 0.6
# What a user goes through, and how many of ten do.
LIVES: Final = (
    (("user.created",), 5),
    (("user.created", "user.updated", "user.updated"), 3),
    (("user.created", "user.updated", "user.deleted"), 2),
)
# The ingress has no answer that tells Svix to give up, but for what is itself wrong; 401 is tried again, too.
PERMANENT: Final = range(400, 500)


@dataclass(slots=True)
class Load:
    """A bounded number of webhooks, `rate` a second, duplicated and shuffled. `accepted` holds each by its id.

    The last of them wait until the scenario asks for more than the first share: breaking something can take long.
    """

    order: Order
    webhooks: list[Webhook]
    rate: float
    skew_s: int = 0
    accepted: dict[str, Webhook] = field(default_factory=dict)
    answers: Counter[int] = field(default_factory=Counter)
    done: int = 0
    _rest: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def refused(self) -> int:
        """Attempts that were not answered 2xx."""
        return sum(count for status, count in self.answers.items() if not 200 <= status < 300)

    @property
    def permanent(self) -> int:
        """Attempts that were answered as if the sender were to blame."""
        return sum(count for status, count in self.answers.items() if status in PERMANENT)

    @asynccontextmanager
    async def under_way(self, within_s: float) -> AsyncIterator["Load"]:
        """Sends while the block runs, and goes on until all of it is accepted."""
        sending = asyncio.create_task(self._send_all(within_s))
        try:
            yield self
            self._rest.set()
            await sending
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    def flow(self) -> None:
        """Hold nothing back."""
        self._rest.set()

    async def reached(self, share: float) -> None:
        """Returns when that share of all webhooks has been accepted."""
        if share > FIRST_SHARE / 2:
            self._rest.set()
        await eventually(lambda: self.done >= share * len(self.webhooks), timeout_s=60, what=f"{share:.0%} accepted")

    async def felt(self, attempts: int = 3) -> None:
        """Returns when so many more attempts have been refused: the sender notices that something is wrong."""
        self._rest.set()
        before = self.refused
        await eventually(lambda: self.refused >= before + attempts, timeout_s=60, what="the sender is refused")

    async def _send_all(self, within_s: float) -> None:
        timeout = aiohttp.ClientTimeout(total=ATTEMPT_TIMEOUT_S)
        connector = aiohttp.TCPConnector(limit=50)
        async with (
            asyncio.timeout(within_s),
            aiohttp.ClientSession(timeout=timeout, connector=connector) as session,
            asyncio.TaskGroup() as group,
        ):
            for number, webhook in enumerate(self.webhooks):
                if number == round(FIRST_SHARE * len(self.webhooks)):
                    await self._rest.wait()
                group.create_task(self._send(session, webhook))
                await asyncio.sleep(1 / self.rate)

    async def _send(self, session: aiohttp.ClientSession, webhook: Webhook) -> None:
        attempt = 1
        while not await self._accepted(session, webhook, attempt):
            await asyncio.sleep(RETRY_DELAYS_S[min(attempt, len(RETRY_DELAYS_S)) - 1])
            attempt += 1
        self.accepted[webhook.message_id] = webhook
        self.done += 1

    async def _accepted(self, session: aiohttp.ClientSession, webhook: Webhook, attempt: int) -> bool:
        body = webhook_body(webhook.user_id, webhook.type, webhook.at_ms)
        signed = headers(self.order, webhook, body, now_s=int(time.time()) + self.skew_s, attempt=attempt)
        try:
            async with session.post(self.order.url, data=body, headers=signed) as response:
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            status = 0
        self.answers[status] += 1
        return 200 <= status < 300


def make_load(order: Order, *, users: int, rate: float, seed: int) -> Load:
    """`order` says where to and how to sign; `users` people live through `LIVES`."""
    random = Random(seed)
    now_ms = time.time_ns() // 1_000_000
    webhooks = [
        webhook
        for types, tenths in LIVES
        for webhook in plan(_order_of(order, types, max(1, users * tenths // 10), random.random()), now_ms)
    ]
    webhooks += random.sample(webhooks, round(DUPLICATE_SHARE * len(webhooks)))
    random.shuffle(webhooks)
    return Load(order, webhooks, rate)


def _order_of(order: Order, types: tuple[str, ...], count: int, seed: float) -> Order:
    return Order(url=order.url, types=types, secrets=order.secrets, count=count, seed=int(seed * 2**32))
