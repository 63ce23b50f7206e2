"""How a consumer is: four levels of health, and what it depends on, in words for /readyz and in figures for metrics.

Process, connection, registered (as the broker sees it), progress: each needs the one before. A connected consumer is
not yet alive; an idle one is not dead.
"""

from consumer.breaker import Dependency, State
from consumer.consume import Consumer
from shared import health
from shared.broker import BrokerLink


def checks(consumer: Consumer) -> dict[str, health.Check]:
    subscription = consumer.subscription
    return {
        "broker_in": lambda: None if subscription.link.state.open else subscription.link.state.trouble or "connecting",
        "broker_out": lambda: None if consumer.outbound.state.open else consumer.outbound.state.trouble or "connecting",
        "registered": lambda: None if _paused(consumer) else consumer.presence.registered,
        "progress": lambda: consumer.presence.progress,
        "dependency": lambda: _outage(consumer),
    }


def _paused(consumer: Consumer) -> bool:
    return consumer.breaker.state.state is State.OPEN


def _outage(consumer: Consumer) -> str | None:
    """What is down, why and since when."""
    state = consumer.breaker.state
    if state.state is not State.OPEN:
        return None
    down = [
        f"{name} is down since {dependency.since:%Y-%m-%d %H:%M:%S} UTC: {dependency.reason}"
        for name, dependency in consumer.breaker.dependencies.items()
        if not dependency.up
    ]
    # Events fail though each probe succeeds, or none was asked yet.
    return "; ".join(down) or f"events fail since {state.since:%Y-%m-%d %H:%M:%S} UTC: {state.reason}"


def _link(link: BrokerLink) -> Dependency:
    return Dependency(link.state.open, link.state.since, link.state.trouble)


def dependencies(consumer: Consumer) -> dict[str, Dependency]:
    links = {"broker_in": _link(consumer.subscription.link), "broker_out": _link(consumer.outbound)}
    return {**consumer.breaker.dependencies, **links}


def levels(consumer: Consumer) -> dict[str, bool]:
    """From the process up: a connected consumer is not yet alive, an idle one is not dead."""
    connected = consumer.subscription.link.state.open and consumer.outbound.state.open
    registered = connected and consumer.presence.registered is None
    return {
        "process": True,
        "connection": connected,
        "registered": registered,
        "progress": registered and consumer.presence.progress is None,
    }


def details(consumer: Consumer) -> dict[str, object]:
    state = consumer.breaker.state
    return {
        "effect": consumer.name,
        "in_flight": consumer.in_flight,
        "levels": levels(consumer),
        "oldest_unsettled_s": round(consumer.presence.held_s, 1),
        "breaker": {"state": state.state, "since": state.since.isoformat(), "reason": state.reason},
        "dependencies": {
            name: {"up": dependency.up, "since": dependency.since.isoformat(), "reason": dependency.reason}
            for name, dependency in dependencies(consumer).items()
        },
    }
