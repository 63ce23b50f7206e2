"""`usher send`: realistic, correctly signed webhooks from made-up people, and what the ingress answers."""

import statistics
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from cli import terminal
from cli.settings import OperatorSettings

if TYPE_CHECKING:
    from cli.posting import Order, Secrets, Tally

WEBHOOK_PATH: Final = "/webhooks/clerk"
SHOWN_USERS: Final = 10
SHOWN_REFUSALS: Final = 5


def send(
    types: Annotated[
        list[str],
        typer.Argument(
            metavar="TYPE...",
            help="user.created, user.updated, user.deleted or any other; several: in turn, for each person.",
        ),
    ],
    *,
    user: Annotated[
        str | None, typer.Option(help="The Clerk user id: the same is always the same person. Without: somebody new.")
    ] = None,
    count: Annotated[
        int, typer.Option(min=1, help="So many people (with --user: so many webhooks about that one).")
    ] = 1,
    via: Annotated[
        Literal["svix", "hookdeck"],
        typer.Option(help="Straight from Clerk, or relayed by Hookdeck with both signatures."),
    ] = "svix",
    duplicate: Annotated[
        bool, typer.Option("--duplicate", help="Send every webhook twice, with the same svix-id.")
    ] = False,
    duplicate_share: Annotated[
        float, typer.Option(min=0, max=1, metavar="SHARE", help="Send this share of the webhooks twice: 0.3 is 30 %.")
    ] = 0.0,
    shuffle: Annotated[bool, typer.Option("--shuffle", help="Send in random order.")] = False,
    tamper: Annotated[
        bool, typer.Option("--tamper", help="Change the body after signing: 401 is what is expected.")
    ] = False,
    stale: Annotated[
        bool, typer.Option("--stale", help="Sign with the time of an hour ago: 401 is expected, behind a relay 2xx.")
    ] = False,
    rate: Annotated[float | None, typer.Option(min=0.001, help="At most so many a second.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=1000, help="So many at the same time.")] = 10,
    retry: Annotated[
        int,
        typer.Option(min=0, metavar="TIMES", help="Try again after an unexpected answer, as Svix does, but sooner."),
    ] = 0,
    seed: Annotated[int | None, typer.Option(help="The same people in the same order in every run.")] = None,
    region: Annotated[str | None, typer.Option(help="The region that the people ask for (public_metadata).")] = None,
    url: Annotated[str | None, typer.Option(help="Where to; else INGRESS_URL.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Send correctly signed Clerk webhooks from made-up people.

    A creation always says the same about a person;
    an update has a later updated_at, another photo and another last name.

    [bold]Examples[/bold]

        usher send user.created
        usher send user.updated --user user_2abc
        usher send user.created user.updated user.deleted --count 1000 --duplicate-share 0.3 --shuffle
        usher send user.created --via hookdeck --stale
        usher send user.created --tamper
        usher send user.created --count 5 --json | jq -r '.users[]'

    Exit codes: 0 all answers as expected (2xx; 401 for --tamper and --stale), 1 another answer or none,
    2 misused, 130 stopped with Ctrl-C.
    """
    from cli.posting import Order, Tally

    if duplicate and duplicate_share:
        raise typer.BadParameter("is everything already: leave --duplicate-share away", param_hint="--duplicate")
    settings = OperatorSettings.find()
    order = Order(
        url=webhook_url(url or settings.ingress_address()),
        types=tuple(types),
        secrets=_secrets(settings, via),
        user_id=user,
        count=count,
        via=via,
        duplicate_share=1.0 if duplicate else duplicate_share,
        shuffle=shuffle,
        tamper=tamper,
        stale=stale,
        rate=rate,
        concurrency=concurrency,
        retries=retry,
        seed=seed,
        region=region,
    )
    tally = Tally()
    try:
        _post(order, tally, quiet=json)
    finally:
        # After a Ctrl-C too: what was sent has been sent.
        _report(order, tally, json=json)
    if not all(order.expects(answer.status) for answer in tally.answers):
        raise typer.Exit(1)


def webhook_url(address: str) -> str:
    """The webhook's own address, where only the ingress's is given."""
    from yarl import URL

    try:
        url = URL(address)
    except ValueError as error:  # an impossible port
        raise typer.BadParameter(f"{address!r} is no http address", param_hint="--url") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise typer.BadParameter(f"{address!r} is no http address", param_hint="--url")
    return str(url.with_path(WEBHOOK_PATH) if url.path in {"", "/"} else url)


def _secrets(settings: OperatorSettings, via: str) -> "Secrets":
    from cli.posting import Secrets, sign_svix

    relayed = via == "hookdeck"
    # A relay that checks Svix itself may be all that an ingress knows: then there is no secret of Clerk's to sign with.
    clerk = None if relayed and settings.clerk_webhook_signing_secret is None else settings.clerk_secret()
    if clerk is not None:
        sign_svix(clerk, "", "", b"")
    return Secrets(clerk, settings.hookdeck_secret() if relayed else None)


def _post(order: "Order", tally: "Tally", *, quiet: bool) -> None:
    from cli.posting import post_all

    with terminal.progress(shown=order.total > 1 and not quiet) as bar:
        task = bar.add_task("webhooks", total=order.total)
        terminal.run(post_all(order, tally, lambda: bar.advance(task)))


def _report(order: "Order", tally: "Tally", *, json: bool) -> None:
    if json:
        terminal.print_json(_as_json(order, tally))
        return
    _print_people(tally)
    _print_answers(order, tally)
    _print_refusals(order, tally)


def _print_people(tally: "Tally") -> None:
    users = _users(tally)
    for user_id in users[:SHOWN_USERS]:
        terminal.out().print(f"user {user_id}")
    if len(users) > SHOWN_USERS:
        terminal.out().print(f"… and {len(users) - SHOWN_USERS} more (--json names all)")


def _print_answers(order: "Order", tally: "Tally") -> None:
    from rich.table import Table

    table = Table("answer", "webhooks", "median", "slowest")
    for status, count in tally.by_status().items():
        seconds = [answer.seconds for answer in tally.answers if _status(answer.status) == status]
        colour = "green" if status.isdigit() and order.expects(int(status)) else "red"
        table.add_row(
            f"[{colour}]{status}[/{colour}]",
            str(count),
            _milliseconds(statistics.median(seconds)),
            _milliseconds(max(seconds)),
        )
    terminal.out().print(f"{len(tally.answers)} sent to {order.url}")
    terminal.out().print(table)


def _print_refusals(order: "Order", tally: "Tally") -> None:
    unexpected = [answer for answer in tally.answers if not order.expects(answer.status)]
    for answer in unexpected[:SHOWN_REFUSALS]:
        why = f" ({answer.said})" if answer.said else ""
        terminal.err().print(f"not as expected: {answer.webhook.message_id} {_status(answer.status)}{why}")
    if len(unexpected) > SHOWN_REFUSALS:
        terminal.err().print(f"… and {len(unexpected) - SHOWN_REFUSALS} more")


def _as_json(order: "Order", tally: "Tally") -> dict[str, object]:
    return {
        "url": order.url,
        "planned": order.total,
        "sent": len(tally.answers),
        "answers": tally.by_status(),
        "unexpected": sum(not order.expects(answer.status) for answer in tally.answers),
        "users": _users(tally),
        "webhooks": [
            {
                "id": answer.webhook.message_id,
                "type": answer.webhook.type,
                "user": answer.webhook.user_id,
                "status": answer.status or None,
                "said": answer.said or None,
                "attempts": answer.attempts,
                "seconds": round(answer.seconds, 6),
            }
            for answer in tally.answers
        ],
    }


def _users(tally: "Tally") -> list[str]:
    return list(dict.fromkeys(answer.webhook.user_id for answer in tally.answers))


def _status(status: int) -> str:
    return str(status) if status else "no answer"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
