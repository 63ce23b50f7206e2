"""`usher dead redrive`: send dead letters back to where they failed."""

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.markup import escape

from cli import terminal
from cli.dead_choice import (
    AllOption,
    Choice,
    IdOption,
    JsonOption,
    LimitOption,
    QueueOption,
    ReasonOption,
    SinceOption,
    UserOption,
    choice,
    print_missing,
    refuse_by_accident,
)
from cli.dead_view import counted
from cli.settings import OperatorSettings

if TYPE_CHECKING:
    from cli.dead_letters import DeadLetter
    from cli.redrive import Redriven
    from cli.standing import Standing

SHOWN: Final = 10


def redrive(
    *,
    queue: QueueOption = None,
    reason: ReasonOption = None,
    user: UserOption = None,
    since: SinceOption = None,
    letter_id: IdOption = None,
    everything: AllOption = False,
    limit: LimitOption = None,
    rate: Annotated[float | None, typer.Option(min=0.001, help="At most so many a second.")] = None,
    stop_on_failure: Annotated[
        bool, typer.Option("--stop-on-failure", help="Send one first, then 10 a second; stop when one comes back dead.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Send dead letters back to the queue in which they failed, as first attempts.

    Each is copied, the copy confirmed by the broker, and only then removed: stopping at any moment loses nothing
    (what was under way may be done twice, which is harmless). What comes in meanwhile waits for the next time.
    Unrouted events are published again. Webhooks that could not be read stay: there is no event in them.
    Who did it is written down, in the log stream and on standard error. --stop-on-failure watches the queue of the
    letter for three seconds after the first and after the last; what takes hours to fail it cannot see.

    [bold]Examples[/bold]

        usher dead redrive --id msg_2KWPBgLlAfxdpx2AI54pPJ85f4W
        usher dead redrive --queue sync_user --reason attempts_exhausted --stop-on-failure
        usher dead redrive --user user_2abc
        usher dead redrive --all --since 2h --rate 50

    Exit codes: 0 all sent back, 1 some could not be, failed again, or no letter has an id that was given (they are
    named), 2 misused, 130 stopped with Ctrl-C.
    """
    from cli.redrive import WHY_WEBHOOKS_STAY
    from shared.topology import INGRESS_DEAD_QUEUE

    chosen = choice(queue, reason, user, letter_id, since)
    refuse_by_accident(chosen, everything=everything, queue=queue)
    if chosen.queues == (INGRESS_DEAD_QUEUE,):
        raise typer.BadParameter(WHY_WEBHOOKS_STAY, param_hint="--queue")
    work = Work(chosen, limit, rate, stop_on_failure=stop_on_failure)
    try:
        terminal.run(work.run(quiet=json), level="info")
    finally:
        # After a Ctrl-C or a lost connection too: what was sent back has been sent back.
        _report(work, json=json)
    if work.stuck or work.again or work.missing:
        raise typer.Exit(1)


class Work:
    """One run over all chosen queues, and what has come of it so far."""

    def __init__(self, chosen: Choice, limit: int | None, rate: float | None, *, stop_on_failure: bool) -> None:
        from shared.topology import INGRESS_DEAD_QUEUE

        queues = tuple(name for name in chosen.queues if name != INGRESS_DEAD_QUEUE)
        self.results: dict[str, Redriven] = {}
        self.standing: Standing | None = None
        self.webhooks = 0
        # Ids that were asked for and are nowhere.
        self.missing: list[str] = []
        self._webhooks_stay = chosen.queues != queues
        self._chosen = Choice(queues, chosen.wanted)
        self._limit = limit
        self._rate = rate
        self._stop_on_failure = stop_on_failure

    @property
    def sent(self) -> "list[DeadLetter]":
        return [letter for result in self.results.values() for letter in result.sent]

    @property
    def stuck(self) -> "list[tuple[DeadLetter, str]]":
        return [each for result in self.results.values() for each in result.stuck]

    @property
    def again(self) -> "list[DeadLetter]":
        return [letter for result in self.results.values() for letter in result.again]

    @property
    def left(self) -> int:
        return sum(result.left for result in self.results.values())

    def figures(self) -> dict[str, int]:
        return {
            "redriven": len(self.sent),
            "left": self.left,
            "stuck": len(self.stuck),
            "failed_again": len(self.again),
        }

    async def run(self, *, quiet: bool) -> None:
        from cli.audit import Act, recorded
        from cli.standing import of_letters

        addresses = OperatorSettings.find().broker_addresses()
        asked = {**self._chosen.as_json(), "limit": self._limit, "rate": self._rate}
        async with recorded(addresses, Act("dead redrive", asked)) as act:
            try:
                await self._send_back(addresses, quiet=quiet)
            finally:
                act.outcome = self.figures()
                act.event_ids = [letter.id for letter in self.sent]
        self.standing = await of_letters(self.sent)

    async def _send_back(self, addresses: list[str], *, quiet: bool) -> None:
        from cli import connections
        from cli.redrive import Redrive

        async with connections.broker(addresses) as connection:
            if self._webhooks_stay and self._chosen.wanted.takes_all:
                self.webhooks = await _webhooks(connection)
            with terminal.progress(shown=not quiet) as bar:
                for queue in self._chosen.queues:
                    task = bar.add_task(queue, total=None)
                    work = Redrive(
                        self._chosen.wanted,
                        limit=None if self._limit is None else self._limit - len(self.sent),
                        rate=self._rate,
                        stop_on_failure=self._stop_on_failure,
                        on_open=lambda depth, task=task: bar.update(task, total=depth),  # type: ignore[misc]  # mypy cannot infer a lambda with a default
                        on_each=lambda task=task: bar.advance(task),  # type: ignore[misc]  # as above
                    )
                    self.results[queue] = work.result
                    await work.run(connection, queue)
                    if self.again:
                        return
            if not self._at_the_limit:
                await self._look_for_missing(connection)

    @property
    def _at_the_limit(self) -> bool:
        """Then nobody has looked at what lies behind."""
        return self._limit is not None and len(self.sent) + len(self.stuck) >= self._limit

    async def _look_for_missing(self, connection: Any) -> None:
        from cli.dead_letters import opened
        from cli.redrive import WHY_WEBHOOKS_STAY, Redriven
        from shared.topology import INGRESS_DEAD_QUEUE

        self.missing = self._chosen.missing([*self.sent, *(letter for letter, _ in self.stuck)])
        if self.missing and self._webhooks_stay:
            async with opened(connection, INGRESS_DEAD_QUEUE) as letters:
                asked = [letter async for letter in letters.rest() if self._chosen.wanted.takes(letter)]
            stay = [(letter, WHY_WEBHOOKS_STAY) for letter in asked]
            self.results[INGRESS_DEAD_QUEUE] = Redriven(stuck=stay, unseen=letters.unseen)
            self.missing = [each for each in self._chosen.missing(asked) if each in self.missing]


async def _webhooks(connection: Any) -> int:
    """How many webhooks lie where no event can be sent back from."""
    from cli.dead_letters import opened
    from shared.topology import INGRESS_DEAD_QUEUE

    async with opened(connection, INGRESS_DEAD_QUEUE) as letters:
        return letters.unseen


def _report(work: Work, *, json: bool) -> None:
    if json:
        terminal.print_json(_as_json(work))
        return
    figures = work.figures()
    terminal.out().print(
        f"{figures['redriven']} sent back, {figures['left']} left, {figures['stuck']} could not be sent back."
    )
    _print_some([f"{each.queue} {each.id}: {why}" for each, why in work.stuck])
    _print_some([f"{each.queue} {each.id}: failed again: {each.error or each.reason}" for each in work.again])
    print_missing(work.missing, sum(result.unseen for result in work.results.values()))
    _print_superseded(work)
    if work.webhooks:
        from cli.redrive import WHY_WEBHOOKS_STAY

        terminal.err().print(escape(f"{counted(work.webhooks, 'webhook')} stayed: {WHY_WEBHOOKS_STAY}."))


def _print_superseded(work: Work) -> None:
    superseded = _superseded(work)
    if superseded:
        ids = ", ".join(superseded[:SHOWN]) + (", …" if len(superseded) > SHOWN else "")
        text = (
            f"{len(superseded)} of them superseded: a newer state is in the table, they change nothing there ({ids})."
        )
        terminal.out().print(escape(text))
    elif work.standing and work.standing.trouble:
        terminal.err().print(escape(f"Not known whether any is superseded: {work.standing.trouble}"))


def _superseded(work: Work) -> list[str]:
    standing = work.standing
    return [letter.id for letter in work.sent if standing and standing.superseded(letter)]


def _as_json(work: Work) -> dict[str, object]:
    known = work.standing is not None and work.standing.trouble is None
    return {
        "redriven": len(work.sent),
        "left": work.left,
        "stuck": [
            {"queue": each.queue, "id": each.id, "event_id": each.event_id, "why": why} for each, why in work.stuck
        ],
        "missing": work.missing,
        "failed_again": [letter.as_json() for letter in work.again],
        "superseded": _superseded(work) if known else None,
        "webhooks_left": work.webhooks,
        "queues": {queue: result.done for queue, result in work.results.items()},
    }


def _print_some(lines: list[str]) -> None:
    for line in lines[:SHOWN]:
        terminal.err().print(escape(line))
    if len(lines) > SHOWN:
        terminal.err().print(f"… and {len(lines) - SHOWN} more")
