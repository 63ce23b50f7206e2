"""What the lookup can be told from outside (`.env.example` explains each). Problems never show a token."""

import re
from datetime import timedelta
from typing import Annotated, Final

from pydantic import AfterValidator, Field, SecretStr

from shared.settings import DatabaseSettings, Duration, Port

MIN_TOKEN_CHARACTERS: Final = 16
# What may stand behind `Bearer` (RFC 6750, section 2.1).
_TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
_HOW_TO_MAKE: Final = "make one with `openssl rand -hex 24`"


def _tokens_of(value: SecretStr) -> list[str]:
    return [part for part in (part.strip() for part in value.get_secret_value().split(",")) if part]


def _tokens(value: SecretStr) -> SecretStr:
    tokens = _tokens_of(value)
    if not tokens:
        raise ValueError(f"names no token: {_HOW_TO_MAKE}")
    for number, token in enumerate(tokens, start=1):
        if len(token) < MIN_TOKEN_CHARACTERS:
            raise ValueError(f"token {number} is shorter than {MIN_TOKEN_CHARACTERS} characters: {_HOW_TO_MAKE}")
        if not _TOKEN.fullmatch(token):
            raise ValueError(f"token {number} has characters that no Authorization header carries: {_HOW_TO_MAKE}")
    return value


class LookupSettings(DatabaseSettings):
    """One frozen object per process; names are the environment variables' names."""

    lookup_token: Annotated[SecretStr, AfterValidator(_tokens)] = Field(
        description=f"whoever may ask proves it with one; {_HOW_TO_MAKE}"
    )
    lookup_host: str = "127.0.0.1"
    lookup_port: Port = 8090
    lookup_internal_host: str = "127.0.0.1"
    lookup_internal_port: Port = 9089
    stop_timeout: Duration = timedelta(seconds=10)

    def tokens(self) -> list[str]:
        return _tokens_of(self.lookup_token)
