"""What the lookup accepts as settings, and what it says otherwise."""

import pytest

from lookup.settings import LookupSettings
from shared.errors import SettingsError

URL = "postgresql://127.0.0.1/usher"


@pytest.fixture(autouse=True)
def _nothing_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LookupSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_several_tokens_are_separated_by_commas() -> None:
    read = LookupSettings.read(database_url=URL, lookup_token=" first-token-00000 ,,second-token-0000==")
    assert read.tokens() == ["first-token-00000", "second-token-0000=="]


def test_a_token_does_not_show_when_the_settings_are_printed() -> None:
    read = LookupSettings.read(database_url=URL, lookup_token="a-very-secret-token")
    assert "very-secret" not in f"{read!r} {read}"


@pytest.mark.parametrize(
    ("tokens", "problem"),
    [
        (" , ", "names no token"),
        ("too-brief", "token 1 is shorter than 16 characters"),
        ("long-enough-token-1,too-brief", "token 2 is shorter than 16 characters"),
        ("with a blank inside it", "token 1 has characters that no Authorization header carries"),
        ("=middle=of=the=token", "token 1 has characters"),
        ("ümlaut-ümlaut-ümlaut", "token 1 has characters"),
    ],
)
def test_a_token_that_cannot_be_is_refused_without_showing_it(tokens: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=f"^LOOKUP_TOKEN: {problem}") as refused:
        LookupSettings.read(database_url=URL, lookup_token=tokens)
    assert not any(token.strip() in str(refused.value) for token in tokens.split(",") if token.strip())


def test_everything_that_is_missing_is_named_at_once_with_what_to_do() -> None:
    with pytest.raises(SettingsError) as refused:
        LookupSettings.read()
    lines = str(refused.value).splitlines()
    assert [line.split(":")[0] for line in sorted(lines)] == ["DATABASE_URL", "LOOKUP_TOKEN"]
    assert "openssl rand -hex 24" in str(refused.value)
