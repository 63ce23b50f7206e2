"""What Usher asks of a provider of databases, and the values that pass between them.

All calls can be repeated; all errors are those of shared.errors (and `QuotaBlocked`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.errors import NotYet


@dataclass(frozen=True, slots=True)
class UserDatabase:
    """One user's database, as far as it is known: `project` and `provider_id` are None until `create` has told them."""

    user_id: str
    name: str
    region: str | None
    project: str | None = None
    provider_id: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a database came to be. `region` is the real one, which need not be the one that was asked for.

    `schema_version` is set when it is usable as it is: `prepare` has nothing left to do.
    """

    provider_id: str
    region: str | None
    host: str | None
    project: str | None = None
    schema_version: int | None = None


@dataclass(frozen=True, slots=True)
class Usable:
    """A database that answers and carries the schema. `host` is set where only the login tells it."""

    schema_version: int
    host: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """One of our databases as the provider has it; `user_id` is None where the provider does not keep it.

    `put_aside_from` is the name that a broken one had before it was put aside for inspection.
    """

    name: str
    provider_id: str
    region: str | None
    project: str | None = None
    user_id: str | None = None
    put_aside_from: str | None = None


class QuotaBlocked(NotYet):
    """The provider has no room now; an operator can make some. Not an attempt."""


class DatabaseProvider(Protocol):
    """Every method may raise DependencyDown (nothing works for anybody) and TransientError (try this one again)."""

    @property
    def name(self) -> str:
        """As in DATABASE_PROVIDER and in the column `provider`."""

    async def create(self, wanted: UserDatabase) -> Place:
        """Create or adopt: afterwards exactly one database of that name is there, though it may not answer yet.

        Repeated after a failure or a kill it finds what an earlier call left and carries on from there.

        Raises:
            NotYet: cannot begin now, for example because a template is not ready.
            QuotaBlocked: no room.
            PermanentError: a database of that name is there and is not this user's.
        """

    async def prepare(self, database: UserDatabase) -> Usable:
        """Make it usable: it answers and carries the schema.

        Raises:
            NotYet: the provider is still at it.
            PermanentError: the schema cannot be applied to this database.
        """

    async def delete(self, database: UserDatabase) -> None:
        """Afterwards no database of that name is ours. Nothing there is success; a stranger's is left alone.

        Goes by name: a creation that was cut off may have left one that `provider_id` does not name.
        """

    async def connection_url(self, database: UserDatabase) -> str:
        """How to log in to it, fresh from the provider: a secret, for whoever is entitled to ask.

        Raises:
            PermanentError: there is no such database.
        """

    async def inventory(self) -> Sequence[Found]:
        """All databases of ours, also those that Usher's table does not know."""

    async def check(self) -> None:
        """One cheap look whether databases can be created now, for the breaker.

        Raises:
            DependencyDown: they cannot.
        """
