"""A user's database name: from the user id alone, so that it can always be found again.

Promise: legal everywhere (at most 63 bytes of ASCII letters, digits and `_`), stable, and never the same for two users.
"""

import hashlib
import re
from typing import Final

MAX_NAME_BYTES: Final = 63  # Postgres cuts longer identifiers off silently

# Clerk's ids: `user_` and base62. Their case matters, so the name keeps it.
_CLERK_ID: Final = re.compile(r"user_[0-9A-Za-z]{1,58}")
_HASH_HEX_DIGITS: Final = 48
_HASHED: Final = re.compile(rf"usr_[0-9a-f]{{{_HASH_HEX_DIGITS}}}")


def database_name(user_id: str) -> str:
    """The id itself where it is a Clerk id; for anything else `usr_` and a hash, which no Clerk id can be."""
    if _CLERK_ID.fullmatch(user_id):
        return user_id
    digest = hashlib.sha256(user_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"usr_{digest[:_HASH_HEX_DIGITS]}"


def is_user_name(name: str) -> bool:
    """Whether `database_name` makes such names."""
    return bool(_CLERK_ID.fullmatch(name) or _HASHED.fullmatch(name))
