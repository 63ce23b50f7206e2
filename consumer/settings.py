"""What a consumer can be told from outside."""

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from consumer.outcome import DEFAULT_MAX_ATTEMPTS
from consumer.providers.xata.configuration import (
    API_URL,
    BranchWishes,
    PoolWishes,
    RegionWishes,
    Waiting,
    XataConfiguration,
)
from shared.settings import BrokerSettings, DatabaseSettings, Duration, Port, PostgresAddress, Settings

ProviderName = Literal["postgres", "xata"]


def _words(value: object) -> object:
    return tuple(word.strip() for word in value.split(",") if word.strip()) if isinstance(value, str) else value


def _pairs(value: object) -> object:
    """`a=b,a=c,d=e`: for each key its values in order."""
    if not isinstance(value, str):
        return value
    pairs: dict[str, tuple[str, ...]] = {}
    for word in filter(None, (word.strip() for word in value.split(","))):
        key, equals, named = (part.strip() for part in word.partition("="))
        if not (key and equals and named):
            raise ValueError(f"write name=value, several separated by commas, not {word!r}")
        pairs[key] = (*pairs.get(key, ()), named)
    return pairs


def _codes(value: object) -> object:
    """`DE=region,AT=region`."""
    pairs = _pairs(value)
    return {key.upper(): named[-1] for key, named in pairs.items()} if isinstance(pairs, dict) else pairs


def _https(value: str) -> str:
    if not value.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
        raise ValueError("write https://… (http only to this machine): the API key goes there")
    return value


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]
Pairs = Annotated[dict[str, tuple[str, ...]], NoDecode, BeforeValidator(_pairs)]
Codes = Annotated[dict[str, str], NoDecode, BeforeValidator(_codes)]


class XataSettings(Settings):
    """What `DATABASE_PROVIDER=xata` needs."""

    database_provider: ProviderName = "postgres"

    xata_api_key: Annotated[SecretStr | None, Field(validate_default=True)] = None
    xata_organization: Annotated[str | None, Field(validate_default=True)] = None
    xata_api_url: Annotated[str, AfterValidator(_https)] = API_URL

    xata_projects: Words = ()
    xata_project_prefix: Annotated[str | None, Field(validate_default=True)] = None
    xata_max_projects: Annotated[int, Field(ge=1)] = 10
    xata_max_branches_per_hour: Annotated[int | None, Field(ge=1)] = None
    xata_requests_per_s: Annotated[float, Field(gt=0)] = 1.0

    xata_templates: Pairs = Field(default_factory=dict)
    xata_image: str | None = None
    xata_instance_type: str | None = None
    xata_sleep_after_minutes: Annotated[int, Field(ge=0)] = 30
    xata_ready_timeout: Duration = timedelta(minutes=30)

    xata_regions: Words = ()
    xata_default_region: str | None = None
    xata_region_by_country: Codes = Field(default_factory=dict)
    xata_region_by_continent: Codes = Field(default_factory=dict)

    @field_validator("xata_api_key", "xata_organization")
    @classmethod
    def _needed(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None and info.data.get("database_provider") == "xata":
            raise ValueError("is not set: DATABASE_PROVIDER=xata needs it")
        return value

    @field_validator("xata_project_prefix")
    @classmethod
    def _projects_from_somewhere(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and not info.data.get("xata_projects") and info.data.get("database_provider") == "xata":
            raise ValueError("is not set, nor XATA_PROJECTS: name projects, or a prefix to make them under")
        return value

    def xata(self) -> XataConfiguration:
        """All of it as plain values; only with `DATABASE_PROVIDER=xata`."""
        return XataConfiguration(
            organization=self.xata_organization or "",
            key=self.xata_api_key.get_secret_value() if self.xata_api_key else "",
            url=self.xata_api_url,
            regions=RegionWishes(
                self.xata_default_region,
                self.xata_region_by_country,
                self.xata_region_by_continent,
                self.xata_regions,
                tuple(self.xata_templates),
            ),
            pool=PoolWishes(
                self.xata_projects, self.xata_project_prefix, self.xata_max_projects, self.xata_max_branches_per_hour
            ),
            branch=BranchWishes(
                self.xata_templates, self.xata_image, self.xata_instance_type, self.xata_sleep_after_minutes or None
            ),
            waiting=Waiting(ready_s=self.xata_ready_timeout.total_seconds()),
            requests_per_s=self.xata_requests_per_s,
        )


class ConsumerSettings(BrokerSettings, DatabaseSettings, XataSettings):
    """One frozen object per consumer process; names are the environment variables' names."""

    consumer_internal_host: str = "127.0.0.1"
    # 0 takes any free port; each consumer process needs its own.
    consumer_internal_port: Port = 9081
    consumer_concurrency: Annotated[int, Field(ge=1, le=100)] = 8
    max_attempts: Annotated[int, Field(ge=1, le=100)] = DEFAULT_MAX_ATTEMPTS
    stop_timeout: Duration = timedelta(seconds=20)

    # A user of this server with CREATEDB; the users' databases are made there.
    provider_postgres_url: PostgresAddress | None = None
    provider_postgres_region: Annotated[str, Field(min_length=1)] = "local"
    deletion_holdback: Duration = timedelta(days=7)

    def provider_address(self) -> str:
        address: SecretStr = self.provider_postgres_url or self.database_url
        return address.get_secret_value()
