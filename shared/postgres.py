"""Postgres for every SQL module: connecting, and the one table that turns the driver's errors into ours.

Promise: inside `translated()` no asyncpg exception passes untranslated, and none of the texts carries row data.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

import asyncpg

from shared.errors import DependencyDown, EffectError, PermanentError, TransientError

if TYPE_CHECKING:
    _Connection = asyncpg.Connection[asyncpg.Record]
else:  # generic in its type stubs only
    _Connection = asyncpg.Connection

CONNECT_TIMEOUT_S: Final = 5.0
COMMAND_TIMEOUT_S: Final = 30.0

# Read from top to bottom, the first match decides. PostgreSQL's error classes: appendix A of its manual.
_TABLE: Final[tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], type[EffectError]], ...]] = (
    # The server is out of reach, starting, stopping, full, or does not let us in: every event alike would fail.
    (asyncpg.PostgresConnectionError, DependencyDown),
    (asyncpg.InvalidAuthorizationSpecificationError, DependencyDown),
    (asyncpg.InvalidCatalogNameError, DependencyDown),
    (asyncpg.InsufficientPrivilegeError, DependencyDown),
    (asyncpg.InsufficientResourcesError, DependencyDown),
    (asyncpg.PostgresSystemError, DependencyDown),
    (asyncpg.InternalServerError, DependencyDown),
    (asyncpg.ConfigFileError, DependencyDown),
    ((asyncpg.AdminShutdownError, asyncpg.CrashShutdownError, asyncpg.CannotConnectNowError), DependencyDown),
    (asyncpg.DatabaseDroppedError, DependencyDown),
    (asyncpg.ReadOnlySQLTransactionError, DependencyDown),  # a standby after a fail-over
    (
        (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.UndefinedFunctionError),
        DependencyDown,
    ),
    # Somebody else was in the way for a moment.
    (asyncpg.TransactionRollbackError, TransientError),
    (asyncpg.OperatorInterventionError, TransientError),
    (asyncpg.ObjectNotInPrerequisiteStateError, TransientError),  # lock not available, object in use
    (asyncpg.ObjectInUseError, TransientError),
    # This row's fault.
    (asyncpg.IntegrityConstraintViolationError, PermanentError),
    (asyncpg.DataError, PermanentError),  # also the driver's refusal to encode a value
    (asyncpg.PostgresError, TransientError),
    # The driver's own: a connection that closed under us, a pool that gives none, a value it cannot encode.
    ((asyncpg.InterfaceError, asyncpg.InternalClientError), DependencyDown),
    ((TimeoutError, OSError), DependencyDown),
)


def translate(error: BaseException) -> EffectError | None:
    """Ours for the driver's `error`; None when it is not the driver's."""
    if isinstance(error, asyncpg.InternalServerError) and getattr(error, "severity_en", None) == "ERROR":
        # The session lives on: what is corrupt is under this statement. A proxy that has no server says FATAL.
        return TransientError(_text(error))
    for theirs, ours in _TABLE:
        if isinstance(error, theirs):
            return ours(_text(error))
    return None


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Raise ours instead of the driver's errors.

    Raises:
        DependencyDown: Postgres is out of reach, or lacks our tables.
        TransientError: a conflict that passes.
        PermanentError: the values can never be stored.
    """
    try:
        yield
    except asyncio.CancelledError:
        raise
    except Exception as error:
        ours = translate(error)
        if ours is None:
            raise
        raise ours from error


class Stateless(_Connection):
    """For statements and transactions alone: without session state it needs no round trip to be cleaned of it."""

    def get_reset_query(self) -> str:
        return ""


class Locking(_Connection):
    """For advisory locks beside that: they are all that has to be given back."""

    def get_reset_query(self) -> str:
        return "select pg_advisory_unlock_all()"


async def create_pool(
    url: str,
    *,
    max_size: int,
    name: str,
    lock_timeout_s: float = 0,
    connection_class: type[asyncpg.Connection[asyncpg.Record]] = asyncpg.Connection,
) -> asyncpg.Pool[asyncpg.Record]:
    """A pool that connects on demand, so that a process can start while Postgres is down; 0 waits for any lock."""
    return await asyncpg.create_pool(
        url,
        connection_class=connection_class,
        min_size=0,
        max_size=max_size,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=COMMAND_TIMEOUT_S,
        # A host that vanishes without closing its connections gives up its locks within a minute.
        server_settings={
            "application_name": name,
            "tcp_keepalives_idle": "30",
            "tcp_keepalives_interval": "10",
            "tcp_keepalives_count": "3",
            **({"lock_timeout": f"{lock_timeout_s * 1000:.0f}"} if lock_timeout_s else {}),
        },
    )


async def open_ahead(pool: asyncpg.Pool[asyncpg.Record], connections: int) -> None:
    """Have so many connections open, or all that the pool may have, for a first burst not to wait for them."""
    async with translated(), AsyncExitStack() as held:
        # All are held at once: one more than there can be would be waited for without end, and by everybody else too.
        for _ in range(min(connections, pool.get_max_size())):
            await held.enter_async_context(pool.acquire())


async def ping(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """One cheap round trip.

    Raises:
        DependencyDown: Postgres does not answer.
    """
    async with translated():
        await pool.fetchval("select 1", timeout=CONNECT_TIMEOUT_S)


def _text(error: BaseException) -> str:
    """The error's class and SQLSTATE and what it names; never the message, which can quote values of the row."""
    parts = [type(error).__name__]
    for attribute in ("sqlstate", "table_name", "column_name", "constraint_name"):
        value = getattr(error, attribute, None)
        if value:
            parts.append(f"{attribute.removesuffix('_name')}={value}")
    return " ".join(parts)
