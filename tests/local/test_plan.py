"""What a run will look like: ports, secrets, environments."""

import base64
import socket
from pathlib import Path

from local.plan import Wishes, make_plan
from local.ports import free_port

FOLDER = Path("/nowhere/.usher")


def _wishes(**ports: int) -> Wishes:
    return Wishes(
        folder=FOLDER,
        ingress_port=free_port(),
        amqp_port=ports.get("amqp_port") or free_port(),
        management_port=free_port(),
        postgres_port=ports.get("postgres_port") or free_port(),
        lookup_port=free_port(),
    )


def test_a_taken_port_is_replaced_and_said_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]

        plan = make_plan(_wishes(amqp_port=taken), {}, {})

    assert plan.amqp_port != taken
    assert plan.notes == (f"port {taken} is taken: RabbitMQ listens on {plan.amqp_port}",)


def test_ports_and_secrets_of_the_last_run_are_kept() -> None:
    first = make_plan(_wishes(), {}, {})

    second = make_plan(Wishes(folder=FOLDER), first.written, {})

    assert second.written == first.written
    assert second.notes == ()


def test_internal_ports_are_kept_too_copy_by_copy_and_a_taken_one_is_replaced_without_a_word() -> None:
    copies = {"sync_user": 2, "provision_database": 1}
    first = make_plan(Wishes(folder=FOLDER, copies=copies), {}, {})
    ports = [child.internal_port for child in first.children]
    with socket.create_server(("127.0.0.1", ports[1])):
        second = make_plan(Wishes(folder=FOLDER, copies=copies), first.written, {})

    again = [child.internal_port for child in second.children]
    assert [*again[:1], *again[2:]] == [*ports[:1], *ports[2:]]
    assert again[1] not in ports
    assert "SYNC_USER" not in str(second.notes)


def test_two_servers_that_are_given_one_port_get_two() -> None:
    port = free_port()

    plan = make_plan(_wishes(amqp_port=port, postgres_port=port), {}, {})

    assert plan.amqp_port == port
    assert plan.postgres_port != port


def test_the_callers_servers_are_never_used() -> None:
    given = {"AMQP_URL": "amqp://production/", "DATABASE_URL": "postgresql://production/x", "PATH": "/bin"}

    plan = make_plan(_wishes(), {}, given)

    assert "production" not in str(plan)
    assert plan.environment["PATH"] == "/bin"
    assert plan.environment["AMQP_URL"].endswith(f"@127.0.0.1:{plan.amqp_port}/")


def test_settings_and_secrets_of_the_caller_win() -> None:
    given = {"DELETION_HOLDBACK": "0", "CLERK_WEBHOOK_SECRET": "whsec_mine", "LOG_LEVEL": "debug"}

    plan = make_plan(_wishes(), {"CLERK_WEBHOOK_SIGNING_SECRET": "whsec_kept"}, given)

    assert plan.environment["DELETION_HOLDBACK"] == "0"
    assert plan.environment["LOG_LEVEL"] == "debug"
    assert plan.written["CLERK_WEBHOOK_SIGNING_SECRET"] == "whsec_mine"


def test_the_generated_clerk_secret_has_the_shape_of_a_real_one() -> None:
    secret = make_plan(_wishes(), {}, {}).written["CLERK_WEBHOOK_SIGNING_SECRET"]

    assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 24


def test_every_copy_of_a_consumer_has_a_name_and_a_port_of_its_own() -> None:
    wishes = Wishes(folder=FOLDER, copies={"sync_user": 2, "provision_database": 1})

    plan = make_plan(wishes, {}, {})

    names = ["ingress", "sync_user", "sync_user-2", "provision_database", "lookup"]
    assert [child.name for child in plan.children] == names
    assert len({child.internal_port for child in plan.children}) == 5
    assert plan.written["SYNC_USER_INTERNAL_URL"].count("http://") == 2


def test_the_lookup_s_token_is_generated_once_and_long_enough_and_the_callers_wins() -> None:
    first = make_plan(_wishes(), {}, {})
    kept = make_plan(_wishes(), first.written, {})
    given = make_plan(_wishes(), first.written, {"LOOKUP_TOKEN": "a-token-of-the-caller"})

    assert len(first.written["LOOKUP_TOKEN"]) == 48
    assert kept.environment["LOOKUP_TOKEN"] == first.written["LOOKUP_TOKEN"]
    assert given.written["LOOKUP_TOKEN"] == "a-token-of-the-caller"
