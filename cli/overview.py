"""How the system is at this moment, asked of every part at once.

In: where the parts are. Out: an `Overview`. Promise: a part that is down is named and hides nothing of the others, and
nothing is taken, moved or counted as a delivery in the work queues.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from yarl import URL

from cli import connections, queues
from cli.queues import Broker
from cli.settings import env_file
from local.env import read_env
from local.ledger import Deaths, Ledger
from shared import migrations
from shared.errors import UsherError

if TYPE_CHECKING:
    from pydantic import SecretStr

    from cli.settings import OperatorSettings

HEALTH_TIMEOUT_S: Final = 3.0
SUPERVISOR: Final = "usher up"

_MIGRATED: Final = "select to_regclass('schema_migrations') is not null"
_USERS: Final = "select count(*) from users"
_GUARDS: Final = "select deleted, count(*) from user_guards group by deleted"
_DATABASES: Final = "select state, count(*) from databases group by state order by state"
_OLDEST_UNFINISHED: Final = """
select user_id, state, reason, attempts, requested_at from databases
where state in ('requested', 'creating', 'quota_blocked', 'failed') order by requested_at limit 1
"""
_VERSION: Final = "select coalesce(max(version), 0) from schema_migrations"


@dataclass(frozen=True, slots=True)
class Address:
    """A part and where it is; `trouble` None: well, as far as it can be asked."""

    name: str
    url: str
    trouble: str | None = None
    levels: dict[str, bool] = field(default_factory=dict)
    dependencies: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        trouble = self.trouble or "well"
        return trouble if trouble.startswith(self.name) else f"{self.name}: {trouble}"


@dataclass(frozen=True, slots=True)
class Tables:
    trouble: str | None = None
    version: int | None = None
    newest_version: int | None = None
    users: int | None = None
    guards: int | None = None
    tombstones: int | None = None
    databases: dict[str, int] = field(default_factory=dict)
    oldest_unfinished: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Overview:
    at: str
    addresses: list[Address]
    broker: Broker
    tables: Tables
    deaths: dict[str, Deaths] = field(default_factory=dict)

    @property
    def troubles(self) -> list[str]:
        """A sentence for everything that is down or missing."""
        said = [address.sentence for address in self.addresses if address.trouble]
        said += [f"queue {name} is missing: run `usher topology`" for name in self.broker.missing]
        if (self.tables.version or 0) < (self.tables.newest_version or 0):
            said.append(f"the database is at version {self.tables.version:04}: run `usher migrate`")
        return said


async def look(settings: OperatorSettings) -> Overview:
    """Ask every part that the settings name."""
    addresses, broker, tables = await asyncio.gather(
        _addresses(settings), _broker_or_trouble(settings), _tables_or_trouble(settings)
    )
    servers = [
        Address("RabbitMQ", _places(settings.amqp_url, 5672), broker.trouble),
        Address("Postgres", _places(settings.database_url, 5432), tables.trouble),
    ]
    now = datetime.now(UTC).isoformat(timespec="seconds")
    ledger = _ledger(settings)
    deaths = ledger.deaths if ledger else {}
    return Overview(now, [*addresses, *servers, *_supervisor(ledger)], broker, tables, deaths)


def _ledger(settings: OperatorSettings) -> Ledger | None:
    """What the `usher up` that runs the system has written down; None when it is nobody's or another's."""
    found = env_file(Path.cwd())
    if found is None or settings.amqp_url is None:
        return None
    if read_env(found.parent).get("AMQP_URL") != settings.amqp_url.get_secret_value():
        return None
    return Ledger.load(found.parent)


def _supervisor(ledger: Ledger | None) -> list[Address]:
    """`usher up` itself. It takes its ledger away when it ends: one without its process is one that was killed."""
    if ledger is None or ledger.supervisor is None:
        return []
    process = f"process {ledger.supervisor.pid}"
    if ledger.supervisor_alive():
        return [Address(SUPERVISOR, process)]
    left = dict.fromkeys(entry.name for entry in ledger.entries if entry.process())
    if not left:
        return [Address(SUPERVISOR, process, "was killed, and nothing of it runs any more: run `usher up`")]
    trouble = f"was killed, and what dies is not started again (still running: {', '.join(left)})"
    return [Address(SUPERVISOR, process, f"{trouble}: run `usher up` to start anew, or `usher down`")]


async def _addresses(settings: OperatorSettings) -> list[Address]:
    plain = {"webhooks": settings.ingress_url, "management UI": settings.management_url}
    named = [Address(name, _without_login(url)) for name, url in plain.items() if url]
    asked = {
        "ingress": settings.ingress_internal_url,
        "sync_user": settings.sync_user_internal_url,
        "provision_database": settings.provision_database_internal_url,
        "lookup": settings.lookup_internal_url,
    }
    timeout = aiohttp.ClientTimeout(total=HEALTH_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        checks = [_ready(session, name, url) for name, urls in asked.items() for url in (urls or "").split(",") if url]
        return [*named, *await asyncio.gather(*checks)]


async def _ready(session: aiohttp.ClientSession, name: str, url: str) -> Address:
    try:
        async with session.get(f"{url.rstrip('/')}/readyz") as response:
            said = await response.json(content_type=None)
            ready = response.ok
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        return Address(name, url, f"does not answer ({type(error).__name__})")
    said = said if isinstance(said, dict) else {}
    levels, dependencies = said.get("levels") or {}, said.get("dependencies") or {}
    if ready:
        return Address(name, url, None, levels, dependencies)
    wrong = [f"{check}: {trouble}" for check, trouble in said.get("checks", {}).items() if trouble != "ok"]
    return Address(name, url, "not ready" + (f" ({'; '.join(wrong)})" if wrong else ""), levels, dependencies)


async def _broker_or_trouble(settings: OperatorSettings) -> Broker:
    if settings.amqp_url is None:
        return Broker("AMQP_URL is not set")
    try:
        async with connections.broker(settings.broker_addresses()) as connection:
            return await queues.look(connection)
    except UsherError as error:
        return Broker(str(error))


async def _tables_or_trouble(settings: OperatorSettings) -> Tables:
    if settings.database_url is None:
        return Tables("DATABASE_URL is not set")
    try:
        return await _tables(settings.database_address())
    except UsherError as error:
        return Tables(str(error))


async def _tables(url: str) -> Tables:
    newest_version = len(migrations.control_migrations())
    async with connections.database(url) as connection:
        if not await connection.fetchval(_MIGRATED):
            return Tables(version=0, newest_version=newest_version)
        guards = {row["deleted"]: row["count"] for row in await connection.fetch(_GUARDS)}
        oldest = await connection.fetchrow(_OLDEST_UNFINISHED)
        return Tables(
            version=await connection.fetchval(_VERSION),
            newest_version=newest_version,
            users=await connection.fetchval(_USERS),
            guards=sum(guards.values()),
            tombstones=guards.get(True, 0),
            databases={row["state"]: row["count"] for row in await connection.fetch(_DATABASES)},
            oldest_unfinished=dict(oldest) | {"requested_at": _iso(oldest["requested_at"])} if oldest else None,
        )


def _places(addresses: SecretStr | None, port: int) -> str:
    urls = [
        URL(text.strip()) for text in (addresses.get_secret_value() if addresses else "").split(",") if text.strip()
    ]
    return ", ".join(f"{url.host or 'localhost'}:{url.port or port}" for url in urls) or "?"


def _without_login(url: str) -> str:
    return str(URL(url).with_user(None))


def _iso(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat(timespec="seconds") if moment else None
