"""How a verb finds the system: the environment first, then `.usher/env` of the nearest folder upwards.

Comes out: plain values, or `SettingsError` naming the variable and the two ways to have it.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Self, TypeVar

import typer
from pydantic import AliasChoices, Field, SecretStr

from local.env import default_folder
from shared.errors import SettingsError
from shared.settings import AmqpAddresses, PostgresAddress, Settings

if TYPE_CHECKING:
    from consumer.settings import ConsumerSettings

T = TypeVar("T")

_NO_BROKER: Final = SecretStr("amqp://127.0.0.1:1/")
ENV_FILE: Final = Path(".usher") / "env"


def _text(path: Path | None) -> Path | None:
    try:
        _ = path and path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{path} cannot be read as UTF-8 text: {error}") from error
    return path


EnvFile = Annotated[
    Path | None,
    typer.Option(
        "--env-file",
        exists=True,
        dir_okay=False,
        callback=_text,
        metavar="PATH",
        help="A file of settings like .env.example; what the environment sets as well wins over it.",
    ),
]


class OperatorSettings(Settings):
    """Where the system is. Everything is optional here: a verb asks for what it needs through the methods below."""

    amqp_url: AmqpAddresses | None = None
    database_url: PostgresAddress | None = None
    management_url: str | None = None
    ingress_url: str | None = None
    ingress_internal_url: str | None = None
    sync_user_internal_url: str | None = None
    provision_database_internal_url: str | None = None
    lookup_url: str | None = None
    lookup_internal_url: str | None = None
    clerk_webhook_signing_secret: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices(
            "clerk_webhook_signing_secret",
            "clerk_webhook_secret",
            "clerk_signing_secret",
            "webhook_secret",
        ),
    )
    hookdeck_webhook_secret: SecretStr | None = None

    @classmethod
    def find(cls, named: Path | None = None) -> Self:
        """What the environment says, and below it what the `named` file or else the nearest `.usher/env` says.

        Raises:
            SettingsError: a value is malformed, or the file may not be read.
        """
        found = named or env_file(Path.cwd())
        try:
            return cls.read(_env_file=found)
        except OSError as error:
            raise SettingsError(f"{found} cannot be read: {error.strerror}") from error

    def broker_addresses(self) -> list[str]:
        text = _needed("AMQP_URL", self.amqp_url).get_secret_value()
        return [address.strip() for address in text.split(",")]

    def database_address(self) -> str:
        return _needed("DATABASE_URL", self.database_url).get_secret_value()

    def ingress_address(self) -> str:
        return _needed("INGRESS_URL", self.ingress_url)

    def clerk_secret(self) -> str:
        """The first of the secrets: the ingress takes any of them."""
        return _first("CLERK_WEBHOOK_SIGNING_SECRET", self.clerk_webhook_signing_secret)

    def hookdeck_secret(self) -> str:
        return _first("HOOKDECK_WEBHOOK_SECRET", self.hookdeck_webhook_secret)


def consumer_settings() -> "ConsumerSettings":
    """What a consumer would read here: a verb that asks the provider has it put together from the same settings.

    Raises:
        SettingsError: something is missing or malformed.
    """
    from consumer.settings import ConsumerSettings

    OperatorSettings.find().database_address()  # says where to get it from when there is none
    # No verb that needs these settings goes to the broker by them.
    return ConsumerSettings.read(_env_file=env_file(Path.cwd()), amqp_url=_NO_BROKER)


def env_file(folder: Path) -> Path | None:
    """`.usher/env` in `folder` or the nearest folder above it, else that of the clone that this code runs from."""
    candidates = [*(at / ENV_FILE for at in (folder, *folder.parents)), default_folder() / ENV_FILE.name]
    return next((path for path in candidates if path.is_file()), None)


def _needed(name: str, value: T | None) -> T:
    if value is None:
        raise SettingsError(f"{name}: is not set, and no .usher/env is here or above: run `usher up`, or set {name}")
    return value


def _first(name: str, value: SecretStr | None) -> str:
    # Some copy Clerk's secrets as `v1,whsec_…`: that comma separates nothing.
    parts = (part.strip() for part in _needed(name, value).get_secret_value().split(","))
    return next((part for part in parts if part not in {"", "v1"}), "")
