"""docs/openapi.yaml and the code say the same: nothing is only in the one or only in the other."""

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator

from consumer.settings import ProviderName
from lookup import answer, endpoint
from lookup.answer import Answer, Reason
from lookup.endpoint import Endpoint, Tokens, public_app
from lookup.metrics import LookupMetrics
from lookup.settings import LookupSettings
from lookup.watch import Watch
from tests.lookup.contract import DOCUMENT, OPERATION, RESPONSES, ROOT, SCHEMAS, resolved

NEVER: Any = None


def walk(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner)


def test_it_has_the_paths_and_methods_of_the_application_and_no_other() -> None:
    app = public_app(Endpoint(Tokens.of([]), Watch(NEVER), LookupMetrics(NEVER)))
    served = {(route.resource.canonical, route.method) for route in app.router.routes() if route.resource}
    documented = {(path, method.upper()) for path, item in DOCUMENT["paths"].items() for method in item}
    assert documented == served


def test_every_schema_is_json_schema_and_every_reference_leads_somewhere() -> None:
    for schema in SCHEMAS.values():
        Draft202012Validator.check_schema(schema)
    for value in walk(DOCUMENT):
        if "$ref" in value:
            assert resolved(value)


def test_no_answer_may_have_what_is_not_written_down() -> None:
    assert all(schema["additionalProperties"] is False for schema in SCHEMAS.values() if schema["type"] == "object")


def test_every_code_is_one_that_is_given() -> None:
    fixed = {said.code for said in vars(answer).values() if isinstance(said, Answer)}
    of_http = {status.name.lower() for status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)}
    assert set(SCHEMAS["Problem"]["properties"]["code"]["enum"]) == fixed | of_http


def test_every_problem_with_a_fixed_status_is_documented() -> None:
    fixed = {str(int(said.status)) for said in vars(answer).values() if isinstance(said, Answer)}
    assert fixed | {"200", "202", "405", "410"} == set(RESPONSES)


def test_the_reasons_are_those_of_the_code() -> None:
    assert set(SCHEMAS["OnItsWay"]["properties"]["reason"]["enum"]) == {*get_args(Reason), None}


def test_every_provider_can_be_told() -> None:
    assert set(get_args(ProviderName)) <= set(SCHEMAS["Location"]["properties"]["provider"]["enum"])


def test_the_bounds_of_the_parameters_are_those_of_the_code() -> None:
    user_id, wait = OPERATION["parameters"]
    assert (user_id["name"], user_id["schema"]["maxLength"]) == ("user_id", endpoint.MAX_ID_CHARACTERS)
    assert (wait["name"], wait["schema"]["maximum"]) == ("wait", endpoint.MAX_WAIT_S)


def test_the_figures_in_its_prose_are_those_of_the_code() -> None:
    retry = DOCUMENT["components"]["headers"]["RetryAfter"]["schema"]
    assert (retry["minimum"], retry["maximum"]) == (answer.RETRY_FIRST_S, answer.RETRY_SLOW_S)
    assert "1 to 60 seconds; at least\n30 for" in RESPONSES["202"]["description"]
    assert (answer.RETRY_TROUBLE_S, answer.SLOW_AFTER_S) == (30, 60)


def test_its_server_is_where_the_lookup_listens_by_default() -> None:
    fields = LookupSettings.model_fields
    (server,) = DOCUMENT["servers"]
    assert server["url"] == f"http://{fields['lookup_host'].default}:{fields['lookup_port'].default}"


def test_it_wants_the_token_that_the_code_wants() -> None:
    assert DOCUMENT["security"] == [{"token": []}]
    scheme = DOCUMENT["components"]["securitySchemes"]["token"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    assert Tokens.of(["a-token"]).allow(["Bearer a-token"])


@pytest.mark.parametrize("status", RESPONSES)
def test_no_status_stands_there_without_a_test_that_meets_it(status: str) -> None:
    # asker.py holds every answer to the document; here it is seen to that each is met.
    tests = "".join(path.read_text() for path in (ROOT / "tests" / "lookup").glob("test_[ae]*.py"))
    assert re.search(rf"\b{status}\b", tests)


def test_every_answer_is_forbidden_to_be_cached() -> None:
    assert all("Cache-Control" in response["headers"] for response in RESPONSES.values())
