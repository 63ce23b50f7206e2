"""`usher dead`: look at what was given up, send it back, or take it away."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from cli import terminal
from cli.dead_view import groups_of, print_groups, print_letter, print_letters, print_redriven, print_unseen, whole
from cli.settings import OperatorSettings
from shared.errors import UsherError

if TYPE_CHECKING:
    from cli.dead_letters import DeadLetter, Filter
    from cli.redrive import Redriven

verbs = typer.Typer(
    help="Dead letters: what was given up, with its reason. Look, send back, take away.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

QueueOption = Annotated[
    str | None,
    typer.Option(help="Only this queue: sync_user, provision_database, ingress, unrouted, or its whole name."),
]
ReasonOption = Annotated[str | None, typer.Option(help="Only this reason, as `dead ls` names it.")]
UserOption = Annotated[str | None, typer.Option(help="Only events about this user id.")]
IdOption = Annotated[list[str] | None, typer.Option("--id", help="Only this event id; may be given several times.")]
AllOption = Annotated[bool, typer.Option("--all", help="Every dead letter: needed where nothing else is chosen.")]
LimitOption = Annotated[int | None, typer.Option(min=1, help="At most so many, the oldest first.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which letters a verb is about."""

    queues: tuple[str, ...]
    wanted: "Filter"


@verbs.command("ls")
def ls(
    *,
    queue: QueueOption = None,
    reason: ReasonOption = None,
    user: UserOption = None,
    each: Annotated[bool, typer.Option("--each", help="A line for each letter instead of one per reason.")] = False,
    json: JsonOption = False,
) -> None:
    """List dead letters, grouped by queue, reason and error.

    Looking changes nothing: every letter stays where it is. While a listing runs, others do not see the letters.

    [bold]Examples[/bold]

        usher dead ls
        usher dead ls --queue sync_user --each
        usher dead ls --json | jq '.total'

    Exit codes: 0 listed (also when there are none), 1 failed, 2 misused.
    """
    choice = _choice(queue, reason, user, None)
    letters, unseen = terminal.run(_read(choice))
    groups = groups_of(letters)
    if json:
        known = [letter.as_json() for letter in letters]
        terminal.print_json({"total": len(letters), "unseen": unseen, "groups": groups, "letters": known})
        return
    if each:
        print_letters(letters)
    else:
        print_groups(groups)
    terminal.out().print(f"{len(letters)} dead letters.")
    print_unseen(unseen)


@verbs.command("show")
def show(
    event_id: Annotated[str, typer.Argument(metavar="ID", help="The event id, as `dead ls --each` names it.")],
    *,
    queue: QueueOption = None,
    body: Annotated[bool, typer.Option("--body", help="Also what the event says. That is personal data.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON, one line per letter; body and headers included.")
    ] = False,
) -> None:
    """Show everything that is known about one dead letter. An event that failed in two queues is shown twice.

    [bold]Examples[/bold]

        usher dead show msg_2KWPBgLlAfxdpx2AI54pPJ85f4W
        usher dead show msg_2KWPBgLlAfxdpx2AI54pPJ85f4W --body

    Exit codes: 0 shown, 1 there is none with this id, 2 misused.
    """
    letters, unseen = terminal.run(_read(_choice(queue, None, None, [event_id])))
    for letter in letters:
        if json:
            terminal.print_json(whole(letter))
        else:
            print_letter(letter, body=body)
    print_unseen(unseen)
    if not letters:
        terminal.err().print(f"no dead letter has the event id {event_id}")
        raise typer.Exit(1)


@verbs.command("redrive")
def redrive(
    *,
    queue: QueueOption = None,
    reason: ReasonOption = None,
    user: UserOption = None,
    event_id: IdOption = None,
    everything: AllOption = False,
    limit: LimitOption = None,
    rate: Annotated[float | None, typer.Option(min=0.001, help="At most so many a second.")] = None,
    json: JsonOption = False,
) -> None:
    """Send dead letters back to the queue in which they failed, as first attempts.

    Each is copied, the copy confirmed by the broker, and only then removed: stopping at any moment loses nothing
    (what was under way may be done twice, which is harmless). What comes in meanwhile waits for the next time.
    Unrouted events are published again. Webhooks that could not be read stay: there is no event in them.

    [bold]Examples[/bold]

        usher dead redrive --id msg_2KWPBgLlAfxdpx2AI54pPJ85f4W
        usher dead redrive --queue sync_user --reason attempts_exhausted
        usher dead redrive --user user_2abc
        usher dead redrive --all --rate 50

    Exit codes: 0 all sent back, 1 some could not be (they are named), 2 misused, 130 stopped with Ctrl-C.
    """
    from cli.redrive import WHY_WEBHOOKS_STAY
    from shared.topology import INGRESS_DEAD_QUEUE

    choice = _choice(queue, reason, user, event_id)
    _refuse_by_accident(choice, everything=everything, queue=queue)
    if choice.queues == (INGRESS_DEAD_QUEUE,):
        raise typer.BadParameter(WHY_WEBHOOKS_STAY, param_hint="--queue")
    queues = tuple(name for name in choice.queues if name != INGRESS_DEAD_QUEUE)
    results: dict[str, Redriven] = {}
    try:
        terminal.run(_redrive(Choice(queues, choice.wanted), limit, rate, results, quiet=json))
    finally:
        # After a Ctrl-C or a lost connection too: what was sent back has been sent back.
        print_redriven(results, json=json)
    if any(result.stuck for result in results.values()):
        raise typer.Exit(1)


@verbs.command("discard")
def discard(
    *,
    queue: QueueOption = None,
    reason: ReasonOption = None,
    user: UserOption = None,
    event_id: IdOption = None,
    everything: AllOption = False,
    limit: LimitOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    export: Annotated[Path | None, typer.Option(help="Where they are kept; else a new file in this folder.")] = None,
    json: JsonOption = False,
) -> None:
    """Take dead letters away for good, after writing them to a file (JSON lines, readable by you alone).

    The file holds personal data: delete it when it has served.

    [bold]Examples[/bold]

        usher dead discard --queue ingress
        usher dead discard --reason undecodable --yes --export /secure/undecodable.jsonl

    Exit codes: 0 done or nothing to do, 1 failed or answered no, 2 misused, 130 stopped with Ctrl-C.
    """
    choice = _choice(queue, reason, user, event_id)
    _refuse_by_accident(choice, everything=everything, queue=queue)
    letters, unseen = terminal.run(_read(choice))
    groups = groups_of(letters if limit is None else letters[:limit])
    total = sum(group["count"] for group in groups)
    if not json:
        print_groups(groups)
        print_unseen(unseen)
    path = export or Path(f"usher-dead-letters-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.jsonl")
    if total and not yes and not typer.confirm(f"Discard {total} dead letters (kept in {path})?", err=True):
        raise typer.Exit(1)
    discarded = terminal.run(_discard(choice, groups, path)) if total else 0
    if json:
        terminal.print_json({"discarded": discarded, "export": str(path) if total else None})
    else:
        terminal.out().print(f"{discarded} discarded" + (f", kept in {path}" if total else ""))


def _choice(queue: str | None, reason: str | None, user: str | None, event_ids: Sequence[str] | None) -> Choice:
    from cli.dead_letters import DEAD_QUEUES, Filter

    return Choice(
        DEAD_QUEUES if queue is None else (_queue_named(queue),), Filter(reason, user, tuple(event_ids or ()))
    )


def _queue_named(name: str) -> str:
    """The dead-letter queue that is meant by its own name, its work queue's, or the effect's."""
    from cli.dead_letters import DEAD_QUEUES

    for queue in DEAD_QUEUES:
        short = queue.removeprefix("usher.").removesuffix(".dead")
        if name in {queue, queue.removesuffix(".dead"), short}:
            return queue
    raise typer.BadParameter(f"{name!r} is none of {', '.join(DEAD_QUEUES)}", param_hint="--queue")


def _refuse_by_accident(choice: Choice, *, everything: bool, queue: str | None) -> None:
    chosen = queue is not None or not choice.wanted.takes_all
    if not chosen and not everything:
        raise typer.BadParameter("say which (--queue, --reason, --user, --id), or --all")
    if chosen and everything:
        raise typer.BadParameter("--all means every dead letter: leave it away, or the filters")


async def _read(choice: Choice) -> "tuple[list[DeadLetter], int]":
    """The letters that are meant, and how many could not be looked at because somebody else has them in hand."""
    from cli import connections
    from cli.dead_letters import opened

    found: list[DeadLetter] = []
    unseen = 0
    async with connections.broker(OperatorSettings.find().broker_addresses()) as connection:
        for queue in choice.queues:
            async with opened(connection, queue) as letters:
                found += [letter async for letter in letters.rest() if choice.wanted.takes(letter)]
                unseen += letters.unseen
    return found, unseen


async def _redrive(
    choice: Choice, limit: int | None, rate: float | None, results: "dict[str, Redriven]", *, quiet: bool
) -> None:
    from cli import connections
    from cli.redrive import Redrive

    async with connections.broker(OperatorSettings.find().broker_addresses()) as connection:
        with terminal.progress(shown=not quiet) as bar:
            for queue in choice.queues:
                task = bar.add_task(queue, total=None)
                work = Redrive(
                    choice.wanted,
                    limit=None if limit is None else limit - sum(result.done for result in results.values()),
                    rate=rate,
                    on_open=lambda depth, task=task: bar.update(task, total=depth),  # type: ignore[misc]  # mypy cannot infer a lambda with a default
                    on_each=lambda task=task: bar.advance(task),  # type: ignore[misc]  # as above
                )
                results[queue] = work.result
                await work.run(connection, queue)


async def _discard(choice: Choice, groups: Sequence[dict[str, Any]], path: Path) -> int:
    """Discard as many per queue as were counted and agreed to: what came since then is left alone."""
    from cli import connections
    from cli.redrive import discard as discard_from

    agreed: Counter[str] = Counter()
    for group in groups:
        agreed[group["queue"]] += group["count"]
    discarded = 0
    with _private(path) as file:

        def keep(letters: "Sequence[DeadLetter]") -> None:
            file.writelines(json.dumps(whole(letter), ensure_ascii=False, default=str) + "\n" for letter in letters)
            file.flush()
            os.fsync(file.fileno())

        async with connections.broker(OperatorSettings.find().broker_addresses()) as connection:
            for queue, count in agreed.items():
                discarded += await discard_from(connection, queue, choice.wanted, limit=count, keep=keep)
    return discarded


def _private(path: Path) -> TextIO:
    """A new file that only its owner can read, from its first byte; what is there already is never overwritten."""
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8")
    except OSError as error:
        raise UsherError(f"{path} cannot be written ({error.strerror}): nothing was discarded") from error
