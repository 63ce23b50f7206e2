"""What every process can be told from outside, and how settings are read: all problems at once, secrets as ***.

Only `settings` modules read the environment. A process makes one frozen object at its start and passes plain values on.
"""

from datetime import timedelta
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from yarl import URL

from shared import tls
from shared.durations import parse_duration
from shared.errors import SettingsError
from shared.log import LogFormat

LogLevel = Literal["debug", "info", "warning", "error"]
Port = Annotated[int, Field(ge=0, le=65535)]


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


Duration = Annotated[timedelta, BeforeValidator(_duration)]


MAX_VHOST_LENGTH: Final = 127
MAX_VHOST_BYTES: Final = 255

_ENCODE: Final = (
    "in user and password, write each of / # ? @ : % , \\ as % and its two hex digits, for example %23 for #"
)


def _amqp_addresses(value: SecretStr) -> SecretStr:
    for address in value.get_secret_value().split(","):
        if not address.strip().startswith(("amqp://", "amqps://")):
            raise ValueError(
                f"write amqp://user:password@host:5672/vhost (several nodes separated by commas); {_ENCODE}"
            )
        if not _well_formed(address.strip()) or not _fit_for_amqp(address.strip()):
            raise ValueError(f"is no address that can be read: {_ENCODE}")
        url = URL(address.strip())
        if trouble := _trouble_with_vhost(url) or _trouble_with_tls(url):
            raise ValueError(trouble)
    return value


def _trouble_with_vhost(url: URL) -> str | None:
    """AMQP writes its length in one byte and sets a limit of its own; clients notice when they connect."""
    vhost = url.path[1:].replace("%2F", "/")
    if len(vhost) > MAX_VHOST_LENGTH or len(vhost.encode()) > MAX_VHOST_BYTES:
        return (
            f"its vhost, which is all between host and ?, has {len(vhost)} characters ({len(vhost.encode())} bytes): "
            f"AMQP takes no more than {MAX_VHOST_LENGTH} characters and {MAX_VHOST_BYTES} bytes, use a shorter one"
        )
    return None


def _trouble_with_tls(url: URL) -> str | None:
    return tls.trouble(url.query) if url.scheme == "amqps" else tls.trouble_with_cadata(url.query)


def _fit_for_amqp(address: str) -> bool:
    """Whether there is a host to look up, and the AMQP library can take the address apart."""
    host = urlsplit(address).hostname or ""
    try:
        host.encode("idna")
        return bool(host and URL(address).host)
    except ValueError:
        return False


def _postgres_address(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith(("postgres://", "postgresql://")):
        raise ValueError("write postgresql://user:password@host:5432/database")
    if not _well_formed(value.get_secret_value()):
        raise ValueError(f"is no address that can be read: {_ENCODE}")
    return value


def _well_formed(address: str) -> bool:
    """Whether the drivers can read it. They would say no only when they connect, and quote the password."""
    try:
        parts = urlsplit(address)
        # Postgres takes several hosts: each has a port of its own.
        for host in parts.netloc.rpartition("@")[2].split(","):
            _ = urlsplit(f"//{host}").port
    except ValueError:
        return False
    return not parts.fragment and "#" not in address


AmqpAddresses = Annotated[SecretStr, AfterValidator(_amqp_addresses)]
PostgresAddress = Annotated[SecretStr, AfterValidator(_postgres_address)]


class Settings(BaseSettings):
    """The settings that all processes share. Subclasses add their own; names are the environment variables' names."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True)

    log_level: LogLevel = "info"
    log_format: LogFormat = "auto"

    @classmethod
    def read(cls, **overrides: Any) -> Self:
        """Read the environment; `overrides` (from the command line) win.

        Raises:
            SettingsError: with one line per problem, each naming the variable and what to do.
        """
        try:
            return cls(**{name: value for name, value in overrides.items() if value is not None})
        except ValidationError as error:
            raise SettingsError("\n".join(_explain(cls, problem) for problem in error.errors())) from None


class BrokerSettings(Settings):
    amqp_url: AmqpAddresses

    def amqp_addresses(self) -> list[str]:
        return [address.strip() for address in self.amqp_url.get_secret_value().split(",")]


class DatabaseSettings(Settings):
    database_url: PostgresAddress


def _explain(cls: type[Settings], problem: Any) -> str:
    location = problem["loc"]
    name = str(location[0]).upper() if location else "settings"
    text = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        field = cls.model_fields.get(str(location[0]))
        text = (field.description if field and field.description else "is not set") or text
        text = text if text.startswith("is not set") else f"is not set: {text}"
    return f"{name}: {text}"
