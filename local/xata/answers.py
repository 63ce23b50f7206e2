"""How projects and branches look as JSON, field for field as the API's adapter writes them."""

from datetime import datetime
from typing import Any

from local.xata.behaviour import Behaviour
from local.xata.cloud import MAX_DESCRIPTION_LENGTH, Cloud
from local.xata.lifecycle import has_credentials, status_answer
from local.xata.model import Branch, Organization, Project

_MAX_INSTANCES = 5
_MAX_VCPUS = 32_000
_MAX_STORAGE_GB = 250


def organization_answer(organization: Organization) -> dict[str, Any]:
    state = "enabled" if organization.enabled else "disabled"
    return {
        "id": organization.id,
        "name": organization.name,
        "status": {
            "status": state,
            "disabled_by_admin": False,
            "billing_status": "ok" if organization.enabled else "no_payment_method",
            "usage_tier": "t2" if organization.enabled else "t1",
            "last_updated": "2026-11-20T17:00:00Z",
        },
    }


def project_answer(project: Project) -> dict[str, Any]:
    configuration: dict[str, Any] = {
        "scaleToZero": {
            "baseBranches": project.base_branches.as_json(),
            "childBranches": project.child_branches.as_json(),
        }
    }
    if project.ip_filtering and (project.ip_filtering["enabled"] or project.ip_filtering["cidr"]):
        configuration["ipFiltering"] = project.ip_filtering
    return {
        "id": project.id,
        "name": project.name,
        "createdAt": _time(project.created_at),
        "updatedAt": _time(project.updated_at),
        "configuration": configuration,
    }


def listed_branch(branch: Branch) -> dict[str, Any]:
    """The listing's statement selects neither description nor backups: the one is absent, the other always false."""
    return {
        "id": branch.id,
        "name": branch.name,
        "createdAt": _time(branch.created_at),
        "updatedAt": _time(branch.updated_at),
        "parentID": branch.parent_id,
        "publicAccess": True,
        "region": branch.cluster.region,
        "backupsEnabled": False,
    }


def short_branch(branch: Branch, cloud: Cloud) -> dict[str, Any]:
    """Answers a creation and an update."""
    region = cloud.region(branch.cluster.region)
    return {
        **_description(branch),
        "id": branch.id,
        "name": branch.name,
        "createdAt": _time(branch.created_at),
        "updatedAt": _time(branch.updated_at),
        "parentID": branch.parent_id,
        "connectionString": deprecated_connection_string(branch, cloud.behaviour),
        "region": branch.cluster.region,
        "publicAccess": region.public_access if region else False,
    }


def whole_branch(branch: Branch, cloud: Cloud) -> dict[str, Any]:
    region = cloud.region(branch.cluster.region)
    return {
        **short_branch(branch, cloud),
        **({"backupConfiguration": branch.backup} if branch.backup else {}),
        "status": status_answer(branch, cloud.behaviour),
        "backupsEnabled": region.backups_enabled if region else False,
        "scaleToZero": branch.scale_to_zero.as_json(),
        "configuration": {
            "image": branch.cluster.image,
            "instanceType": branch.cluster.instance_type,
            "replicas": branch.cluster.replicas,
            # Never filled by the real one: the region stands at the top.
            "region": "",
            "storage": branch.cluster.storage_gib,
            "postgresConfigurationParameters": branch.cluster.parameters,
            "preloadLibraries": list(branch.cluster.preload),
        },
    }


def deprecated_connection_string(branch: Branch, behaviour: Behaviour) -> str | None:
    """Its host label ends in `-deprecated` and is not there: whoever still uses it shall notice."""
    if behaviour.connection_string_is_null or not has_credentials(branch, behaviour):
        return None
    host = f"{branch.id}-deprecated.{branch.cluster.region}.xata.tech"
    return f"postgresql://xata:{branch.password}@{host}/xata?sslmode=require"


def default_project_limits(behaviour: Behaviour) -> dict[str, Any]:
    return {
        "maxInstances": _MAX_INSTANCES,
        "minInstances": 1,
        "maxDescriptionLength": MAX_DESCRIPTION_LENGTH,
        "maxBranches": behaviour.max_branches_per_project,
    }


def project_limits(behaviour: Behaviour) -> dict[str, Any]:
    return {
        "maxDescriptionLength": MAX_DESCRIPTION_LENGTH,
        "maxBranchesPerProject": behaviour.max_branches_per_project,
        "maxInstancesPerBranch": _MAX_INSTANCES,
        "minInstancesPerBranch": 1,
        "maxAllowedInstanceType": _MAX_VCPUS,
        "maxBranchesPerHour": behaviour.max_branches_per_hour,
        "maxStorageGBPerBranch": _MAX_STORAGE_GB,
    }


def organization_limits(behaviour: Behaviour) -> dict[str, Any]:
    return {
        **project_limits(behaviour),
        "maxProjects": behaviour.max_projects,
        "maxProjectsPerHour": behaviour.max_projects_per_hour,
        "maxBranchesPerOrg": behaviour.max_branches_per_organization,
    }


def _description(branch: Branch) -> dict[str, str]:
    return {} if branch.description is None else {"description": branch.description}


def _time(moment: datetime) -> str:
    """RFC 3339 as Go writes it: as many digits after the second as needed, none when there are none."""
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f"{moment.microsecond:06}".rstrip("0")
    return f"{text}.{fraction}Z" if fraction else f"{text}Z"
