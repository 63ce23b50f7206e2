"""`usher dead discard`: take dead letters away for good, after keeping them in a file."""

import json as jsonlib
import os
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

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
    read,
    refuse_by_accident,
)
from cli.dead_view import counted, groups_of, print_groups, print_unseen, whole
from cli.settings import OperatorSettings
from shared.errors import UsherError

if TYPE_CHECKING:
    from cli.dead_letters import DeadLetter


def discard(
    *,
    queue: QueueOption = None,
    reason: ReasonOption = None,
    user: UserOption = None,
    since: SinceOption = None,
    letter_id: IdOption = None,
    everything: AllOption = False,
    limit: LimitOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    export: Annotated[Path | None, typer.Option(help="Where they are kept; else a new file in this folder.")] = None,
    json: JsonOption = False,
) -> None:
    """Take dead letters away for good, after writing them to a file (JSON lines, readable by you alone).

    The file holds personal data: delete it when it has served. Who did it is written down, in the log stream and on
    standard error.

    [bold]Examples[/bold]

        usher dead discard --queue ingress
        usher dead discard --reason undecodable --yes --export /secure/undecodable.jsonl

    Exit codes: 0 done or nothing to do, 1 failed, answered no, or no letter has an id that was given (the others are
    discarded all the same), 2 misused, 130 stopped with Ctrl-C.
    """
    chosen = choice(queue, reason, user, letter_id, since)
    refuse_by_accident(chosen, everything=everything, queue=queue)
    letters, unseen = terminal.run(read(chosen, quiet=json))
    missing = chosen.missing(letters)
    groups = groups_of(letters if limit is None else letters[:limit])
    total = sum(group["count"] for group in groups)
    if not json:
        print_groups(groups)
        print_unseen(unseen)
    print_missing(missing, unseen if json else 0)
    path = export or Path(f"usher-dead-letters-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.jsonl")
    question = f"Discard {counted(total, 'dead letter')} (kept in {path})?"
    if total and not yes and not typer.confirm(question, err=True):
        raise typer.Exit(1)
    discarded = terminal.run(_discard(chosen, groups, path), level="info") if total else 0
    if json:
        terminal.print_json({"discarded": discarded, "missing": missing, "export": str(path) if total else None})
    else:
        terminal.out().print(f"{discarded} discarded" + (f", kept in {path}" if total else ""))
    if missing:
        raise typer.Exit(1)


async def _discard(chosen: Choice, groups: Sequence[dict[str, Any]], path: Path) -> int:
    """Discard as many per queue as were counted and agreed to: what came since then is left alone."""
    from cli.audit import Act, recorded

    agreed: Counter[str] = Counter()
    for group in groups:
        agreed[group["queue"]] += group["count"]
    addresses = OperatorSettings.find().broker_addresses()
    taken: list[DeadLetter] = []
    with _private(path) as file:
        async with recorded(addresses, Act("dead discard", {**chosen.as_json(), "export": path.name})) as act:
            try:
                await _take(addresses, chosen, agreed, file, taken)
            finally:
                act.outcome = {"discarded": len(taken)}
                act.event_ids = [letter.id for letter in taken]
    return len(taken)


async def _take(
    addresses: Sequence[str], chosen: Choice, agreed: Counter[str], file: TextIO, taken: "list[DeadLetter]"
) -> None:
    from cli import connections
    from cli.redrive import discard as discard_from

    def keep(letters: "Sequence[DeadLetter]") -> None:
        file.writelines(jsonlib.dumps(whole(letter), ensure_ascii=False, default=str) + "\n" for letter in letters)
        file.flush()
        os.fsync(file.fileno())

    async with connections.broker(addresses) as connection:
        for queue, count in agreed.items():
            taken += await discard_from(connection, queue, chosen.wanted, limit=count, keep=keep)


def _private(path: Path) -> TextIO:
    """A new file that only its owner can read, from its first byte; what is there already is never overwritten."""
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8")
    except OSError as error:
        raise UsherError(f"{path} cannot be written ({error.strerror}): nothing was discarded") from error
