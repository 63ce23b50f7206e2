"""docs/asyncapi.yaml and the code say the same: nothing is only in the one or only in the other."""

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from cli import audit, dead_letters
from consumer.outcome import DeadLetter, Retry, decide
from consumer.settle import Settler
from shared import errors, events, messages, topology
from shared.errors import DecodeError
from shared.events import DatabaseData, DatabaseEvent, Event, UserData, UserEvent, decode, encode
from shared.messages import event_message
from tests.support.events import MOMENT, user_event

ROOT: Final = Path(__file__).parents[2]
DOCUMENT: Final[dict[str, Any]] = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text())
CHANNELS: Final[dict[str, dict[str, Any]]] = DOCUMENT["channels"]
OPERATIONS: Final[dict[str, dict[str, Any]]] = DOCUMENT["operations"]
MESSAGES: Final[dict[str, dict[str, Any]]] = DOCUMENT["components"]["messages"]
SCHEMA_OF: Final = {
    "user.created": "UserCreated",
    "user.updated": "UserUpdated",
    "user.deleted": "UserDeleted",
    "database.ready": "DatabaseReady",
}

# Texts of an event have no NUL and no lone surrogate: the ingress takes them out, `decode` refuses them.
_TEXTS: Final = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
_SOME: Final = _TEXTS.filter(bool)
_NUMBERS: Final = st.integers(-(2**63), 2**63 - 1)
_TIMES: Final = st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants naive bounds
_ENVELOPE: Final = {"id": _SOME, "source": _SOME, "subject": _SOME, "time": _TIMES, "traceparent": st.none() | _TEXTS}
_OPTIONAL: Final = {
    name: st.none() | _TEXTS for name in {each.name for each in fields(UserData)} - {"version", "created_at"}
}
_USER: Final = _OPTIONAL | {"version": _NUMBERS, "created_at": st.none() | _NUMBERS}
_LIVE: Final = st.builds(
    UserEvent,
    type=st.sampled_from(["user.created", "user.updated"]),
    data=st.builds(UserData, **_USER),
    **_ENVELOPE,
)
_DELETED: Final = st.builds(
    UserEvent,
    type=st.just("user.deleted"),
    data=st.builds(UserData, **(_USER | {"version": st.none() | _NUMBERS})),
    **_ENVELOPE,
)
_READY: Final = st.builds(
    DatabaseEvent,
    type=st.just("database.ready"),
    data=st.builds(
        DatabaseData,
        provider=_SOME,
        name=_SOME,
        region=st.none() | _TEXTS,
        host=st.none() | _TEXTS,
        schema_version=_NUMBERS,
    ),
    **_ENVELOPE,
)
_JSON: Final = st.recursive(
    # 1.0 is an integer to JSON Schema and none to `decode`: the one place where the two differ.
    st.none() | st.booleans() | st.integers() | st.floats().filter(lambda number: number % 1 != 0) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def validator(schema: str) -> Draft7Validator:
    """The schema named so among the components; AsyncAPI's default dialect is draft 7."""
    return Draft7Validator({"components": DOCUMENT["components"], "$ref": f"#/components/schemas/{schema}"})


def accepts(schema: str, value: object) -> bool:
    return validator(schema).is_valid(value)


def name_of(reference: Mapping[str, str]) -> str:
    return reference["$ref"].rsplit("/", 1)[1]


def amqp(channel: Mapping[str, Any]) -> dict[str, Any]:
    binding: dict[str, Any] = channel["bindings"]["amqp"]
    return binding


def queue_channels() -> dict[str, dict[str, Any]]:
    return {name: channel for name, channel in CHANNELS.items() if amqp(channel)["is"] == "queue"}


def types_in(channel: str) -> set[str]:
    return {MESSAGES[name_of(reference)]["name"] for reference in CHANNELS[channel]["messages"].values()}


def operations(action: str) -> Iterator[tuple[str, set[str]]]:
    """Every operation of that kind: its channel, and the types of its messages."""
    for operation in OPERATIONS.values():
        if operation["action"] == action:
            yield (
                name_of(operation["channel"]),
                {MESSAGES[name_of(message)]["name"] for message in operation["messages"]},
            )


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    if isinstance(value, list):
        for inner in value:
            yield from references(inner)


# What is on the broker


def test_the_exchanges_are_those_of_the_topology() -> None:
    written = {
        binding["exchange"]["name"]: (binding["exchange"]["type"], binding["x-arguments"])
        for binding in map(amqp, CHANNELS.values())
        if binding["is"] == "routingKey"
    }
    assert written == {each.name: (each.kind, each.arguments) for each in topology.topology().exchanges}


def test_the_queues_are_those_of_the_topology_with_all_their_arguments() -> None:
    written = {binding["queue"]["name"]: binding["x-arguments"] for binding in map(amqp, queue_channels().values())}
    assert written == {queue.name: queue.arguments for queue in topology.topology().queues}


def test_the_bindings_are_those_of_the_topology() -> None:
    written = {
        binding["queue"]["name"]: tuple((each["exchange"], each["routingKey"]) for each in binding["x-bindings"])
        for binding in map(amqp, queue_channels().values())
    }
    assert written == {queue.name: queue.bindings for queue in topology.topology().queues}


def test_everything_declared_survives_a_restart_of_the_broker() -> None:
    for name, channel in CHANNELS.items():
        binding = amqp(channel)
        declared = binding.get("queue") or binding["exchange"]
        assert (declared["durable"], declared["autoDelete"], declared.get("exclusive", False)) == (True, False, False)
        assert binding["is"] != "queue" or channel["address"] == declared["name"] == name


def test_a_queue_holds_the_types_that_it_is_bound_to() -> None:
    for effect, types in topology.EFFECTS.items():
        for queue in topology.effect_queues(effect, types):
            assert types_in(queue.name) == set(types)
    records = {audit.OPERATOR_ACTED}
    assert types_in(topology.LOG_QUEUE) == {*events.USER_EVENT_TYPES, *events.DATABASE_EVENT_TYPES, *records}


def test_the_exchange_takes_every_type_there_is() -> None:
    every = [*events.USER_EVENT_TYPES, *events.DATABASE_EVENT_TYPES]
    assert CHANNELS[topology.EVENTS_EXCHANGE]["parameters"]["type"]["enum"] == every
    assert types_in(topology.EVENTS_EXCHANGE) == set(every) == set(SCHEMA_OF)


# Who sends and receives


def test_every_effect_receives_its_queue_and_sends_to_its_ladder_and_its_dead_letters() -> None:
    sent, received = dict(operations("send")), dict(operations("receive"))
    for effect, types in topology.EFFECTS.items():
        work, *others = topology.effect_queues(effect, types)
        assert received[work.name] == set(types)
        for queue in others:
            assert sent[queue.name] == set(types)


def test_only_the_ingress_and_the_provisioner_send_to_the_exchange() -> None:
    senders = {
        name
        for name, operation in OPERATIONS.items()
        if operation["action"] == "send" and name_of(operation["channel"]) == topology.EVENTS_EXCHANGE
    }
    assert senders == {"ingress.publish", "provision_database.announce"}


def test_an_operation_names_only_messages_of_its_channel() -> None:
    for operation in OPERATIONS.values():
        channel = name_of(operation["channel"])
        named = {message["$ref"] for message in operation["messages"]}
        assert named <= {f"#/channels/{channel}/messages/{name}" for name in CHANNELS[channel]["messages"]}


def test_every_reference_leads_somewhere() -> None:
    for reference in references(DOCUMENT):
        place: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


def test_the_version_is_the_package_s() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert DOCUMENT["info"]["version"] == project["version"]


# The events


@given(_LIVE | _DELETED | _READY)
def test_what_is_written_fits_its_schema(event: Event) -> None:
    validator(SCHEMA_OF[event.type]).validate(json.loads(encode(event)))


@given(_LIVE | _DELETED | _READY, st.data())
def test_what_fits_a_schema_can_be_read(event: Event, data: st.DataObject) -> None:
    attributes = json.loads(encode(event))
    place = data.draw(st.sampled_from([attributes, attributes["data"]]))
    name = data.draw(st.sampled_from(sorted(place)))
    place[name] = data.draw(_JSON)
    if any(accepts(schema, attributes) for schema in SCHEMA_OF.values()):
        assert isinstance(decode(json.dumps(attributes).encode()), UserEvent | DatabaseEvent)


def _examples() -> list[Event]:
    ready = DatabaseData(provider="postgres", name="user_2abc")
    return [
        user_event("user.created"),
        user_event("user.updated"),
        user_event("user.deleted"),
        DatabaseEvent("id", "usher/postgres", "database.ready", "user_2abc", MOMENT, ready),
    ]


def _required(event: Event) -> list[tuple[str, ...]]:
    names: list[tuple[str, ...]] = [
        (name,) for name in ("specversion", "id", "source", "type", "subject", "time", "data")
    ]
    match event.type:
        case "user.created" | "user.updated":
            return [*names, ("data", "version")]
        case "database.ready":
            return [*names, ("data", "provider"), ("data", "name")]
    return names


_MISSING: Final = object()
_CASES: Final = [
    pytest.param(
        event, path, value, id=f"{event.type}-{'.'.join(path)}-{value if value is not _MISSING else 'missing'}"
    )
    for event in _examples()
    for path in _required(event)
    for value in (_MISSING, None, True, 1.5, [], "" if path[-1] != "version" else "1")
]


@pytest.mark.parametrize(("event", "path", "value"), _CASES)
def test_what_cannot_be_read_for_a_required_attribute_fits_no_schema(
    event: Event,
    path: tuple[str, ...],
    value: object,
) -> None:
    attributes = json.loads(encode(event))
    place = attributes if len(path) == 1 else attributes[path[0]]
    place[path[-1]] = value
    if value is _MISSING:
        del place[path[-1]]
    with pytest.raises(DecodeError):
        decode(json.dumps(attributes).encode())
    assert not any(accepts(schema, attributes) for schema in SCHEMA_OF.values())


@pytest.mark.parametrize("value", [2**63, 1.5, "1", True])
def test_a_number_that_cannot_be_stored_fits_no_schema(value: object) -> None:
    attributes = json.loads(encode(user_event()))
    attributes["data"]["created_at"] = value
    assert not accepts("UserCreated", attributes)


def test_a_text_that_cannot_be_stored_fits_no_schema() -> None:
    for event in _examples():
        written = json.loads(encode(event))
        for name in ("id", "source", "subject", "traceparent"):
            assert not accepts(SCHEMA_OF[event.type], written | {name: "a\x00b"}), name
        for name in set(written["data"]) - {"version", "created_at", "schema_version"}:
            data = written["data"] | {name: "a\x00b"}
            assert not accepts(SCHEMA_OF[event.type], written | {"data": data}), name


def test_an_event_fits_the_schema_of_its_own_type_only() -> None:
    for event in _examples():
        fitting = [kind for kind, schema in SCHEMA_OF.items() if accepts(schema, json.loads(encode(event)))]
        assert fitting == [event.type]


def test_every_field_of_an_event_is_described_and_no_other() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    envelope = json.loads(encode(UserEvent("i", "s", "user.deleted", "u", MOMENT, UserData(), traceparent="t")))
    assert set(schemas["CloudEvent"]["properties"]) == set(envelope)
    assert set(schemas["UserData"]["properties"]) == {each.name for each in fields(UserData)}
    assert set(schemas["DatabaseData"]["properties"]) == {each.name for each in fields(DatabaseData)}


@pytest.mark.parametrize("name", SCHEMA_OF.values())
def test_an_example_is_a_message_as_it_is_written(name: str) -> None:
    (example,) = MESSAGES[name]["examples"]
    event = decode(json.dumps(example["payload"]).encode())
    assert json.loads(encode(event)) == example["payload"]
    assert accepts(name, example["payload"])
    assert example["headers"] == event_message(event).headers
    assert MESSAGES[name]["name"] == event.type


@pytest.mark.parametrize("phase", ["begun", "ended"])
def test_a_record_of_what_an_operator_did_fits_its_schema(phase: str) -> None:
    act = audit.Act("replay", {"since": "2h"}, {"replayed": 1}, ["msg_1"])

    validator("OperatorActed").validate(json.loads(audit.record_message("act_1", act.facts(phase)).body))


# Properties and headers


def test_the_properties_of_a_message_are_described_and_no_other() -> None:
    schema = DOCUMENT["components"]["schemas"]["EventProperties"]
    for event in _examples():
        # pamqp's name for `type`; what is empty (priority 0, no cluster id) says nothing.
        written: dict[str, Any] = {
            name.removeprefix("message_") if name == "message_type" else name: value
            for name, value in event_message(event).properties
            if value and name != "headers"
        }
        written["timestamp"] = int(written["timestamp"].timestamp())  # the wire has whole seconds
        # The ingress's own number: tests/ingress/amqp/test_message.py.
        assert set(written) == set(schema["properties"]) - {"correlation_id"} == set(schema["required"])
        validator("EventProperties").validate(written)


def test_every_header_is_described_and_no_other() -> None:
    ours = {value for name, value in vars(messages).items() if name.isupper() and isinstance(value, str)}
    ours -= {messages.APP_ID, events.CONTENT_TYPE}
    operators = {dead_letters.REDRIVEN_AT, dead_letters.REDRIVES}
    assert set(DOCUMENT["components"]["schemas"]["EventHeaders"]["properties"]) == ours | operators


def test_a_first_copy_has_the_headers_of_its_message() -> None:
    headers = event_message(user_event()).headers
    assert accepts("EventHeaders", headers)
    assert not accepts("FailedHeaders", headers)
    assert not accepts("EventHeaders", headers | {"attempt": 0})


@dataclass(frozen=True, slots=True)
class Delivered:
    """A delivery that is not on a broker."""

    headers: Mapping[str, Any] = field(default_factory=lambda: {"attempt": 1})
    attempt: int = 1

    async def ack(self) -> None: ...
    async def give_back(self) -> None: ...


_OUTCOMES: Final = [
    decide(error, attempt)
    for attempt in (1, 100)
    for error in (
        errors.NotYet("x", 5),
        errors.DependencyDown("x"),
        errors.ThrottledError("x", 5),
        errors.TransientError("x"),
        errors.ConsumerCrashed("x"),
        errors.PermanentError("x"),
        errors.DecodeError("x"),
        RuntimeError("x"),
    )
]


@pytest.mark.parametrize("effect", topology.EFFECTS)
async def test_a_copy_that_failed_has_the_headers_of_its_message(effect: str) -> None:
    copies: list[dict[str, Any]] = []

    async def copy(delivery: Delivered, _queue: str, headers: Mapping[str, Any]) -> None:
        copies.append({**delivery.headers, **headers})

    settler: Settler[Delivered] = Settler(topology.queue_of(effect), copy)
    for outcome in _OUTCOMES:
        await settler.settle(Delivered(), outcome)
    assert len(copies) == len(_OUTCOMES)
    for headers in copies:
        validator("FailedHeaders").validate(headers)
        assert not accepts("FailedHeaders", headers | {"queue": "usher.log"})


def test_the_reasons_are_those_that_are_given() -> None:
    given_reasons = {outcome.reason for outcome in _OUTCOMES if isinstance(outcome, Retry | DeadLetter)}
    assert set(DOCUMENT["components"]["schemas"]["Reason"]["enum"]) == given_reasons
