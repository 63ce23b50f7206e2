"""Where the table and the provider's own list differ.

In: the rows as they were before and after the provider was asked, and its list. Out: the differences. Promise: what is
under way meanwhile is no difference, so that each one found is real and stays until somebody mends it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from consumer.database_state import State
from consumer.databases import Database
from consumer.providers.protocol import Found

# The table says that there is one, and where.
_SETTLED: Final = frozenset({State.READY, State.HELD})


class Kind(StrEnum):
    """What differs. The first four are about a row, the others about a database that no row stands for."""

    MISSING = "missing"  # the row says that it is there, and it is not
    WRONG_PROVIDER_ID = "wrong_provider_id"  # another one under the same name
    WRONG_PROJECT = "wrong_project"
    WRONG_REGION = "wrong_region"
    WRONG_USER = "wrong_user"  # marked as another user's
    ORPHAN = "orphan"  # no row has this name
    PUT_ASIDE = "put_aside"  # a row's, broken when it was made and replaced since; kept for inspection
    NOT_DELETED = "not_deleted"  # the row says that it was deleted
    DUPLICATE = "duplicate"  # one more under the name of one that is where it should be


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference: what `table` says and what the provider `has`, where there is something to say."""

    kind: Kind
    name: str
    user_id: str | None
    provider_id: str | None
    project: str | None
    region: str | None
    table: str | None = None
    has: str | None = None


def compare(
    before: Sequence[Database], found: Sequence[Found], after: Sequence[Database], *, provider: str
) -> list[Drift]:
    """The differences, by name. Rows of other providers are not looked at."""
    at_provider: dict[str, list[Found]] = defaultdict(list)
    for each in found:
        at_provider[each.name].append(each)
    earlier, later = _by_name(before, provider), _by_name(after, provider)
    drift: list[Drift] = []
    for name, row in later.items():
        if _unchanged(earlier.get(name), row):
            drift += _of_row(row, at_provider.get(name, []))
    for name, strays in at_provider.items():
        # A row is there before its database is: whatever the list has, the later reading knows.
        if name not in later:
            drift += [each for stray in strays for each in _of_stray(stray, later)]
    return sorted(drift, key=lambda each: (each.name, each.kind, each.provider_id or ""))


def _by_name(rows: Sequence[Database], provider: str) -> Mapping[str, Database]:
    return {row.name: row for row in rows if row.provider == provider}


def _unchanged(before: Database | None, after: Database) -> bool:
    return before is not None and (before.state, before.changed_at) == (after.state, after.changed_at)


def _of_stray(stray: Found, rows: Mapping[str, Database]) -> Iterator[Drift]:
    row = rows.get(stray.put_aside_from or "")
    if row is None:
        yield _about(Kind.ORPHAN, stray)
    elif row.state is State.DELETED:
        yield _about(Kind.NOT_DELETED, stray, row)
    elif row.state is not State.DELETING:
        yield _about(Kind.PUT_ASIDE, stray, row)


def _of_row(row: Database, found: Sequence[Found]) -> Iterator[Drift]:
    if row.state is State.DELETED:
        yield from (_about(Kind.NOT_DELETED, each, row) for each in found)
    elif row.state in _SETTLED:
        yield from _of_settled(row, found)


def _of_settled(row: Database, found: Sequence[Found]) -> Iterator[Drift]:
    ours = [each for each in found if each.provider_id == row.provider_id]
    if not found:
        yield Drift(Kind.MISSING, row.name, row.user_id, row.provider_id, row.project, row.region)
    elif not ours:
        yield from (
            _about(Kind.WRONG_PROVIDER_ID, each, row, table=row.provider_id, has=each.provider_id) for each in found
        )
    else:
        yield from _of_place(row, ours[0])
        yield from (_about(Kind.DUPLICATE, each, row) for each in found if each is not ours[0])


def _of_place(row: Database, found: Found) -> Iterator[Drift]:
    if found.user_id is not None and found.user_id != row.user_id:
        yield _about(Kind.WRONG_USER, found, row, table=row.user_id, has=found.user_id)
    if found.project != row.project:
        yield _about(Kind.WRONG_PROJECT, found, row, table=row.project, has=found.project)
    if found.region != row.region:
        yield _about(Kind.WRONG_REGION, found, row, table=row.region, has=found.region)


def _about(
    kind: Kind, found: Found, row: Database | None = None, *, table: str | None = None, has: str | None = None
) -> Drift:
    user_id = row.user_id if row else found.user_id
    return Drift(kind, found.name, user_id, found.provider_id, found.project, found.region, table, has)
