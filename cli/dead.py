"""`usher dead`: look at what was given up, send it back, or take it away."""

from typing import Annotated, Final

import typer

from cli import terminal
from cli.dead_choice import (
    JsonOption,
    QueueOption,
    ReasonOption,
    SinceOption,
    UserOption,
    choice,
    print_missing,
    read,
)
from cli.dead_discard import discard
from cli.dead_redrive import redrive
from cli.dead_view import counted, groups_of, print_groups, print_letter, print_letters, print_unseen, whole

HELP: Final = """Dead letters: what was given up, with its reason. Look, send back, take away.

docs/runbook.md tells what each reason means and what to do about it.

[bold]Examples[/bold]

    usher dead ls
    usher dead show msg_2KWPBgLlAfxdpx2AI54pPJ85f4W
    usher dead redrive --queue sync_user --stop-on-failure
    usher dead discard --reason undecodable

Exit codes: 0 done, 1 failed (each verb says at what), 2 misused, 130 stopped with Ctrl-C.
"""

verbs = typer.Typer(
    help=HELP,
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@verbs.command("ls")
def ls(
    *,
    queue: QueueOption = None,
    reason: ReasonOption = None,
    user: UserOption = None,
    since: SinceOption = None,
    each: Annotated[bool, typer.Option("--each", help="A line for each letter instead of one per trouble.")] = False,
    json: JsonOption = False,
) -> None:
    """List dead letters, grouped by queue, effect, reason and error.

    Errors that differ in ids and numbers only are one trouble. Looking changes nothing: every letter stays where it
    is. While a listing runs, others do not see the letters. A message without an id has one made up from what it says
    (letter_…): the same every time, and `show` and --id take it.

    [bold]Examples[/bold]

        usher dead ls
        usher dead ls --queue sync_user --since 2h --each
        usher dead ls --json | jq '.total'

    Exit codes: 0 listed (also when there are none), 1 failed, 2 misused.
    """
    letters, unseen = terminal.run(read(choice(queue, reason, user, since=since), quiet=json))
    groups = groups_of(letters)
    if json:
        known = [letter.as_json() for letter in letters]
        terminal.print_json({"total": len(letters), "unseen": unseen, "groups": groups, "letters": known})
        return
    if each:
        print_letters(letters)
    else:
        print_groups(groups)
    terminal.out().print(f"{counted(len(letters), 'dead letter')}.")
    print_unseen(unseen)


@verbs.command("show")
def show(
    letter_id: Annotated[
        str, typer.Argument(metavar="ID", help="As `dead ls` names it: the event's id, else one made up (letter_…).")
    ],
    *,
    queue: QueueOption = None,
    body: Annotated[bool, typer.Option("--body", help="Also what the event says. That is personal data.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON, one line per letter; body and headers included.")
    ] = False,
) -> None:
    """Show everything that is known about one dead letter, each of its attempts, and whether it still matters.

    An event that failed in two queues is shown twice. "Superseded" means that a newer state of its user is in the table
    already: sent back, it will change nothing there.

    [bold]Examples[/bold]

        usher dead show msg_2KWPBgLlAfxdpx2AI54pPJ85f4W
        usher dead show msg_2KWPBgLlAfxdpx2AI54pPJ85f4W --body

    Exit codes: 0 shown, 1 there is none with this id, 2 misused.
    """
    from cli.standing import of_letters

    letters, unseen = terminal.run(read(choice(queue, ids=[letter_id]), quiet=json))
    standing = terminal.run(of_letters(letters))
    for letter in letters:
        if json:
            terminal.print_json({**whole(letter), "superseded": standing.superseded(letter)})
        else:
            print_letter(letter, standing.sentence(letter), body=body)
    if not letters:
        print_missing([letter_id], unseen)
        raise typer.Exit(1)
    print_unseen(unseen)


verbs.command("redrive")(redrive)
verbs.command("discard")(discard)
