"""Settings: aliases, lists, and problems that name the variable and never the secret."""

import base64
from datetime import timedelta

import pytest

from ingress.settings import IngressSettings
from shared.errors import SettingsError

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(b"sixteen bytes...").decode()


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, field in IngressSettings.model_fields.items():
        for alias in [name, *getattr(field.validation_alias, "choices", [])]:
            monkeypatch.delenv(str(alias).upper(), raising=False)
    monkeypatch.setenv("AMQP_URL", "amqp://guest:guest@127.0.0.1/")


def problems() -> list[str]:
    with pytest.raises(SettingsError) as caught:
        IngressSettings.read()
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    "name",
    [
        "CLERK_WEBHOOK_SIGNING_SECRET",
        "CLERK_WEBHOOK_SECRET",
        "CLERK_SIGNING_SECRET",
        "WEBHOOK_SECRET",
        "SVIX_WEBHOOK_SECRET",
    ],
)
def test_the_names_that_guides_use_for_clerks_secret_are_read(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, SECRET)
    assert IngressSettings.read().svix_secrets() == [SECRET]


@pytest.mark.parametrize("name", ["HOOKDECK_WEBHOOK_SECRET", "HOOKDECK_SIGNING_SECRET", "HOOKDECK_SECRET"])
def test_the_names_that_guides_use_for_hookdecks_secret_are_read(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "a secret of the relay")
    assert IngressSettings.read().hookdeck_secrets() == ["a secret of the relay"]


@pytest.mark.parametrize(
    "text",
    [
        f"{SECRET},{OTHER}",
        f" {SECRET} , {OTHER} ,",
        f"v1,{SECRET},{OTHER}",
        f"v1,{SECRET},v1,{OTHER}",
        f"{SECRET},v1,{OTHER}",
        f"{SECRET.removeprefix('whsec_')},{OTHER.rstrip('=')}",
    ],
)
def test_several_secrets_are_read_with_and_without_their_prefixes(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("CLERK_WEBHOOK_SIGNING_SECRET", text)
    assert IngressSettings.read().svix_secrets() == [SECRET, OTHER]


def test_a_copied_prefix_gives_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLERK_WEBHOOK_SIGNING_SECRET", f"v1,{SECRET}")
    (hint,) = IngressSettings.read().hints()
    assert "'v1,'" in hint
    assert "MfKQ" not in hint


def test_a_relay_secret_alone_gives_the_hint_whose_word_the_id_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKDECK_WEBHOOK_SECRET", "a secret of the relay")
    (hint,) = IngressSettings.read().hints()
    assert "relay's word" in hint


def test_a_plain_secret_gives_no_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLERK_WEBHOOK_SIGNING_SECRET", SECRET)
    assert IngressSettings.read().hints() == []


@pytest.mark.parametrize(
    "text",
    [
        "whsec_AAAA",
        "sk_live_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_MfKQ9r8GKYq!TwjUPD8ILPZIo2LaLaSw",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2Läläß",
        "whpk_" + "A" * 43 + "=",
        f"{SECRET},short",
        "v1",
    ],
)
def test_what_is_no_signing_secret_is_a_problem_that_does_not_show_it(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("CLERK_WEBHOOK_SIGNING_SECRET", text)
    (problem,) = problems()
    assert problem.startswith("CLERK_WEBHOOK_SIGNING_SECRET: secret ")
    assert text not in problem
    assert "MfKQ" not in problem


@pytest.mark.parametrize("text", ["too short", "not UTF-8 \udcff, not at all"])
def test_what_is_no_relay_secret_is_a_problem_that_does_not_show_it(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("HOOKDECK_WEBHOOK_SECRET", text)
    (problem,) = problems()
    assert problem.startswith("HOOKDECK_WEBHOOK_SECRET: secret 1 ")
    assert text not in problem


@pytest.mark.parametrize("text", [None, "", " , "])
def test_without_any_secret_it_does_not_start(monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    if text is not None:
        monkeypatch.setenv("CLERK_WEBHOOK_SIGNING_SECRET", text)
    (problem,) = problems()
    assert problem.startswith("CLERK_WEBHOOK_SIGNING_SECRET: is not set, and neither is HOOKDECK_WEBHOOK_SECRET")


def test_all_problems_are_reported_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AMQP_URL")
    monkeypatch.setenv("INGRESS_PORT", "70000")
    monkeypatch.setenv("PUBLISH_TIMEOUT", "20s")
    monkeypatch.setenv("COUNTRY_DATABASE", "/nowhere/countries.mmdb")
    monkeypatch.setenv("REGION_METADATA_KEY", "private_metadata.region")

    names = {problem.partition(":")[0] for problem in problems()}

    assert names == {
        "AMQP_URL",
        "CLERK_WEBHOOK_SIGNING_SECRET",
        "INGRESS_PORT",
        "PUBLISH_TIMEOUT",
        "COUNTRY_DATABASE",
        "REGION_METADATA_KEY",
    }


def test_an_option_of_the_command_line_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLERK_WEBHOOK_SIGNING_SECRET", SECRET)
    monkeypatch.setenv("INGRESS_PORT", "1")
    settings = IngressSettings.read(ingress_port=2, stop_timeout="3s", ingress_host=None)
    assert (settings.ingress_port, settings.stop_timeout) == (2, timedelta(seconds=3))


def test_settings_do_not_show_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLERK_WEBHOOK_SIGNING_SECRET", SECRET)
    monkeypatch.setenv("HOOKDECK_WEBHOOK_SECRET", "a secret of the relay")
    shown = repr(IngressSettings.read()) + str(IngressSettings.read())
    assert "MfKQ" not in shown
    assert "relay" not in shown.replace("HOOKDECK", "")
    assert "guest" not in shown
