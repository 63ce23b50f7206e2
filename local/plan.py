"""Decides what a run will look like before anything starts: ports, secrets, the environment of every process.

In: what `usher up` was asked for, what the last run used, the caller's environment. Out: a frozen `Plan`.
Ports and secrets of the last run are kept; a port that somebody else has is replaced, and a note says so.
"""

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from local.ports import LOOPBACK, Ports

USER = "usher"
DEFAULT_INGRESS_PORT = 8080
DEFAULT_LOOKUP_PORT = 8090
DEFAULT_AMQP_PORT = 5672
DEFAULT_MANAGEMENT_PORT = 15672
DEFAULT_POSTGRES_PORT = 5432

# The secrets, with the other names under which the ingress takes them.
_ALIASES = {
    "CLERK_WEBHOOK_SIGNING_SECRET": (
        "CLERK_WEBHOOK_SECRET",
        "CLERK_SIGNING_SECRET",
        "WEBHOOK_SECRET",
        "SVIX_WEBHOOK_SECRET",
    ),
    "HOOKDECK_WEBHOOK_SECRET": ("HOOKDECK_SIGNING_SECRET", "HOOKDECK_SECRET"),
    "LOOKUP_TOKEN": (),
}
# The embedded servers are the only ones that an embedded system talks to, whatever the caller's environment names.
_OURS = ("AMQP_URL", "DATABASE_URL", "PROVIDER_POSTGRES_URL", "MANAGEMENT_URL")

_INTERNAL_URL = "_INTERNAL_URL"
_XATA_STAND_IN = "xata-stand-in"


@dataclass(frozen=True)
class Wishes:
    """What `usher up` was asked for; None: as the last time, else the default."""

    folder: Path
    ingress_port: int | None = None
    amqp_port: int | None = None
    management_port: int | None = None
    postgres_port: int | None = None
    lookup_port: int | None = None
    workers: int = 1
    xata_stand_in: bool = False
    copies: Mapping[str, int] = field(default_factory=lambda: {"sync_user": 1, "provision_database": 1})


@dataclass(frozen=True)
class ChildPlan:
    """One of our own processes: its arguments to `usher`, the port on which it says that it is ready.

    `first`: others need it, so they are started when it is ready.
    """

    name: str
    arguments: tuple[str, ...]
    internal_port: int
    environment: Mapping[str, str]
    first: bool = False


@dataclass(frozen=True)
class Plan:
    folder: Path
    ingress_port: int
    amqp_port: int
    management_port: int
    postgres_port: int
    rabbitmq_password: str
    postgres_password: str
    environment: Mapping[str, str]
    children: tuple[ChildPlan, ...]
    written: Mapping[str, str]
    notes: tuple[str, ...]


def make_plan(wishes: Wishes, kept: Mapping[str, str], given: Mapping[str, str]) -> Plan:
    """`kept`: the env file of the last run; `given`: the caller's environment."""
    ports = Ports()
    host, lookup_host = given.get("INGRESS_HOST", LOOPBACK), given.get("LOOKUP_HOST", LOOPBACK)
    ingress = ports.choose("ingress", wishes.ingress_port, kept.get("INGRESS_URL"), DEFAULT_INGRESS_PORT, host)
    amqp = ports.choose("RabbitMQ", wishes.amqp_port, kept.get("AMQP_URL"), DEFAULT_AMQP_PORT)
    management = ports.choose(
        "the management UI", wishes.management_port, kept.get("MANAGEMENT_URL"), DEFAULT_MANAGEMENT_PORT
    )
    postgres = ports.choose("PostgreSQL", wishes.postgres_port, kept.get("DATABASE_URL"), DEFAULT_POSTGRES_PORT)
    lookup = ports.choose("lookup", wishes.lookup_port, kept.get("LOOKUP_URL"), DEFAULT_LOOKUP_PORT, lookup_host)
    rabbitmq_password = _password(kept.get("AMQP_URL"))
    postgres_password = _password(kept.get("DATABASE_URL"))
    servers = {
        "AMQP_URL": f"amqp://{USER}:{rabbitmq_password}@{LOOPBACK}:{amqp}/",
        "MANAGEMENT_URL": f"http://{USER}:{rabbitmq_password}@{LOOPBACK}:{management}",
        "DATABASE_URL": f"postgresql://{USER}:{postgres_password}@{LOOPBACK}:{postgres}/{USER}",
        "PROVIDER_POSTGRES_URL": f"postgresql://{USER}:{postgres_password}@{LOOPBACK}:{postgres}/postgres",
        "DATABASE_PROVIDER": given.get("DATABASE_PROVIDER") or "postgres",
        **_secrets(kept, given),
    }
    stand_ins: tuple[ChildPlan, ...] = ()
    if wishes.xata_stand_in:
        xata_port = ports.again(kept.get("XATA_API_URL"))
        servers |= _xata(xata_port, kept, given)
        stand_ins = (_xata_stand_in(wishes.folder, xata_port, servers),)
    environment = {name: value for name, value in given.items() if name not in _OURS} | servers
    internal = _Internal(ports, kept)
    children = (
        *stand_ins,
        _ingress(internal.of("ingress"), host, ingress, wishes.workers),
        *(_consumer(name, copy, internal.of(name)) for name, many in wishes.copies.items() for copy in range(many)),
        _lookup(internal.of("lookup"), lookup_host, lookup),
    )
    return Plan(
        folder=wishes.folder,
        ingress_port=ingress,
        amqp_port=amqp,
        management_port=management,
        postgres_port=postgres,
        rabbitmq_password=rabbitmq_password,
        postgres_password=postgres_password,
        environment=environment,
        children=children,
        written={
            "INGRESS_URL": f"http://{LOOPBACK}:{ingress}",
            "LOOKUP_URL": f"http://{LOOPBACK}:{lookup}",
            **_internal_urls(children[len(stand_ins) :]),
            **servers,
        },
        notes=tuple(ports.notes),
    )


class _Internal:
    """The ports on which our processes tell how they are: the last run's, copy by copy."""

    def __init__(self, ports: Ports, kept: Mapping[str, str]) -> None:
        self._ports = ports
        self._kept = {name: url.split(",") for name, url in kept.items() if name.endswith(_INTERNAL_URL)}

    def of(self, program: str) -> int:
        last = self._kept.get(f"{program.upper()}{_INTERNAL_URL}")
        return self._ports.again(last.pop(0) if last else None)


def _password(last_url: str | None) -> str:
    last = urlsplit(last_url).password if last_url else None
    return last or secrets.token_hex(16)


def _secrets(kept: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    made = {
        "CLERK_WEBHOOK_SIGNING_SECRET": "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode(),
        "HOOKDECK_WEBHOOK_SECRET": secrets.token_hex(24),
        "LOOKUP_TOKEN": secrets.token_hex(24),
    }
    return {name: _given(name, given) or kept.get(name) or made[name] for name in made}


def _given(name: str, given: Mapping[str, str]) -> str | None:
    return next((given[alias] for alias in (name, *_ALIASES[name]) if given.get(alias)), None)


def _ingress(internal_port: int, host: str, port: int, workers: int) -> ChildPlan:
    environment = {
        "INGRESS_HOST": host,
        "INGRESS_PORT": str(port),
        "INGRESS_INTERNAL_HOST": LOOPBACK,
        "INGRESS_INTERNAL_PORT": str(internal_port),
        "INGRESS_WORKERS": str(workers),
    }
    return ChildPlan("ingress", ("ingress",), internal_port, environment)


def _consumer(effect: str, copy: int, internal_port: int) -> ChildPlan:
    name = effect if copy == 0 else f"{effect}-{copy + 1}"
    environment = {"CONSUMER_INTERNAL_HOST": LOOPBACK, "CONSUMER_INTERNAL_PORT": str(internal_port)}
    return ChildPlan(name, ("consumer", effect), internal_port, environment)


def _xata(port: int, kept: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """What makes a consumer take the stand-in for Xata; it is not as slow as an account's limits ask for."""
    return {
        "DATABASE_PROVIDER": "xata",
        "XATA_API_URL": f"http://{LOOPBACK}:{port}",
        "XATA_API_KEY": kept.get("XATA_API_KEY") or f"xau_{secrets.token_hex(16)}",
        "XATA_ORGANIZATION": kept.get("XATA_ORGANIZATION") or secrets.token_hex(3),
        "XATA_PROJECT_PREFIX": given.get("XATA_PROJECT_PREFIX") or "usher",
        "XATA_REQUESTS_PER_S": given.get("XATA_REQUESTS_PER_S") or "50",
    }


def _xata_stand_in(folder: Path, port: int, servers: Mapping[str, str]) -> ChildPlan:
    environment = {
        "XATA_STAND_IN_POSTGRES_URL": servers["PROVIDER_POSTGRES_URL"],
        "XATA_STAND_IN_API_KEY": servers["XATA_API_KEY"],
        "XATA_STAND_IN_ORGANIZATION": servers["XATA_ORGANIZATION"],
    }
    state = folder / f"{_XATA_STAND_IN}.json"
    arguments = ("xata-stand-in", "--port", str(port), "--state", str(state))
    return ChildPlan(_XATA_STAND_IN, arguments, port, environment, first=True)


def _lookup(internal_port: int, host: str, port: int) -> ChildPlan:
    environment = {
        "LOOKUP_HOST": host,
        "LOOKUP_PORT": str(port),
        "LOOKUP_INTERNAL_HOST": LOOPBACK,
        "LOOKUP_INTERNAL_PORT": str(internal_port),
    }
    return ChildPlan("lookup", ("lookup",), internal_port, environment)


def _internal_urls(children: tuple[ChildPlan, ...]) -> dict[str, str]:
    urls: dict[str, list[str]] = {}
    for child in children:
        urls.setdefault(f"{child.arguments[-1].upper()}{_INTERNAL_URL}", []).append(
            f"http://{LOOPBACK}:{child.internal_port}"
        )
    return {name: ",".join(addresses) for name, addresses in urls.items()}
