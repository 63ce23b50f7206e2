"""`usher topology`: declares what Usher needs on the broker, or compares it; prints what there is as a tree."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli import terminal
from cli.settings import EnvFile, OperatorSettings

if TYPE_CHECKING:
    from rich.tree import Tree

    from shared.topology import Queue, Topology


def topology(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Only compare; create nothing. Exit code 1 on a mismatch.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what would be declared; needs no broker.")
    ] = False,
    env_file: EnvFile = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a tree.")] = False,
) -> None:
    """Declare the exchanges and queues that Usher needs, or check them.

    Declaring again is harmless. A queue that exists with other arguments is never touched:
    it is named, with the argument, and the exit code is 1.

    [bold]Examples[/bold]

        usher topology
        usher topology --check --env-file .env
        usher topology --dry-run --json | jq '.queues[].name'

    Exit codes: 0 all well, 1 failed or different, 2 misused.
    """
    from shared.topology import topology as wanted_topology

    wanted = wanted_topology()
    if not dry_run:
        terminal.run(_bring_in_line(wanted, OperatorSettings.find(env_file).broker_addresses(), check=check))
    if json:
        terminal.print_json(as_json(wanted))
        return
    terminal.out().print(tree(wanted))
    word = "Would be declared" if dry_run else "Checked" if check else "Declared"
    terminal.out().print(f"{word}: {len(wanted.exchanges)} exchanges, {len(wanted.queues)} queues.")


async def _bring_in_line(wanted: "Topology", addresses: list[str], *, check: bool) -> None:
    from cli import connections
    from shared import declare

    async with connections.broker(addresses) as connection:
        act = declare.check if check else declare.declare
        await act(connection, wanted)


def tree(wanted: "Topology") -> "Tree":
    """Exchange → queue → retry ladder → dead letters, as a message travels."""
    from rich.tree import Tree

    from shared.topology import EFFECTS, EVENTS_EXCHANGE, INGRESS_DEAD_QUEUE, LOG_QUEUE, UNROUTED, queue_of

    queues = {queue.name: queue for queue in wanted.queues}
    root = Tree(f"[bold]{EVENTS_EXCHANGE}[/bold] topic exchange")
    for effect in EFFECTS:
        _add_effect(root, queues, queue_of(effect))
    log = queues[LOG_QUEUE]
    root.add(f"[bold]{LOG_QUEUE}[/bold] stream, {log.arguments['x-max-age']} ← {_types(log)}")
    unrouted = root.add(f"[bold]{UNROUTED}[/bold] alternate exchange")
    unrouted.add(f"[bold]{UNROUTED}[/bold] must stay empty")
    whole = Tree("[bold]RabbitMQ[/bold]")
    whole.children.append(root)
    whole.add(f"[bold]{INGRESS_DEAD_QUEUE}[/bold] genuine webhooks that could not be read")
    return whole


def _add_effect(root: "Tree", queues: "dict[str, Queue]", work: str) -> None:
    from shared.topology import RETRY_DELAYS_S, dead_queue_of, retry_queue_of

    branch = root.add(f"[bold]{work}[/bold] ← {_types(queues[work])}")
    ladder = branch.add("retry ladder")
    for delay_s in RETRY_DELAYS_S:
        ladder.add(f"{queues[retry_queue_of(work, delay_s)].name} → {work}")
    branch.add(f"{queues[dead_queue_of(work)].name} dead letters")


def _types(queue: "Queue") -> str:
    return ", ".join(routing_key for _, routing_key in queue.bindings)


def as_json(wanted: "Topology") -> dict[str, object]:
    from dataclasses import asdict

    return {
        "exchanges": [asdict(exchange) for exchange in wanted.exchanges],
        "queues": [asdict(queue) for queue in wanted.queues],
    }
