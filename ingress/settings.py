"""What the ingress can be told from outside (`.env.example` explains each). Problems name variables, never secrets."""

import base64
import binascii
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, AliasChoices, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from ingress.webhook import SVIX_PREFIX
from shared.settings import BrokerSettings, Duration, Port

MIN_SECRET_BYTES: Final = 16
MAX_WORKERS: Final = 64
# RabbitMQ 4 takes messages up to 16 MiB, and an unreadable body is kept whole.
MAX_MAX_BODY_BYTES: Final = 15 * 1024 * 1024
# Svix waits 15 s for an answer.
MAX_PUBLISH_TIMEOUT: Final = timedelta(seconds=14)

_HOW_TO_COPY: Final = "copy the endpoint's Signing Secret (whsec_…) from the Clerk dashboard"


def _split(text: str) -> list[str]:
    return [part for part in (part.strip() for part in text.split(",")) if part]


def _svix_secrets(value: SecretStr) -> SecretStr:
    for number, secret in enumerate(svix_secrets_of(value), start=1):
        encoded = secret.removeprefix(SVIX_PREFIX)
        try:
            key = base64.b64decode(_padded(encoded), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(f"secret {number} is not base64: {_HOW_TO_COPY}") from None
        if len(key) < MIN_SECRET_BYTES:
            raise ValueError(f"secret {number} is shorter than {MIN_SECRET_BYTES} bytes: {_HOW_TO_COPY}")
    return value


def _hookdeck_secrets(value: SecretStr) -> SecretStr:
    for number, secret in enumerate(_split(value.get_secret_value()), start=1):
        try:
            length = len(secret.encode())
        except UnicodeEncodeError:
            raise ValueError(f"secret {number} is not UTF-8") from None
        if length < MIN_SECRET_BYTES:
            raise ValueError(
                f"secret {number} is shorter than {MIN_SECRET_BYTES} bytes: copy the Signing Secret from the "
                "settings of the Hookdeck project",
            )
    return value


def _readable_file(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    return path


def svix_secrets_of(value: SecretStr) -> list[str]:
    """The secrets of a comma-separated list. `v1,whsec_…`, as some dashboards show it, has a comma of its own."""
    parts = _split(value.get_secret_value())
    prefixes = {place for place in range(len(parts) - 1) if _is_copied_prefix(parts, place)}
    return [part for place, part in enumerate(parts) if place not in prefixes]


def _is_copied_prefix(parts: list[str], place: int) -> bool:
    return parts[place] == "v1" and parts[place + 1].startswith(SVIX_PREFIX)


def _padded(encoded: str) -> str:
    return encoded + "=" * (-len(encoded) % 4)


class IngressSettings(BrokerSettings):
    model_config = SettingsConfigDict(validate_by_name=True, validate_by_alias=True)

    hookdeck_webhook_secret: Annotated[SecretStr, AfterValidator(_hookdeck_secrets)] = Field(
        default=SecretStr(""),
        validation_alias=AliasChoices("HOOKDECK_WEBHOOK_SECRET", "HOOKDECK_SIGNING_SECRET", "HOOKDECK_SECRET"),
    )
    clerk_webhook_signing_secret: Annotated[SecretStr, AfterValidator(_svix_secrets)] = Field(
        default=SecretStr(""),
        validate_default=True,
        validation_alias=AliasChoices(
            "CLERK_WEBHOOK_SIGNING_SECRET",
            "CLERK_WEBHOOK_SECRET",
            "CLERK_SIGNING_SECRET",
            "WEBHOOK_SECRET",
            "SVIX_WEBHOOK_SECRET",
        ),
    )
    hookdeck_header_prefix: str = Field(default="x-hookdeck", pattern=r"^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$", max_length=64)

    ingress_host: str = "127.0.0.1"
    ingress_port: Port = 8080
    ingress_internal_host: str = "127.0.0.1"
    ingress_internal_port: Port = 9080
    ingress_workers: int = Field(default=1, ge=1, le=MAX_WORKERS)

    max_body_bytes: int = Field(default=1024 * 1024, ge=1024, le=MAX_MAX_BODY_BYTES)
    max_in_flight: int = Field(default=1000, ge=1)
    publish_timeout: Annotated[Duration, Field(gt=timedelta(0), le=MAX_PUBLISH_TIMEOUT)] = timedelta(seconds=5)
    stop_timeout: Duration = timedelta(seconds=10)

    country_database: Annotated[Path, AfterValidator(_readable_file)] | None = None
    region_metadata_key: str = Field(
        default="public_metadata.region",
        pattern=r"^(public_metadata|unsafe_metadata)(\.[A-Za-z0-9_-]+)+$",
    )

    @field_validator("clerk_webhook_signing_secret")
    @classmethod
    def _some_secret(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        # A field above that is itself wrong is not in `data`: its own problem is the one to report.
        relay = info.data.get("hookdeck_webhook_secret")
        if relay is not None and not svix_secrets_of(value) and not _split(relay.get_secret_value()):
            raise ValueError(f"is not set, and neither is HOOKDECK_WEBHOOK_SECRET: {_HOW_TO_COPY}")
        return value

    def svix_secrets(self) -> list[str]:
        """Each as `whsec_` and padded base64."""
        return [
            SVIX_PREFIX + _padded(secret.removeprefix(SVIX_PREFIX))
            for secret in svix_secrets_of(self.clerk_webhook_signing_secret)
        ]

    def hookdeck_secrets(self) -> list[str]:
        return _split(self.hookdeck_webhook_secret.get_secret_value())

    def hints(self) -> list[str]:
        """What an operator should know at start-up though it is no error."""
        hints = []
        if len(_split(self.clerk_webhook_signing_secret.get_secret_value())) > len(self.svix_secrets()):
            hints.append("CLERK_WEBHOOK_SIGNING_SECRET: the prefix 'v1,' is not part of the secret; it is left out")
        if not self.svix_secrets():
            hints.append(
                "no Clerk signing secret: only relayed webhooks are accepted, and their ids are the relay's word; "
                "have the relay check Clerk's signature, or set CLERK_WEBHOOK_SIGNING_SECRET",
            )
        return hints
