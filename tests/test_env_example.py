"""`.env.example` names every setting of every process, and no other."""

import re
from pathlib import Path

import pytest

from consumer.settings import ConsumerSettings
from ingress.settings import IngressSettings
from lookup.settings import LookupSettings
from shared.settings import Settings

TEXT = (Path(__file__).parent.parent / ".env.example").read_text()
NAMES = re.findall(r"^#?([A-Z][A-Z0-9_]*)=", TEXT, re.MULTILINE)
PROCESSES: list[type[Settings]] = [IngressSettings, ConsumerSettings, LookupSettings]


def fields(settings: type[Settings]) -> set[str]:
    return {name.upper() for name in settings.model_fields}


@pytest.mark.parametrize("settings", PROCESSES, ids=lambda settings: settings.__name__)
def test_every_setting_is_there(settings: type[Settings]) -> None:
    assert fields(settings) - set(NAMES) == set()


def test_nothing_else_is_there() -> None:
    assert set(NAMES) - set().union(*map(fields, PROCESSES)) == set()


def test_nothing_is_there_twice() -> None:
    assert len(NAMES) == len(set(NAMES))


def test_the_defaults_that_it_shows_are_those_of_the_ingress() -> None:
    shown = dict(re.findall(r"^#([A-Z][A-Z0-9_]*)=(.+)$", TEXT, re.MULTILINE))
    own = {name.lower(): value for name, value in shown.items() if name in fields(IngressSettings)}

    read = IngressSettings.read(amqp_url="amqp://x", hookdeck_webhook_secret="a secret of the relay", **own)

    defaults = {name: IngressSettings.model_fields[name].default for name in own}
    assert {name: getattr(read, name) for name in own} == defaults
