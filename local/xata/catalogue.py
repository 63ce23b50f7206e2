"""What can be had: regions, instance types and images, with the real names and prices."""

from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Region:
    id: str
    rate: float = 1.0
    backups_enabled: bool = False
    public_access: bool = True
    provider: str = "aws"
    owner: str | None = None
    """An organization's id when the region is only theirs."""


@dataclass(frozen=True, slots=True)
class InstanceType:
    name: str
    vcpus: int
    """In thousandths."""
    ram_gib: int
    hourly_rate: float


# The two that the vendor's published source has prices for; the real list is asked of the API.
REGIONS: Final = (Region("eu-central-1", rate=1.15), Region("us-east-1"))

INSTANCE_TYPES: Final = (
    InstanceType("xata.micro", 250, 1, 0.012),
    InstanceType("xata.small", 500, 2, 0.024),
    InstanceType("xata.medium", 1000, 4, 0.048),
    InstanceType("xata.large", 2000, 8, 0.096),
    InstanceType("xata.xlarge", 4000, 16, 0.192),
    InstanceType("xata.2xlarge", 8000, 32, 0.384),
    InstanceType("xata.4xlarge", 16000, 64, 0.768),
    InstanceType("xata.8xlarge", 32000, 128, 1.536),
)
_MINORS: Final = {14: (20, 22), 15: (15, 17), 16: (11, 13), 17: (5, 6, 7, 9), 18: (0, 1, 3)}
IMAGES: Final = tuple(f"postgres:{major}.{minor}" for major, minors in _MINORS.items() for minor in minors)
# Still taken, for old clients; not listed.
LEGACY_IMAGE: Final = "postgresql:17"
_STORAGE_MONTHLY_RATE: Final = 0.3


def region_answer(region: Region) -> dict[str, Any]:
    return {
        "id": region.id,
        "publicAccess": region.public_access,
        "backupsEnabled": region.backups_enabled,
        "provider": region.provider,
        "organizationId": region.owner,
    }


def instance_type_answer(kind: InstanceType, region: Region) -> dict[str, Any]:
    return {
        "name": kind.name,
        "vcpus": kind.vcpus,
        "ram": kind.ram_gib,
        "hourlyRate": round(kind.hourly_rate * region.rate, 3),
        "storageMonthlyRate": round(_STORAGE_MONTHLY_RATE * region.rate, 2),
        "region": region.id,
    }


def image_answer(name: str) -> dict[str, Any]:
    version = name.partition(":")[2]
    return {"name": name, "majorVersion": version.partition(".")[0], "fullVersion": version}
