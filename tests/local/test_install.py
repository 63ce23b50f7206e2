"""The set-up of missing packages: what it says where it can do nothing, and that it leaves no trace of itself."""

from pathlib import Path

import pytest

from local import install
from local.errors import MissingServerError


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No server, no package manager."""
    monkeypatch.setenv("RABBITMQ_SERVER", str(tmp_path / "none"))
    monkeypatch.setenv("POSTGRES_BIN", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("bare_machine")
def test_where_nothing_can_be_installed_one_sentence_has_all_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    code = install.main(["servers"])

    said = capsys.readouterr().err
    assert code == 1
    assert said.count("\n") == 1
    for choice in (
        "apt-get install -y rabbitmq-server postgresql",
        "RABBITMQ_SERVER=",
        "POSTGRES_BIN=",
        "docker compose up",
    ):
        assert choice in said


def test_what_is_installed_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> bool:
        raise AssertionError("a command was run")

    monkeypatch.setattr(install, "_run", never)

    assert install.main(["servers"]) == 0


def test_services_are_kept_off_while_packages_are_installed_and_no_trace_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    policy, no_cluster = tmp_path / "policy-rc.d", tmp_path / "createcluster.d" / "usher.conf"
    monkeypatch.setattr(install, "_POLICY", policy)
    monkeypatch.setattr(install, "_NO_CLUSTER", no_cluster)

    seen: list[bool] = []

    def fail() -> None:
        with install._services_kept_off(["rabbitmq", "postgres"]):
            seen.extend((policy.stat().st_mode & 0o111 == 0o111, no_cluster.exists()))
            raise RuntimeError("apt failed")

    with pytest.raises(RuntimeError, match="apt failed"):
        fail()

    assert seen == [True, True]
    assert list(tmp_path.iterdir()) == []


def test_a_policy_that_was_there_before_stays_as_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("theirs")
    monkeypatch.setattr(install, "_POLICY", policy)

    with install._services_kept_off(["rabbitmq"]):
        assert policy.read_text() == "theirs"

    assert policy.read_text() == "theirs"


@pytest.mark.usefixtures("bare_machine")
def test_a_missing_server_is_an_error_that_says_what_was_looked_for() -> None:
    with pytest.raises(MissingServerError, match="cannot be installed from here"):
        install.install(["rabbitmq"])
