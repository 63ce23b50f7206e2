"""The contract as JSON Schema, written from the facts about the API: what each operation takes and answers.

Stricter than the API where the API is lenient: a field that it ignores is a violation here.
"""

from typing import Any, Final

_TEXT: Final = {"type": "string"}
_FLAG: Final = {"type": "boolean"}
_COUNT: Final = {"type": "integer", "minimum": 0}
_TEXT_OR_NULL: Final = {"type": ["string", "null"]}
_TIME: Final = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$"}
_ORGANIZATION_ID: Final = {"type": "string", "pattern": "^[0-9a-v]{6}$"}
_PROJECT_ID: Final = {"type": "string", "pattern": "^prj_[0-9a-v]{26}$"}
_BRANCH_ID: Final = {"type": "string", "pattern": "^[a-v][0-9a-v]{25}$"}
_BRANCH_ID_OR_NULL: Final = {"type": ["string", "null"], "pattern": "^[a-v][0-9a-v]{25}$"}
_NAME: Final = {"type": "string", "minLength": 1}
_DESCRIPTION: Final = {"type": "string", "maxLength": 50, "pattern": "^[a-zA-Z0-9]+[a-zA-Z0-9- ]*$"}


def _object(optional: dict[str, Any] | None = None, /, **required: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": sorted(required),
        "additionalProperties": False,
    }


def _list(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


_SCALE: Final = _object(enabled=_FLAG, inactivityPeriodMinutes=_COUNT)
_PROJECT_SCALE: Final = _object(baseBranches=_SCALE, childBranches=_SCALE)
_FILTERING: Final = _object(enabled=_FLAG, cidr=_list(_object({"description": _TEXT}, cidr=_TEXT)))
_BACKUP: Final = _object(
    {
        "retentionPeriod": {"type": "integer", "minimum": 2, "maximum": 35},
        "backupTime": {"type": "string", "pattern": r"^(\*|[0-6]):(0[0-9]|1[0-9]|2[0-3]):([0-5][0-9])$"},
    }
)
_TUNING: Final = {
    "storage": {"type": "integer", "minimum": 1, "maximum": 250},
    "postgresConfigurationParameters": {"type": "object", "additionalProperties": _TEXT},
    "preloadLibraries": _list(_TEXT),
}
_REPLICAS: Final = {"type": "integer", "minimum": 0, "maximum": 4}
_CLUSTER: Final = _object(_TUNING, region=_TEXT, image=_TEXT, instanceType=_TEXT, replicas=_REPLICAS)
_NEW_BRANCH: Final = {"description": _DESCRIPTION, "scaleToZero": _SCALE, "backupConfiguration": _BACKUP}
_STATUS: Final = _object(
    {"message": _TEXT, "lifecycle": {"type": "object"}},
    status=_TEXT,
    statusType={
        "enum": [f"STATUS_TYPE_{name}" for name in ("UNSPECIFIED", "HEALTHY", "TRANSIENT", "FAULT", "HIBERNATED")]
    },
    instanceCount={"type": "integer", "minimum": 0, "maximum": 5},
    instanceReadyCount={"type": "integer", "minimum": 0, "maximum": 5},
    instances=_list(_object(id=_TEXT, status=_TEXT, primary=_FLAG, targetPrimary=_FLAG)),
)
_PROJECT: Final = _object(
    id=_PROJECT_ID,
    name=_NAME,
    createdAt=_TIME,
    updatedAt=_TIME,
    configuration=_object({"ipFiltering": _FILTERING}, scaleToZero=_PROJECT_SCALE),
)
_BRANCH_CORE: Final = {
    "id": _BRANCH_ID,
    "name": _NAME,
    "createdAt": _TIME,
    "updatedAt": _TIME,
    "region": _NAME,
    "publicAccess": _FLAG,
}
# A description is checked when a branch is created, not when it is changed: an answer's may be any text.
_MAYBE: Final = {"description": _TEXT, "parentID": _BRANCH_ID_OR_NULL}
_SHORT: Final = _object({**_MAYBE, "connectionString": _TEXT_OR_NULL}, **_BRANCH_CORE)
_LISTED: Final = _object(_MAYBE, **_BRANCH_CORE, backupsEnabled=_FLAG)
_WHOLE: Final = _object(
    {**_MAYBE, "backupConfiguration": _BACKUP},
    **_BRANCH_CORE,
    status=_STATUS,
    connectionString=_TEXT_OR_NULL,
    backupsEnabled=_FLAG,
    scaleToZero=_SCALE,
    configuration=_CLUSTER,
)
_PROJECT_LIMITS: Final = {
    "maxDescriptionLength": {"type": "integer", "minimum": 25},
    "maxBranchesPerProject": _COUNT,
    "maxInstancesPerBranch": {"type": "integer", "minimum": 1},
    "minInstancesPerBranch": {"type": "integer", "minimum": 1},
    "maxAllowedInstanceType": {"type": "integer", "minimum": 1},
    "maxBranchesPerHour": {"type": "integer", "minimum": 1},
    "maxStorageGBPerBranch": _COUNT,
}
_REGION: Final = _object(
    id=_NAME,
    publicAccess=_FLAG,
    backupsEnabled=_FLAG,
    provider={"enum": ["aws", "gcp", "custom"]},
    organizationId=_TEXT_OR_NULL,
)
_INSTANCE_TYPE: Final = _object(
    name=_NAME,
    vcpus=_COUNT,
    ram=_COUNT,
    hourlyRate={"type": "number"},
    storageMonthlyRate={"type": "number"},
    region=_NAME,
)
_ORGANIZATION: Final = _object(
    id=_ORGANIZATION_ID,
    name=_TEXT,
    status=_object(
        {"admin_reason": _TEXT, "billing_reason": _TEXT, "created_at": _TIME},
        status={"enum": ["enabled", "disabled"]},
        disabled_by_admin=_FLAG,
        billing_status=_TEXT,
        usage_tier={"enum": ["t1", "t2"]},
        last_updated=_TIME,
    ),
)

ERROR: Final = _object({"id": _TEXT}, message=_TEXT)

ANSWERS: Final[dict[str, dict[str, Any]]] = {
    "getOrganizationsList": _object(organizations=_list(_ORGANIZATION)),
    "listRegions": _object(regions=_list(_REGION)),
    "listInstanceTypes": _object(instanceTypes=_list(_INSTANCE_TYPE)),
    "listImages": _object(images=_list(_object(name=_NAME, majorVersion=_TEXT, fullVersion=_TEXT))),
    "getOrganizationLimits": _object(
        **_PROJECT_LIMITS,
        maxProjects={"type": "integer", "minimum": 1},
        maxProjectsPerHour={"type": "integer", "minimum": 1},
        maxBranchesPerOrg={"type": "integer", "minimum": 1},
    ),
    "getDefaultProjectLimits": _object(
        maxInstances={"type": "integer", "minimum": 1},
        minInstances={"type": "integer", "minimum": 1},
        maxDescriptionLength={"type": "integer", "minimum": 25},
        maxBranches={"type": "integer"},
    ),
    "getProjectLimits": _object(**_PROJECT_LIMITS),
    "listProjects": _object(projects=_list(_PROJECT)),
    "createProject": _PROJECT,
    "getProject": _PROJECT,
    "updateProject": _PROJECT,
    "listBranches": _object(branches=_list(_LISTED)),
    "createBranch": _SHORT,
    "describeBranch": _WHOLE,
    "updateBranch": _SHORT,
    "getBranchCredentials": _object(
        username=_NAME,
        password=_NAME,
        hostname=_NAME,
        port={"type": "integer", "minimum": 1, "maximum": 65535},
        dbname=_NAME,
        connectionString=_NAME,
    ),
}

REQUESTS: Final[dict[str, dict[str, Any]]] = {
    "createProject": _object(
        {"configuration": _object({"ipFiltering": _FILTERING}, scaleToZero=_PROJECT_SCALE)}, name=_NAME
    ),
    "updateProject": _object(
        {
            "name": _NAME,
            "configuration": _object({"scaleToZero": _PROJECT_SCALE, "ipFiltering": _FILTERING}),
        }
    ),
    "createBranch": {
        "oneOf": [
            _object(_NEW_BRANCH, name=_NAME, mode={"enum": ["inherit"]}, parentID=_BRANCH_ID),
            _object(_NEW_BRANCH, name=_NAME, mode={"enum": ["custom"]}, configuration=_CLUSTER),
        ]
    },
    "updateBranch": _object(
        {
            **_TUNING,
            "name": _NAME,
            "description": _DESCRIPTION,
            "replicas": _REPLICAS,
            "instanceType": _TEXT,
            "image": _TEXT,
            "hibernate": _FLAG,
            "scaleToZero": _SCALE,
            "backupConfiguration": _BACKUP,
        }
    ),
    "rotateBranchCredentials": _object(username=_NAME),
}
