"""What the API refuses, with the status and text of its source (services/projects/api/errors.go, store/errors.go).

Texts marked "inferred" are of caps that appeared in the API after its source was last published.
"""

from http import HTTPStatus


class ApiError(Exception):
    """An answer other than success; `message` is for statuses below 500, above them the API tells nothing."""

    def __init__(self, status: int, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after_s = retry_after_s


def invalid_param(param: str, message: str, *, branch: str = "", project: str = "") -> ApiError:
    prefix = f"Project [{project}]: " if project else ""
    prefix += f"Branch [{branch}]: " if branch else ""
    return ApiError(HTTPStatus.BAD_REQUEST, f"{prefix}invalid parameter [{param}]: {message}")


def bad_request(message: str) -> ApiError:
    return ApiError(HTTPStatus.BAD_REQUEST, message)


def no_token() -> ApiError:
    return ApiError(HTTPStatus.UNAUTHORIZED, "no token found")


def invalid_token() -> ApiError:
    return ApiError(HTTPStatus.UNAUTHORIZED, "invalid token")


def no_access(organization: str) -> ApiError:
    """401, not 403."""
    return ApiError(HTTPStatus.UNAUTHORIZED, f"no access to organization [{organization}]")


def access_denied() -> ApiError:
    return ApiError(HTTPStatus.FORBIDDEN, "access denied")


def organization_disabled(organization: str) -> ApiError:
    return ApiError(
        HTTPStatus.FORBIDDEN,
        f"Organization [{organization}] is disabled, please check your billing settings or contact support",
    )


def new_organization_limit(organization: str) -> ApiError:
    return ApiError(
        HTTPStatus.FORBIDDEN, f"Organization [{organization}] has reached the branch limit for new organizations"
    )


def update_forbidden(branch: str) -> ApiError:
    return ApiError(HTTPStatus.FORBIDDEN, f"Branch [{branch}] update is temporarily unavailable")


def project_not_found(project: str) -> ApiError:
    return ApiError(HTTPStatus.NOT_FOUND, f"project [{project}] not found")


def branch_not_found(branch: str) -> ApiError:
    """The store does not know it (any more)."""
    return ApiError(HTTPStatus.NOT_FOUND, f"branch [{branch}] not found")


def cluster_not_found(branch: str) -> ApiError:
    """The store knows it, its cluster is not there yet; also a missing parent and missing credentials' branch."""
    return ApiError(HTTPStatus.NOT_FOUND, f"Branch [{branch}]: not found")


def credentials_not_found(branch: str, username: str) -> ApiError:
    return ApiError(HTTPStatus.NOT_FOUND, f"Credentials for username [{username}] on branch [{branch}]: not found")


def project_exists(name: str) -> ApiError:
    return ApiError(HTTPStatus.CONFLICT, f"project [{name}] already exists")


def branch_exists(name: str) -> ApiError:
    return ApiError(HTTPStatus.CONFLICT, f"branch [{name}] already exists")


def modified_concurrently(branch: str) -> ApiError:
    return ApiError(HTTPStatus.CONFLICT, f"branch [{branch}] was modified concurrently, please retry")


def parent_unhealthy(parent: str) -> ApiError:
    return ApiError(
        HTTPStatus.PRECONDITION_FAILED,
        f"Cannot create child branch because parent branch [{parent}] is not healthy",
    )


def project_not_empty(project: str) -> ApiError:
    return bad_request(f"project {project} is not empty. Please delete its branches first.")


def too_many_branches(project: str) -> ApiError:
    return bad_request(f"project [{project}] has too many branches")


def too_deep(parent: str, max_depth: int) -> ApiError:
    return bad_request(
        f"BranchID [{parent}]: a child branch would exceed the maximum depth of the branch tree ({max_depth}). "
        "Please, remove a depth level or use a different parent"
    )


def too_many_children(parent: str, max_children: int) -> ApiError:
    return bad_request(
        f"BranchID [{parent}]: a child branch would exceed the maximum children allowed ({max_children}). "
        "Please, remove a branch or use a different parent"
    )


def organization_full(organization: str, what: str) -> ApiError:
    """Inferred: built like the project's."""
    return bad_request(f"organization [{organization}] has too many {what}")


def hourly_cap(status: int, organization: str, what: str, most: int) -> ApiError:
    """Inferred: the limit is published, the answer to exceeding it is not."""
    return ApiError(status, f"organization [{organization}] has reached its limit of {most} {what} per hour")


def unavailable() -> ApiError:
    return ApiError(HTTPStatus.SERVICE_UNAVAILABLE, "Branch creation is temporarily disabled", retry_after_s=30)


def internal() -> ApiError:
    return ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal")
