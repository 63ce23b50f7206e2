"""What is known of a user's database: those columns of `databases` that an application may see. None is a secret."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `age_s`: since it was asked for; `due`: its holdback is over. Both by the database's own clock."""

    user_id: str
    state: str
    provider: str
    project: str | None
    name: str
    region: str | None
    host: str | None
    schema_version: int
    requested_at: datetime
    ready_at: datetime | None
    erase_after: datetime | None
    age_s: float
    due: bool
