"""The parts of the embedded system as their supervisor sees them: one function a kind."""

from local.child import Child
from local.epmd import Epmd
from local.postgres import PostgresCluster
from local.processes import last_words
from local.rabbitmq import RabbitNode
from local.supervisor import Part


def child_part(child: Child) -> Part:
    def start() -> None:
        # It runs still when only writing it down had failed.
        child.kill()
        child.start()

    return Part(
        name=child.name,
        log=child.log,
        start=start,
        running=lambda: child.exit_code is None,
        ready=child.ready,
        how_it_ended=child.how_it_ended,
        last_words=child.last_words,
    )


def rabbitmq_part(node: RabbitNode) -> Part:
    def start() -> None:
        # Its port mapper ends with it, and an Erlang machine that lost the script around it.
        node.kill()
        node.launch()

    return Part(
        name="RabbitMQ",
        log=node.log,
        start=start,
        running=lambda: node.running,
        ready=node.ready,
        how_it_ended=node.how_it_ended,
        last_words=node.last_words,
    )


def postgres_part(cluster: PostgresCluster) -> Part:
    def start() -> None:
        cluster.kill()
        cluster.launch()

    return Part(
        name="PostgreSQL",
        log=cluster.log,
        start=start,
        running=lambda: cluster.running,
        ready=cluster.ready,
        how_it_ended=cluster.how_it_ended,
        last_words=lambda: last_words(cluster.log),
    )


def epmd_part(node: RabbitNode) -> Part:
    """Erlang's port mapper. The node goes on without it, but rabbitmqctl does not find it any more.

    Asked of the node each time: it takes a new one at each of its own starts, and has none while it is down.
    """

    def mapper() -> Epmd | None:
        return node.epmd if node.running else None

    def start() -> None:
        # On the old port: there the node looks for it and registers again.
        if found := mapper():
            found.start()

    def running() -> bool:
        found = mapper()
        return found is None or found.running

    return Part(
        name="epmd",
        log=node.folder / "epmd.log",
        start=start,
        running=running,
        ready=running,
        how_it_ended=lambda: found.how_it_ended() if (found := mapper()) else "ended with RabbitMQ",
        last_words=lambda: found.last_words() if (found := mapper()) else "",
    )
