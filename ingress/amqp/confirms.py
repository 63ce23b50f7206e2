"""Publishes that wait for the broker's word, by delivery tag. No I/O, no clock of its own.

Promise: each gets exactly one outcome: None for stored, or a sentence that says why not.
"""

import asyncio
from dataclasses import dataclass, field

from pamqp import commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from ingress.amqp.message import tag_of
from ingress.amqp.wire import Confirm, WireError

REFUSED = "refused by the broker: a queue is full or unavailable"


@dataclass(slots=True)
class Waiting:
    """One publish. `answers` is how often the broker had answered before it."""

    outcome: asyncio.Future[str | None]
    deadline: float
    answers: int
    returned: str | None = field(default=None)

    def end(self, outcome: str | None) -> None:
        # Whoever waited may have been cancelled.
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class Confirms:
    """Delivery tags count from 1 on a channel; the broker may settle them one by one, in any order, or in ranges."""

    def __init__(self) -> None:
        self._waiting: dict[int, Waiting] = {}
        self._last = 0
        self._settled_to = 0  # a range begins after it: what lies before has been settled in an earlier one
        self._returning: commands.Basic.Return | None = None
        self.answers = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def expect(self, outcome: asyncio.Future[str | None], deadline: float) -> int:
        """The tag of the next publish, whose outcome goes to `outcome`."""
        self._last += 1
        self._waiting[self._last] = Waiting(outcome, deadline, self.answers)
        return self._last

    def take_return(self, frame: commands.Basic.Return | ContentHeader | ContentBody) -> None:
        """A message that no queue takes comes back in parts; its confirm comes after it, and is an ack nevertheless.

        Raises:
            WireError: it was never published.
        """
        match frame:
            case commands.Basic.Return():
                self._returning = frame
            case ContentHeader():
                self._note_return(tag_of(frame))
            case ContentBody():
                pass

    def settle(self, confirm: Confirm) -> None:
        """Give everything that the broker has settled its outcome. A late word on what was given up changes nothing.

        Raises:
            WireError: the tag was never given out.
        """
        tag = confirm.tag or self._last  # 0 means all, in a range
        if tag > self._last or (not confirm.tag and not confirm.multiple):
            raise WireError("a confirm for what was never published")
        self.answers += 1
        if not confirm.multiple:
            self._end(tag, stored=confirm.stored)
            return
        for each in range(self._settled_to + 1, tag + 1):
            self._end(each, stored=confirm.stored)
        self._settled_to = max(self._settled_to, tag)

    def expire(self, now: float) -> list[Waiting]:
        """What has waited too long; the caller gives it its outcome."""
        late = [tag for tag, waiting in self._waiting.items() if waiting.deadline <= now]
        return [self._waiting.pop(tag) for tag in late]

    def hurry(self, deadline: float) -> None:
        """Let nothing wait beyond `deadline`."""
        for waiting in self._waiting.values():
            waiting.deadline = min(waiting.deadline, deadline)

    def next_deadline(self) -> float | None:
        return min((waiting.deadline for waiting in self._waiting.values()), default=None)

    def fail(self, outcome: str) -> None:
        """Nothing more will come."""
        for waiting in self._waiting.values():
            waiting.end(outcome)
        self._waiting.clear()

    def _note_return(self, tag: int) -> None:
        if self._returning is None:
            raise WireError("the content of a message that was not returned")
        exchange, key = self._returning.exchange, self._returning.routing_key
        if waiting := self._waiting.get(tag):
            waiting.returned = f"returned: no queue takes {key!r} from exchange {exchange!r}"
        self._returning = None

    def _end(self, tag: int, *, stored: bool) -> None:
        if waiting := self._waiting.pop(tag, None):
            waiting.end(waiting.returned if stored else REFUSED)
