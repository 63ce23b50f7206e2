"""Whether the broker still has us as a consumer and events move: what a connection that looks alive does not say.

Goes in: a look at the queue every few seconds, by a passive declaration that takes nothing and needs no right beyond
reading. Comes out: what is wrong, in words; a subscription that the broker has forgotten is begun anew.
"""

import asyncio
import time
from typing import Final, NoReturn

from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelNotFoundEntity

from consumer.subscription import QueueLook, Subscription

LOOK_EVERY_S: Final = 5.0
# A broker that is well answers in milliseconds; three heartbeats would be waited for on a silent connection.
LOOK_TIMEOUT_S: Final = 5.0
# A look meets a queue between two deliveries, or a leader that is just being elected.
LOOKS_TO_DOUBT: Final = 3
# Long before the broker's own patience with an unsettled message (30 minutes) ends.
HELD_TOO_LONG_S: Final = 300.0


class Presence:
    """Watches one subscription; `run` looks for ever."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._doubts = 0
        self._arrived_before = 0
        self._why: str | None = None

    @property
    def registered(self) -> str | None:
        """None: we are a consumer, as far as the last look could tell."""
        if not self._subscription.registered:
            return "not a consumer of the queue"
        return self._why

    @property
    def progress(self) -> str | None:
        """None: nothing is held for too long. An idle consumer is well."""
        held_s = self.held_s
        return f"an event has been unsettled for {held_s:.0f} s" if held_s > HELD_TOO_LONG_S else None

    @property
    def held_s(self) -> float:
        """For how long the oldest unsettled event has been held."""
        since = self._subscription.held_since
        return time.monotonic() - since if since is not None else 0.0

    async def run(self) -> NoReturn:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            # A task of its own: the library swallows a cancellation that meets it while it closes a channel.
            looking = asyncio.get_running_loop().create_task(self._look())
            try:
                await asyncio.wait({looking}, timeout=LOOK_TIMEOUT_S)
            finally:
                unanswered = not looking.done()
                looking.cancel()
            if unanswered:
                self._subscription.link.drop("the broker does not answer a look at the queue")

    async def _look(self) -> None:
        if not self._subscription.registered:
            self._doubt(None)
            return
        try:
            self._judge(await self._subscription.look())
        except ChannelNotFoundEntity:
            self._subscription.link.drop("the queue is gone")
        except CONNECTION_EXCEPTIONS:
            self._doubt(None)  # the link sees to it

    def _judge(self, look: QueueLook) -> None:
        came, self._arrived_before = look.arrived != self._arrived_before, look.arrived
        if not look.consumers:
            self._doubt("the broker has no consumer of the queue")
        elif look.ready and look.room and not came:
            self._doubt("messages are ready, and none is handed out to this consumer")
        else:
            self._doubt(None)

    def _doubt(self, why: str | None) -> None:
        self._doubts = self._doubts + 1 if why else 0
        self._why = why if self._doubts > 1 else None
        if why and self._doubts >= LOOKS_TO_DOUBT:
            self._doubts = 0
            self._subscription.link.drop(why)
