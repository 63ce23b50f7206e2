"""The contract that the stand-in holds itself and its callers to: its schemas, and the checker that applies them."""

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.xata import XataStandIn, ids, schemas
from local.xata.check import problems
from local.xata.operations import Operation
from tests.local.xata.wishes import CONFIGURATION, custom, inherit

PARENT = "b" * 26
SCHEMAS = {
    **{f"answer of {name}": schema for name, schema in schemas.ANSWERS.items()},
    **{f"request of {name}": schema for name, schema in schemas.REQUESTS.items()},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 300) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
RIGHT: list[dict[str, Any]] = [
    custom("a"),
    custom("a", description="user 1-2", scaleToZero={"enabled": True, "inactivityPeriodMinutes": 15}),
    inherit("a", PARENT, backupConfiguration={"retentionPeriod": 7, "backupTime": "*:02:30"}),
    custom("a") | {"configuration": {**CONFIGURATION, "storage": 20, "preloadLibraries": ["pg_cron"]}},
]


def _operations(stand_in: XataStandIn) -> list[Operation]:
    return stand_in._front._operations


async def test_every_operation_with_a_body_has_its_schema(stand_in: XataStandIn) -> None:
    operations = _operations(stand_in)

    taking = {operation.name for operation in operations if operation.method in {"POST", "PATCH"}}
    answering = {operation.name for operation in operations if operation.method != "DELETE"}
    assert taking == set(schemas.REQUESTS)
    assert answering - {"rotateBranchCredentials"} == set(schemas.ANSWERS)


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schemas_are_schemas(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])


@pytest.mark.parametrize("body", RIGHT)
def test_a_right_request_fits(body: dict[str, Any]) -> None:
    assert problems(body, schemas.REQUESTS["createBranch"]) == []


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"name": "a", "configuration": CONFIGURATION}, "$.mode is missing"),
        (custom("a", colour="blue"), "$.colour is unknown"),
        (custom("a", description="user_1"), "$.description does not match ^[a-zA-Z0-9]+[a-zA-Z0-9- ]*$"),
        (custom("a", description="x\n"), "$.description does not match ^[a-zA-Z0-9]+[a-zA-Z0-9- ]*$"),
        (custom("a", description="x" * 51), "$.description has 51 characters"),
        (custom("a", scaleToZero={"enabled": True}), "$.scaleToZero.inactivityPeriodMinutes is missing"),
        (custom("a", parentID=PARENT), "$.parentID is unknown"),
        (inherit("a", "short"), "$.parentID does not match ^[a-v][0-9a-v]{25}$"),
        (
            custom("a") | {"configuration": {**CONFIGURATION, "replicas": 5}},
            "$.configuration.replicas is out of range",
        ),
        (
            custom("a") | {"configuration": {**CONFIGURATION, "replicas": True}},
            "$.configuration.replicas is no integer",
        ),
        ([], "$ is no object"),
    ],
)
def test_a_wrong_request_is_told_apart(body: Any, problem: str) -> None:
    assert problem in problems(body, schemas.REQUESTS["createBranch"])


@given(value=JSON, name=st.sampled_from(sorted(SCHEMAS)))
def test_the_checker_agrees_with_the_library_on_anything(value: Any, name: str) -> None:
    _agree(value, SCHEMAS[name])


@given(body=st.sampled_from(RIGHT), field=st.sampled_from(["name", "mode", "configuration", "x"]), value=JSON)
def test_the_checker_agrees_with_the_library_on_nearly_right_requests(
    body: dict[str, Any], field: str, value: Any
) -> None:
    _agree({**body, field: value}, schemas.REQUESTS["createBranch"])


def _agree(value: Any, schema: dict[str, Any]) -> None:
    library = jsonschema.Draft202012Validator(schema).is_valid(value)
    assert (problems(value, schema) == []) is library


def test_ids_have_the_real_formats() -> None:
    for _ in range(200):
        assert problems(ids.branch_id(), schemas._BRANCH_ID) == []
        assert problems(ids.project_id(), schemas._PROJECT_ID) == []
        assert problems(ids.organization_id(), schemas._ORGANIZATION_ID) == []


def test_keys_have_the_real_format() -> None:
    for _ in range(200):
        key = ids.user_key()
        assert key.startswith("xau_")
        assert key[4:].isalnum()
        assert len(key) <= 40
