"""The `usher` command: one verb per file. Errors that Usher raises on purpose become one sentence and exit code 1."""

import os
import sys
from collections.abc import Sequence
from typing import Final

import typer

from shared.errors import SettingsError, UsherError

EXIT_FAILED: Final = 1
EXIT_MISUSED: Final = 2
EXIT_INTERRUPTED: Final = 130

STANDARD_ERROR: Final = 2


def app() -> typer.Typer:
    """The command with all its verbs, in the order in which people meet them."""
    from cli import (
        consumer,
        databases,
        dead,
        down,
        ingress,
        lookup,
        migrate,
        replay,
        send,
        status,
        tail,
        topology,
        trace,
        up,
        xata_stand_in,
    )

    root = typer.Typer(
        name="usher",
        help="Clerk webhooks → RabbitMQ → one database per user and a synced users table.",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    root.command()(up.up)
    root.command()(down.down)
    root.command()(status.status)
    root.command()(send.send)
    root.command()(tail.tail)
    root.add_typer(dead.verbs, name="dead")
    root.command()(replay.replay)
    root.command()(trace.trace)
    root.add_typer(databases.verbs, name="databases")
    root.command()(topology.topology)
    root.command()(migrate.migrate)
    root.command()(ingress.ingress)
    root.command()(consumer.consumer)
    root.command()(lookup.lookup)
    root.command()(xata_stand_in.xata_stand_in)
    return root


def main(arguments: Sequence[str] | None = None, root: typer.Typer | None = None) -> None:
    """Run the command line; the only place that turns errors into exit codes."""
    _fill_closed_streams()
    try:
        (root or app())(arguments, prog_name="usher")
    except SettingsError as error:
        for line in str(error).splitlines():
            print(f"usher: {line}", file=sys.stderr)
        sys.exit(EXIT_MISUSED)
    except UsherError as error:
        print(f"usher: {error}", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _fill_closed_streams() -> None:
    """What was started with a standard stream closed gives its number to a socket, and libuv aborts on closing that."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STANDARD_ERROR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


if __name__ == "__main__":
    main()
