"""Puts Usher's user migrations into one user's database, over an ordinary Postgres connection."""

from collections.abc import Sequence
from typing import Final

from consumer.providers.session import session
from shared import migrations
from shared.errors import PermanentError, SettingsError

APPLICATION_NAME: Final = "usher schema"


async def migrate(url: str, wanted: Sequence[migrations.Migration]) -> int:
    """Apply what is missing; returns the version the database is at then.

    Raises:
        DependencyDown: the database does not answer.
        PermanentError: the database carries other migrations than ours.
    """
    async with session(url, application_name=APPLICATION_NAME) as connection:
        try:
            return await migrations.apply(connection, wanted)
        except SettingsError as error:
            # Here it is this one database that differs: an operator looks at it, the others go on.
            raise PermanentError(str(error)) from error
