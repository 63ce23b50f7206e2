"""compose.yaml: valid, closed to the outside, and in step with the settings of the processes that it starts."""

import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from pydantic import AliasChoices

from cli.settings import OperatorSettings
from consumer.settings import ConsumerSettings
from ingress.settings import IngressSettings
from lookup.settings import LookupSettings
from shared.durations import parse_duration
from shared.settings import Settings
from shared.topology import EFFECTS

ROOT: Final = Path(__file__).parents[2]
COMPOSE: Final = ROOT / "compose.yaml"
TEXT: Final = COMPOSE.read_text()
SERVICES: Final[dict[str, dict[str, Any]]] = yaml.safe_load(TEXT)["services"]

SETTINGS: Final[dict[str, type[Settings]]] = {
    "ingress": IngressSettings,
    **dict.fromkeys(EFFECTS, ConsumerSettings),
    "lookup": LookupSettings,
    "setup": OperatorSettings,
    "cli": OperatorSettings,
}
ON_THE_BROKER: Final = ("ingress", *EFFECTS)
PROCESSES: Final = (*ON_THE_BROKER, "lookup")
SERVERS: Final = ("rabbitmq", "postgres")
TUNNELS: Final = ("ngrok", "cloudflared", "cloudflared-quick", "hookdeck")

# Settings that are not passed on, and why.
LEFT_OUT: Final = {
    "ingress": {"COUNTRY_DATABASE"},  # a file, which would have to be mounted first
    "sync_user": {
        *("DATABASE_PROVIDER", "PROVIDER_POSTGRES_URL", "PROVIDER_POSTGRES_REGION", "DELETION_HOLDBACK"),
        *(name for name in map(str.upper, ConsumerSettings.model_fields) if name.startswith("XATA_")),
    },
    "provision_database": set[str](),
    "lookup": set[str](),
}


def names_of(settings: type[Settings]) -> set[str]:
    names = set()
    for name, field in settings.model_fields.items():
        names.add(name.upper())
        if isinstance(field.validation_alias, AliasChoices):
            names |= {str(choice).upper() for choice in field.validation_alias.choices}
    return names


def environment_of(service: str) -> dict[str, str | None]:
    environment: dict[str, str | None] = SERVICES[service]["environment"]
    return environment


def filled_in(value: str) -> str:
    """As Compose would put it with an .env as deploy/secrets.sh makes it."""
    return re.sub(r"\$\{\w+[^}]*\}", "5ec2e7" * 8, value)


def test_it_keeps_to_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_it_starts_the_servers_the_processes_and_on_request_a_tunnel() -> None:
    profiles = {name: tuple(service.get("profiles", ())) for name, service in SERVICES.items()}
    assert profiles == {
        **dict.fromkeys((*SERVERS, "setup", *PROCESSES), ()),
        "cli": ("cli",),
        **{tunnel: (tunnel,) for tunnel in TUNNELS},
    }


@pytest.mark.parametrize("service", SETTINGS)
def test_every_variable_that_is_passed_is_a_setting(service: str) -> None:
    # An operator's command puts the provider together as the consumer does.
    also = names_of(ConsumerSettings) if service == "cli" else set()
    assert set(environment_of(service)) - names_of(SETTINGS[service]) - also == set()


@pytest.mark.parametrize("service", PROCESSES)
def test_every_setting_is_passed_or_left_out_on_purpose(service: str) -> None:
    names = {name.upper() for name in SETTINGS[service].model_fields}
    assert names - set(environment_of(service)) == LEFT_OUT[service]


@pytest.mark.parametrize("service", SETTINGS)
def test_a_process_accepts_the_settings_that_it_is_given(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in names_of(SETTINGS[service]):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment_of(service).items():
        if value is not None:
            monkeypatch.setenv(name, filled_in(value))
    monkeypatch.setenv("CLERK_WEBHOOK_SIGNING_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert isinstance(SETTINGS[service].read(), SETTINGS[service])


def test_everything_published_is_published_on_loopback_only() -> None:
    published = {name: port for name, service in SERVICES.items() for port in service.get("ports", ())}
    assert set(published) == {"ingress", "lookup", *SERVERS, "ngrok"}
    for port in published.values():
        assert re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z_]+:-\d+\}:\d+", port)


def test_the_internal_ports_and_the_broker_s_are_not_published() -> None:
    inside = {port.rsplit(":", 1)[1] for service in SERVICES.values() for port in service.get("ports", ())}
    assert inside == {"8080", "8090", "15672", "5432", "4040"}


@pytest.mark.parametrize("effect", EFFECTS)
def test_a_consumer_can_be_scaled(effect: str) -> None:
    assert not SERVICES[effect].keys() & {"container_name", "hostname", "ports"}


def test_a_tunnel_reaches_the_ingress_and_nothing_behind_it() -> None:
    for tunnel in TUNNELS:
        assert SERVICES[tunnel]["networks"] == ["edge"]
        assert set(SERVICES[tunnel]["depends_on"]) == {"ingress"}
    on_the_edge = {name for name, service in SERVICES.items() if "edge" in service["networks"]}
    assert on_the_edge == {"ingress", "cli", *TUNNELS}
    assert "data" not in SERVICES["ingress"]["networks"]


def test_a_tunnel_leads_to_the_port_of_the_ingress() -> None:
    port = environment_of("ingress")["INGRESS_PORT"]
    for tunnel in set(TUNNELS) - {"cloudflared"}:  # that one's way stands in Cloudflare's dashboard
        assert f"http://ingress:{port}" in " ".join(SERVICES[tunnel]["command"])


def test_processes_wait_for_the_setup_and_the_setup_for_the_servers() -> None:
    healthy, completed = {"condition": "service_healthy"}, {"condition": "service_completed_successfully"}
    assert SERVICES["setup"]["depends_on"] == dict.fromkeys(SERVERS, healthy)
    for name in PROCESSES:
        assert SERVICES[name]["depends_on"] == {"setup": completed}


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_is_healthy_when_it_is_ready(name: str) -> None:
    command = SERVICES[name]["healthcheck"]["test"]
    prefix = name.upper() if name not in EFFECTS else "CONSUMER"
    port = environment_of(name)[f"{prefix}_INTERNAL_PORT"]
    assert command[:3] == ["CMD", "python", "-c"]
    assert f"'http://127.0.0.1:{port}/readyz'" in command[3]
    # Podman cuts arguments at blanks.
    assert not any(" " in argument for argument in command)
    compile(command[3], "healthcheck", "eval")


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_is_given_longer_to_stop_than_it_takes(name: str) -> None:
    grace = parse_duration(SERVICES[name]["stop_grace_period"])
    assert grace >= parse_duration(str(environment_of(name)["STOP_TIMEOUT"])) + timedelta(seconds=10)


def test_everything_starts_again_by_itself_and_is_bounded_in_memory() -> None:
    for name, service in SERVICES.items():
        expected = {"setup": "on-failure:5", "cli": "no"}.get(name, "unless-stopped")
        assert service["restart"] == expected
        assert re.fullmatch(r"\d+[mg]", service["mem_limit"])


def test_usher_s_containers_can_write_nowhere_and_gain_no_rights() -> None:
    for name in SETTINGS:
        service = SERVICES[name]
        assert (service["image"], service["build"]) == ("usher:local", ".")
        assert (service["read_only"], service["tmpfs"], service["cap_drop"]) == (True, ["/tmp"], ["ALL"])  # noqa: S108 - inside the container
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "user" not in service  # the image's own, which is not root


def test_servers_are_pinned_and_only_clients_of_changing_services_follow_latest() -> None:
    tags = {name: service["image"].rpartition(":")[2] for name, service in SERVICES.items()}
    assert re.fullmatch(r"4\.\d+-management", tags["rabbitmq"])
    assert tags["postgres"] == "17"
    assert {name for name, tag in tags.items() if tag == "latest"} == {"cloudflared", "cloudflared-quick", "hookdeck"}


def test_the_data_of_the_servers_outlive_their_containers() -> None:
    volumes = yaml.safe_load(TEXT)["volumes"]
    for name in SERVERS:
        assert name in volumes
        assert SERVICES[name]["volumes"][0].startswith(f"{name}:/var/lib/")
        for mounted in SERVICES[name]["volumes"][1:]:
            assert (ROOT / mounted.split(":")[0]).is_file()
    assert SERVICES["rabbitmq"]["hostname"]  # the node's data belong to it


def test_no_password_stands_in_the_file() -> None:
    for service in SERVICES.values():
        for name, value in (service.get("environment") or {}).items():
            if value is not None and ("PASSWORD" in name or "@" in value):
                assert re.search(r"(^|:)\$\{[A-Z_]+_PASSWORD:\?[^}]+\}(@|$)", value), name
    assert "guest" not in TEXT


def test_a_profile_s_variable_is_not_asked_of_those_without_the_profile() -> None:
    for tunnel in TUNNELS:
        assert ":?" not in yaml.safe_dump(SERVICES[tunnel])


def test_each_process_logs_in_to_the_broker_as_itself() -> None:
    conf = (ROOT / "deploy/rabbitmq/usher.conf").read_text()
    for name in ON_THE_BROKER:
        assert str(environment_of(name)["AMQP_URL"]).startswith(f"amqp://{name}:${{RABBITMQ_{name.upper()}_PASSWORD:?")
        assert f"default_users.{name}.password = $(RABBITMQ_{name.upper()}_PASSWORD)\n" in conf


def test_a_server_is_given_every_variable_that_its_files_read() -> None:
    conf = (ROOT / "deploy/rabbitmq/usher.conf").read_text()
    assert set(re.findall(r"\$\((\w+)\)", conf)) == set(environment_of("rabbitmq"))
    sql = (ROOT / "deploy/postgres/10-roles.sql").read_text()
    assert set(re.findall(r"\\getenv \w+ (\w+)", sql)) <= set(environment_of("postgres"))


def test_the_lookup_is_in_no_network_of_the_broker_or_the_tunnels() -> None:
    assert SERVICES["lookup"]["networks"] == ["data"]
    assert "AMQP_URL" not in environment_of("lookup")
