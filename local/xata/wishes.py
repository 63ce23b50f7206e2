"""Reads what a caller wants of a branch, checked in the order and refused with the words of the API's handler."""

import dataclasses
import re
from typing import Any, Final

from local.xata import cloud, gojson, refusals
from local.xata.cloud import Cloud, Wish
from local.xata.model import Branch, Cluster, ScaleToZero
from local.xata.operations import Call
from local.xata.refusals import ApiError

_MIN_RETENTION_DAYS: Final = 2
_MAX_RETENTION_DAYS: Final = 35
_BACKUP_TIME: Final = re.compile(r"(\*|[0-6]):(0[0-9]|1[0-9]|2[0-3]):([0-5][0-9])")
_MAX_REPLICAS: Final = 4
_MAX_STORAGE_GIB: Final = 250


def read(call: Call, state: Cloud) -> Wish:
    """The body of createBranch.

    Raises: ApiError 400, 404 for an unknown project or parent, 503 while children are switched off.
    """
    try:
        value = gojson.decode(call.raw, call.content_type)
        body = gojson.read_union(value, gojson.CREATE_BRANCH)
    except ApiError as error:
        raise gojson.wrapped(error) from None
    _check_commons(body)
    name, mode = body["name"], body.get("mode", "")
    if mode == "inherit":
        parent, cluster = _parent(call.project, name, value, state), None
        region = state.parent(call.project, parent).cluster.region
    elif mode == "custom":
        parent, cluster = None, _cluster(name, value, state)
        region = cluster.region
    else:
        raise _unparsable(name, f"unknown discriminator value: {mode}")
    _check_backups(name, body, region, state)
    scale = body.get("scaleToZero")
    return Wish(
        name=name,
        parent=parent,
        cluster=cluster,
        description=body.get("description"),
        scale_to_zero=None if scale is None else scale_to_zero(scale),
        backup=body.get("backupConfiguration"),
    )


def read_change(call: Call) -> dict[str, Any]:
    """The body of updateBranch.

    Raises: ApiError 400.
    """
    body = gojson.read_body(call.raw, call.content_type, gojson.UPDATE_BRANCH)
    if not body:
        text = f"branch [{call.branch}]: at least one of the request fields needs to be set"
        raise refusals.invalid_param("all", text, branch=call.branch)
    if body.get("replicas", 0) < 0:
        text = f"branch [{call.branch}]: cannot set number of replicas to less than 0"
        raise refusals.invalid_param("configuration", text, branch=call.branch)
    if "image" in body and {"postgresConfigurationParameters", "instanceType", "preloadLibraries"} & set(body):
        text = (
            "image cannot be updated together with postgres configuration parameters, instance type, "
            "or preload libraries"
        )
        raise refusals.invalid_param("image", text, branch=call.branch)
    _check_backup(call.branch, body.get("backupConfiguration"))
    return body


def changed(branch: Branch, body: dict[str, Any]) -> Cluster:
    """The branch's cluster after updateBranch.

    Raises: ApiError 400.
    """
    old = branch.cluster
    kind = body.get("instanceType", old.instance_type)
    if kind not in {old.instance_type, "custom"}:
        try:
            cloud.check_instance_type(kind)
        except ValueError:
            text = f"branch [{branch.id}]: unknown instance type {kind}"
            raise refusals.invalid_param("configuration", text, branch=branch.id) from None
    return dataclasses.replace(
        old,
        instance_type=old.instance_type if kind == "custom" else kind,
        image=_upgraded(branch, body.get("image")),
        replicas=body.get("replicas", old.replicas),
        storage_gib=_grown(branch, body.get("storage")),
        parameters={**old.parameters, **body.get("postgresConfigurationParameters", {})},
        preload=tuple(body.get("preloadLibraries", old.preload)),
    )


def scale_to_zero(value: dict[str, Any]) -> ScaleToZero:
    """As asked for; missing parts are Go's zero values."""
    return ScaleToZero(value.get("enabled") or False, value.get("inactivityPeriodMinutes") or 0)


def _check_commons(body: dict[str, Any]) -> None:
    if "description" in body:
        cloud.check_description(body["description"])
    if not body.get("name"):
        raise refusals.invalid_param("name", "branch name is required")
    _check_backup(body["name"], body.get("backupConfiguration"))


def _check_backup(name: str, backup: dict[str, Any] | None) -> None:
    if backup is None:
        return
    days, when = backup.get("retentionPeriod"), backup.get("backupTime")
    if days is not None and not _MIN_RETENTION_DAYS <= days <= _MAX_RETENTION_DAYS:
        text = f"must be at least {_MIN_RETENTION_DAYS} days and maximum {_MAX_RETENTION_DAYS} days"
        raise refusals.invalid_param("backup retentionPeriod", text, branch=name)
    if when is not None and not _BACKUP_TIME.fullmatch(when.strip()):
        text = f"invalid backup time format '{when}', must match format 'D:HH:MM' where D= * or 0-6, HH=00-23, MM=00-59"
        raise refusals.invalid_param("backup time", text, branch=name)


def _check_backups(name: str, body: dict[str, Any], region: str, state: Cloud) -> None:
    found = state.region(region)
    if "backupConfiguration" in body and not (found and found.backups_enabled):
        text = "backup configuration cannot be specified when backups are disabled in the selected region"
        raise refusals.invalid_param("backupConfiguration", text, branch=name)


def _parent(project_id: str, name: str, value: dict[str, Any], state: Cloud) -> str:
    # The source looks at this switch before the fields of this mode.
    if state.behaviour.child_branch_creation_disabled:
        raise refusals.unavailable()
    parent: str = _of_mode(name, value, gojson.FROM_PARENT).get("parentID", "")
    if not parent:
        raise refusals.invalid_param("parentID", "parentId is required for 'inherit' mode", branch=name)
    return state.parent(project_id, parent).id


def _cluster(name: str, value: dict[str, Any], state: Cloud) -> Cluster:
    wanted = _of_mode(name, value, gojson.FROM_CONFIGURATION).get("configuration") or {}
    if not any(part is not None and part not in ("", 0) for part in wanted.values()):
        raise refusals.invalid_param("configuration", "configuration is required for 'custom' mode", branch=name)
    replicas = wanted.get("replicas") or 0
    if replicas < 0:
        raise refusals.invalid_param("configuration", "number of replicas must be at least zero", branch=name)
    try:
        image = cloud.check_image(wanted.get("image") or "")
    except ValueError as error:
        raise refusals.invalid_param("configuration", f"invalid image: {error}", branch=name) from None
    region, kind = wanted.get("region") or "", wanted.get("instanceType") or ""
    if state.region(region) is None:
        raise refusals.invalid_param("configuration", f"invalid region: region [{region}] not found", branch=name)
    try:
        cloud.check_instance_type(kind)
    except ValueError as error:
        raise refusals.invalid_param("instanceType", str(error), branch=name) from None
    if replicas > _MAX_REPLICAS:
        # The handler lets it pass, the specification does not; the text of what stops it then is not published.
        raise refusals.invalid_param("configuration", f"at most {_MAX_REPLICAS} replicas", branch=name)
    parameters = wanted.get("postgresConfigurationParameters") or {}
    # The storage that is asked for is not used by the real one either.
    return Cluster(
        region, image, kind, replicas, parameters=parameters, preload=tuple(wanted.get("preloadLibraries") or ())
    )


def _of_mode(name: str, value: dict[str, Any], struct: gojson.Struct) -> dict[str, Any]:
    wrong = gojson.mismatch(value, struct, struct.name, "")
    if wrong is not None:
        raise _unparsable(name, wrong.text)
    return gojson.known(value, struct)


def _unparsable(name: str, why: str) -> ApiError:
    return refusals.invalid_param("body", f"failed to parse branch creation details - {why}", branch=name)


def _upgraded(branch: Branch, wanted: str | None) -> str:
    old = branch.cluster.image
    if wanted is None:
        return old
    try:
        new = cloud.check_image(wanted)
        _check_upgrade(_version(old), _version(new))
    except ValueError as error:
        raise refusals.invalid_param("image", str(error), branch=branch.id) from None
    return new


def _check_upgrade(old: tuple[int, int], new: tuple[int, int]) -> None:
    if new[0] != old[0]:
        raise ValueError(f"no major version upgrades supported: {new[0]} is different than current {old[0]}")
    if new[1] < old[1]:
        raise ValueError(f"new minor: {new[1]} is older than current  {old[1]}")


def _version(image: str) -> tuple[int, int]:
    major, _, minor = image.partition(":")[2].partition(".")
    return int(major), int(minor)


def _grown(branch: Branch, wanted: int | None) -> int:
    old = branch.cluster.storage_gib
    if wanted is None:
        return old
    if wanted < old:
        text = f"storage size cannot be decreased (current: {old}Gi, requested: {wanted}Gi)"
        raise refusals.invalid_param("configuration", text, branch=branch.id)
    if wanted > _MAX_STORAGE_GIB:
        text = f"storage size cannot exceed {_MAX_STORAGE_GIB}Gi (requested: {wanted}Gi)"
        raise refusals.invalid_param("configuration", text, branch=branch.id)
    return wanted
