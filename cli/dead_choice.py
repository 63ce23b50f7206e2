"""Which dead letters a verb is about: the options, what they mean, and reading what they choose."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cli import terminal
from cli.dead_view import print_unseen
from cli.settings import OperatorSettings

if TYPE_CHECKING:
    from cli.dead_letters import DeadLetter, Filter

QueueOption = Annotated[
    str | None,
    typer.Option(help="Only this queue: sync_user, provision_database, ingress, unrouted, or its whole name."),
]
ReasonOption = Annotated[str | None, typer.Option(help="Only this reason, as `dead ls` names it.")]
UserOption = Annotated[str | None, typer.Option(help="Only events about this user id.")]
IdOption = Annotated[
    list[str] | None, typer.Option("--id", help="Only this id, as `dead ls` names it; may be given several times.")
]
SinceOption = Annotated[
    str | None, typer.Option(help="Only what failed since: how long ago (30m, 2h), or a time (2026-11-20T14:30Z).")
]
AllOption = Annotated[bool, typer.Option("--all", help="Every dead letter: needed where nothing else is chosen.")]
LimitOption = Annotated[int | None, typer.Option(min=1, help="At most so many, the oldest first.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which letters a verb is about."""

    queues: tuple[str, ...]
    wanted: "Filter"

    def missing(self, found: "Iterable[DeadLetter]") -> list[str]:
        """The ids that were asked for and are none of those that were `found`."""
        ids = {letter.id for letter in found}
        return [wanted for wanted in dict.fromkeys(self.wanted.ids) if wanted not in ids]

    def as_json(self) -> dict[str, object]:
        """As it stands in the record of what an operator did."""
        chosen = {"reason": self.wanted.reason, "user_id": self.wanted.user_id, "ids": list(self.wanted.ids)}
        since = self.wanted.since.isoformat() if self.wanted.since else None
        return {"queues": list(self.queues), **chosen, "since": since}


def choice(
    queue: str | None,
    reason: str | None = None,
    user: str | None = None,
    ids: Sequence[str] | None = None,
    since: str | None = None,
) -> Choice:
    from cli.dead_letters import DEAD_QUEUES, Filter
    from cli.moments import moment

    wanted = Filter(reason, user, tuple(ids or ()), moment(since, "--since") if since else None)
    return Choice(DEAD_QUEUES if queue is None else (_queue_named(queue),), wanted)


def refuse_by_accident(chosen: Choice, *, everything: bool, queue: str | None) -> None:
    narrowed = queue is not None or not chosen.wanted.takes_all
    if not narrowed and not everything:
        raise typer.BadParameter("say which (--queue, --reason, --user, --since, --id), or --all")
    if narrowed and everything:
        raise typer.BadParameter("--all means every dead letter: leave it away, or the filters")


def print_missing(ids: Sequence[str], unseen: int) -> None:
    for each in ids:
        terminal.err().print(
            escape(f"No dead letter that was asked for has the id {each}: see `usher dead ls --each`.")
        )
    if ids:
        print_unseen(unseen)


async def read(chosen: Choice, *, quiet: bool) -> "tuple[list[DeadLetter], int]":
    """The letters that are meant, and how many could not be looked at because somebody else has them in hand."""
    from cli import connections
    from cli.dead_letters import opened

    found: list[DeadLetter] = []
    unseen = 0
    async with connections.broker(OperatorSettings.find().broker_addresses()) as connection:
        with terminal.progress(shown=not quiet) as bar:
            for queue in chosen.queues:
                async with opened(connection, queue) as letters:
                    task = bar.add_task(queue, total=letters.unseen)
                    async for letter in letters.rest():
                        bar.advance(task)
                        found += [letter] if chosen.wanted.takes(letter) else []
                    unseen += letters.unseen
    return found, unseen


def _queue_named(name: str) -> str:
    """The dead-letter queue that is meant by its own name, its work queue's, or the effect's."""
    from cli.dead_letters import DEAD_QUEUES

    for queue in DEAD_QUEUES:
        short = queue.removeprefix("usher.").removesuffix(".dead")
        if name in {queue, queue.removesuffix(".dead"), short}:
            return queue
    raise typer.BadParameter(f"{name!r} is none of {', '.join(DEAD_QUEUES)}", param_hint="--queue")
