"""The operations on the organization and its projects."""

from http import HTTPStatus
from typing import Any

from local.xata import answers, gojson, ids, refusals
from local.xata.catalogue import IMAGES, INSTANCE_TYPES, image_answer, instance_type_answer, region_answer
from local.xata.cloud import Cloud, touch
from local.xata.gojson import read_struct
from local.xata.model import DEFAULT_INACTIVITY_MINUTES, Project, ScaleToZero
from local.xata.operations import Answer, Call, Operation
from local.xata.wishes import scale_to_zero

_ORGANIZATION = "/organizations/{organization}"
_PROJECT = "/organizations/{organization}/projects/{project}"


class Projects:
    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def operations(self) -> list[Operation]:
        return [
            Operation("getOrganizationsList", "GET", "/organizations", "org:read", self._organizations),
            Operation("listRegions", "GET", f"{_ORGANIZATION}/regions", "project:read", self._regions),
            Operation("listInstanceTypes", "GET", f"{_ORGANIZATION}/instanceTypes", "org:read", self._instance_types),
            Operation("listImages", "GET", f"{_ORGANIZATION}/images", "org:read", self._images),
            Operation("getOrganizationLimits", "GET", f"{_ORGANIZATION}/limits", "org:read", self._limits),
            Operation(
                "getDefaultProjectLimits", "GET", f"{_ORGANIZATION}/projects/limits", "project:read", self._defaults
            ),
            Operation("listProjects", "GET", f"{_ORGANIZATION}/projects", "project:read", self._list),
            Operation(
                "createProject",
                "POST",
                f"{_ORGANIZATION}/projects",
                "project:write",
                self._create,
                for_enabled_only=True,
            ),
            Operation("getProject", "GET", _PROJECT, "project:read", self._get),
            Operation("updateProject", "PATCH", _PROJECT, "project:write", self._update, for_enabled_only=True),
            Operation("deleteProject", "DELETE", _PROJECT, "project:write", self._delete),
            Operation("getProjectLimits", "GET", f"{_PROJECT}/limits", "project:read", self._project_limits),
        ]

    async def _organizations(self, _call: Call) -> Answer:
        return _ok({"organizations": [answers.organization_answer(self._cloud.organization)]})

    async def _regions(self, _call: Call) -> Answer:
        return _ok({"regions": [region_answer(region) for region in self._cloud.regions()]})

    async def _instance_types(self, call: Call) -> Answer:
        name = call.query.get("region")
        if name is None:
            raise refusals.bad_request("Invalid format for parameter region: query parameter 'region' is required")
        self._check_region(name)
        region = self._cloud.region(name)
        kinds = [instance_type_answer(kind, region) for kind in INSTANCE_TYPES] if region else []
        return _ok({"instanceTypes": kinds})

    async def _images(self, call: Call) -> Answer:
        if "region" in call.query:
            self._check_region(call.query["region"])
        return _ok({"images": [image_answer(name) for name in IMAGES]})

    async def _limits(self, _call: Call) -> Answer:
        return _ok(answers.organization_limits(self._cloud.behaviour))

    async def _defaults(self, _call: Call) -> Answer:
        return _ok(answers.default_project_limits(self._cloud.behaviour))

    async def _project_limits(self, call: Call) -> Answer:
        self._cloud.project(call.project)
        return _ok(answers.project_limits(self._cloud.behaviour))

    async def _list(self, _call: Call) -> Answer:
        return _ok({"projects": [answers.project_answer(project) for project in self._cloud.live_projects()]})

    async def _create(self, call: Call) -> Answer:
        # Not through ReadBody as the others: the binder's texts come out bare.
        body = read_struct(gojson.decode(call.raw, call.content_type), gojson.CREATE_PROJECT)
        project = Project(id=ids.project_id(), name=body.get("name", ""))
        _configure(project, body.get("configuration"))
        created = self._cloud.create_project(project)
        return Answer(HTTPStatus.CREATED, answers.project_answer(created))

    async def _get(self, call: Call) -> Answer:
        return _ok(answers.project_answer(self._cloud.project(call.project)))

    async def _update(self, call: Call) -> Answer:
        body = gojson.read_body(call.raw, call.content_type, gojson.UPDATE_PROJECT)
        if not body:
            raise refusals.invalid_param(
                "all", "at least one of the request fields needs to be set", project=call.project
            )
        project = self._cloud.project(call.project)
        if "name" in body:
            self._cloud.rename_project(project, body["name"])
        _configure(project, body.get("configuration"))
        touch(project)
        return _ok(answers.project_answer(project))

    async def _delete(self, call: Call) -> Answer:
        self._cloud.delete_project(call.project)
        return Answer(HTTPStatus.NO_CONTENT)

    def _check_region(self, name: str) -> None:
        if self._cloud.region(name) is None:
            raise refusals.invalid_param("region", f"invalid region: region {name} is not found")


def _configure(project: Project, configuration: dict[str, Any] | None) -> None:
    if configuration is None:
        return
    scale = configuration.get("scaleToZero")
    if scale is not None:
        project.base_branches = _with_default(scale_to_zero(scale.get("baseBranches") or {}))
        project.child_branches = _with_default(scale_to_zero(scale.get("childBranches") or {}))
    if configuration.get("ipFiltering") is not None:
        filtering = configuration["ipFiltering"]
        project.ip_filtering = {"enabled": filtering.get("enabled") or False, "cidr": filtering.get("cidr") or []}


def _with_default(wanted: ScaleToZero) -> ScaleToZero:
    """For projects a period of zero is the default one; for branches it stays zero."""
    minutes = wanted.inactivity_minutes if wanted.inactivity_minutes > 0 else DEFAULT_INACTIVITY_MINUTES
    return ScaleToZero(wanted.enabled, minutes)


def _ok(body: Any) -> Answer:
    return Answer(HTTPStatus.OK, body)
