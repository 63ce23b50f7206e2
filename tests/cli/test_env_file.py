"""`--env-file`: settings from a file, below the environment."""

from pathlib import Path

import pytest

from tests.cli.conftest import Usher

VERBS = ["ingress", "consumer sync_user", "lookup", "migrate", "topology --check"]
WRONG = "AMQP_URL=http://named-by-the-file/\nDATABASE_URL=mysql://named-by-the-file/\nLOOKUP_TOKEN=\n"


@pytest.mark.parametrize("verb", VERBS)
async def test_what_the_file_says_is_taken_for_settings(usher: Usher, tmp_path: Path, verb: str) -> None:
    (tmp_path / "settings").write_text(WRONG)

    done = await usher(*verb.split(), "--env-file", "settings")

    assert done.code == 2
    assert "AMQP_URL: write amqp://" in done.err or "DATABASE_URL: write postgresql://" in done.err


async def test_the_environment_wins_over_the_file(
    usher: Usher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    (tmp_path / "settings").write_text("DATABASE_URL='postgresql://127.0.0.1:1/nowhere'\n")

    from_file = await usher("migrate", "--check", "--env-file", "settings")
    monkeypatch.setenv("DATABASE_URL", database_url)
    from_environment = await usher("migrate", "--check", "--env-file", "settings")

    assert from_file.code == 1
    assert "127.0.0.1:1" in from_file.err
    assert from_environment.code == 0


@pytest.mark.parametrize("verb", VERBS)
async def test_a_file_that_is_not_there_or_no_text_is_misuse(usher: Usher, tmp_path: Path, verb: str) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")

    missing = await usher(*verb.split(), "--env-file", "nowhere")
    binary = await usher(*verb.split(), "--env-file", "binary")

    assert (missing.code, binary.code) == (2, 2)
    assert "does not exist" in missing.err
    assert "UTF-8" in binary.err
