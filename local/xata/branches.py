"""The operations on branches and their credentials."""

from http import HTTPStatus
from typing import Any, Final

from local.xata import answers, cloud, gojson, lifecycle, refusals, wishes
from local.xata.cloud import Cloud, touch
from local.xata.model import Branch
from local.xata.operations import Answer, Call, Operation
from local.xata.provisioning import Provisioning

USERNAME: Final = "xata"
_BRANCHES: Final = "/organizations/{organization}/projects/{project}/branches"
_BRANCH: Final = f"{_BRANCHES}/{{branch}}"
_CLUSTER_FIELDS: Final = frozenset(gojson.UPDATE_BRANCH.fields) - {"name", "description"}


class Branches:
    def __init__(self, cloud: Cloud, provisioning: Provisioning) -> None:
        self._cloud = cloud
        self._provisioning = provisioning

    def operations(self) -> list[Operation]:
        credentials = f"{_BRANCH}/credentials"
        rotate = f"{credentials}/rotate"
        return [
            Operation("listBranches", "GET", _BRANCHES, "branch:read", self._list),
            Operation("createBranch", "POST", _BRANCHES, "branch:write", self._create, for_enabled_only=True),
            Operation("describeBranch", "GET", _BRANCH, "branch:read", self._get),
            Operation("updateBranch", "PATCH", _BRANCH, "branch:write", self._update, for_enabled_only=True),
            Operation("deleteBranch", "DELETE", _BRANCH, "branch:write", self._delete),
            Operation("getBranchCredentials", "GET", credentials, "credentials:read", self._credentials),
            Operation(
                "rotateBranchCredentials", "POST", rotate, "credentials:write", self._rotate, for_enabled_only=True
            ),
        ]

    async def _list(self, call: Call) -> Answer:
        branches = self._cloud.project(call.project).live()
        return Answer(HTTPStatus.OK, {"branches": [answers.listed_branch(branch) for branch in branches]})

    async def _create(self, call: Call) -> Answer:
        if self._cloud.behaviour.branch_creation_disabled:
            raise refusals.unavailable()
        self._cloud.check_new_organization()
        wish = wishes.read(call, self._cloud)
        parent = None
        if wish.parent is not None:
            parent = self._cloud.parent(call.project, wish.parent)
            await self._provisioning.look(parent)
        branch = self._cloud.create_branch(call.project, wish)
        self._provisioning.begin(branch, parent)
        return Answer(HTTPStatus.CREATED, answers.short_branch(branch, self._cloud))

    async def _get(self, call: Call) -> Answer:
        branch = self._cloud.branch(call.project, call.branch)
        if not lifecycle.visible(branch, self._cloud.behaviour):
            raise refusals.cluster_not_found(branch.id)
        await self._provisioning.look(branch)
        return Answer(HTTPStatus.OK, answers.whole_branch(branch, self._cloud))

    async def _update(self, call: Call) -> Answer:
        body = wishes.read_change(call)
        project = self._cloud.project(call.project)
        branch = self._cloud.branch(call.project, call.branch)
        if "name" in body and body["name"] != branch.name:
            self._cloud.check_branch_name(project, body["name"])
        if _CLUSTER_FIELDS & set(body):
            self._change_cluster(branch, body)
        branch.name = body.get("name", branch.name)
        branch.description = body.get("description", branch.description)
        touch(branch)
        # The update's statement does not select the region's access: always false here.
        return Answer(HTTPStatus.OK, {**answers.short_branch(branch, self._cloud), "publicAccess": False})

    async def _delete(self, call: Call) -> Answer:
        branch = self._cloud.branch(call.project, call.branch)
        async with branch.lock:
            if branch.deleted:
                raise refusals.branch_not_found(branch.id)
            await self._provisioning.remove(branch)
            branch.deleted = True
        return Answer(HTTPStatus.NO_CONTENT)

    async def _credentials(self, call: Call) -> Answer:
        wanted = call.query.get("username")
        if wanted != USERNAME and (wanted is not None or self._cloud.behaviour.username_is_required):
            raise refusals.invalid_param(
                "username", "only the xata user credentials can be retrieved", branch=call.branch
            )
        branch = self._cloud.parent(call.project, call.branch)
        if not lifecycle.has_credentials(branch, self._cloud.behaviour):
            raise refusals.credentials_not_found(branch.id, USERNAME)
        return Answer(HTTPStatus.OK, self._provisioning.credentials(branch))

    async def _rotate(self, call: Call) -> Answer:
        body = gojson.read_body(call.raw, call.content_type, gojson.ROTATE)
        if body.get("username") != USERNAME:
            raise refusals.invalid_param(
                "username", "only the xata user credentials can be rotated", branch=call.branch
            )
        branch = self._cloud.parent(call.project, call.branch)
        await self._provisioning.rotate(branch, cloud.new_password())
        return Answer(HTTPStatus.NO_CONTENT)

    def _change_cluster(self, branch: Branch, body: dict[str, Any]) -> None:
        behaviour = self._cloud.behaviour
        if behaviour.updates_forbidden:
            raise refusals.update_forbidden(branch.id)
        if behaviour.conflicting_updates > 0:
            behaviour.conflicting_updates -= 1
            raise refusals.modified_concurrently(branch.id)
        branch.cluster = wishes.changed(branch, body)
        if body.get("scaleToZero") is not None:
            branch.scale_to_zero = wishes.scale_to_zero(body["scaleToZero"])
        if body.get("hibernate") is True:
            branch.hibernated = branch.up
        elif body.get("hibernate") is False:
            lifecycle.wake(branch, behaviour)
