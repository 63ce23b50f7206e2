"""`usher xata-stand-in` as a process: it says where it is, serves, and takes its databases away at the end."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import httpx

from local.postgres import PostgresCluster
from shared.migrations import user_migrations
from tests.local.xata.wishes import created, inherit

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import sys, typer
sys.path.insert(0, sys.argv.pop(1))
from cli.main import main
from cli.xata_stand_in import xata_stand_in
root = typer.Typer()
root.command()(xata_stand_in)
main(sys.argv[1:], root)
"""


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, str(ROOT), *arguments]


@contextmanager
def _running(*arguments: str, end: signal.Signals = signal.SIGINT) -> Iterator[dict[str, str]]:
    """The settings that it prints, and what its comments name, last word by first words."""
    with subprocess.Popen(_command(*arguments), stdout=subprocess.PIPE, text=True) as process:
        try:
            yield _said(process)
            process.send_signal(end)
            assert process.wait(20) == (-end if end is signal.SIGKILL else 0)
        finally:
            process.kill()


def _said(process: subprocess.Popen[str]) -> dict[str, str]:
    assert process.stdout is not None
    said: dict[str, str] = {}
    for line in process.stdout:
        name, _, value = line.strip().partition(": " if line.startswith("#") else "=")
        said[name] = value
        if "_stand_in" in line:
            break
    return said


async def test_it_serves_with_projects_and_templates_until_it_is_interrupted(postgres: PostgresCluster) -> None:
    admin = postgres.url("postgres")
    options = ["--project", "users", "--template", "us-east-1", "--healthy-after", "0.2s", "--port", "0"]
    with _running("--postgres-url", admin, *options) as said:
        project = said["# project users"]
        template = said[f"# template in us-east-1 of {project}"]
        async with _client(said) as client:
            branches = f"/projects/{project}/branches"
            branch = await created(client, branches, inherit("user_1", template))
            credentials = await client.get(f"{branches}/{branch}/credentials?username=xata")
        connection = await asyncpg.connect(credentials.json()["connectionString"])
        version = await connection.fetchval("select max(version) from schema_migrations")
        await connection.close()

    assert version == len(user_migrations())
    admins = await asyncpg.connect(admin)
    assert not await admins.fetch("select from pg_database where datname = $1", f"xata_{branch}")
    await admins.close()


async def test_killed_it_finds_its_projects_branches_and_logins_again(
    postgres: PostgresCluster, tmp_path: Path
) -> None:
    options = ["--postgres-url", postgres.url("postgres"), "--project", "users", "--template", "us-east-1"]
    options += ["--healthy-after", "0.2s", "--port", "0", "--state", str(tmp_path / "xata.json")]
    with _running(*options, end=signal.SIGKILL) as first:
        project = first["# project users"]
        template = first[f"# template in us-east-1 of {project}"]
        branches = f"/projects/{project}/branches"
        async with _client(first) as client:
            branch = await created(client, branches, inherit("user_1", template))
            login = await _login(client, f"{branches}/{branch}")
        await _ask(login, "create table kept ()")

    with _running(*options) as second:
        async with _client(second) as client:
            found = (await client.get(branches)).json()["branches"]
            again = await client.post(branches, json=inherit("user_1", template))
            login_again = await _login(client, f"{branches}/{branch}")
            kept = await _ask(login_again, "select to_regclass('kept') is not null")
            for each in (branch, template):
                assert (await client.delete(f"{branches}/{each}")).status_code == 204

    for setting in ("XATA_API_KEY", "XATA_ORGANIZATION", "# project users", f"# template in us-east-1 of {project}"):
        assert second[setting] == first[setting]
    assert {each["name"]: each["id"] for each in found} == {"user_1": branch, "template-us-east-1": template}
    assert again.status_code == 409
    assert login_again == login
    assert kept is True


async def _login(client: httpx.AsyncClient, branch: str) -> str:
    return str((await client.get(f"{branch}/credentials?username=xata")).json()["connectionString"])


async def _ask(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def _client(said: dict[str, str]) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"{said['XATA_API_URL']}/organizations/{said['XATA_ORGANIZATION']}",
        headers={"Authorization": f"Bearer {said['XATA_API_KEY']}"},
        trust_env=False,
    )


def _fails(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(_command(*arguments), capture_output=True, text=True, check=False, timeout=30)
    return done.returncode, done.stderr


def test_a_server_out_of_reach_is_one_sentence_without_its_password() -> None:
    code, text = _fails("--postgres-url", "postgresql://a:secret-word@127.0.0.1:1/x", "--port", "0")

    assert code == 1
    assert text.startswith("usher: PostgreSQL at 127.0.0.1:1 for the stand-in: ")
    assert "secret-word" not in text


def test_a_taken_port_is_one_sentence(postgres: PostgresCluster) -> None:
    code, text = _fails("--postgres-url", postgres.url("postgres"), "--port", str(postgres.port))

    assert (code, text) == (1, f"usher: port {postgres.port}: Address already in use\n")


def test_a_state_that_cannot_be_written_is_one_sentence(postgres: PostgresCluster, tmp_path: Path) -> None:
    state = tmp_path / "nowhere" / "xata.json"

    code, text = _fails("--postgres-url", postgres.url("postgres"), "--port", "0", "--state", str(state))

    assert code == 1
    assert text.startswith(f"usher: {state} cannot be written (No such file or directory): ")
    assert text.count("\n") == 1


def test_an_unknown_region_and_a_wrong_duration_are_misuse(postgres: PostgresCluster) -> None:
    options = ["--postgres-url", postgres.url("postgres"), "--port", "0"]

    region = _fails(*options, "--project", "a", "--template", "mars")
    duration = _fails(*options, "--healthy-after", "soon")

    assert region == (2, "usher: --template mars: there is no such region, only eu-central-1, us-east-1\n")
    assert duration[0] == 2
    assert "--healthy-after" in duration[1]
