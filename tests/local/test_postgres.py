"""A private PostgreSQL cluster: what survives what, whom it lets in, and where it can live."""

import os
import socket
import subprocess
from pathlib import Path

import asyncpg
import psutil
import pytest

from local.errors import MissingServerError, ServerError
from local.ports import free_port
from local.postgres import PostgresCluster


async def _run(cluster: PostgresCluster, statement: str) -> object:
    connection = await asyncpg.connect(cluster.url())
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_rows_survive_kill_9_a_new_port_and_a_new_password(cluster: PostgresCluster) -> None:
    await _run(cluster, "create table kept as select 42 as answer")
    cluster.kill()
    cluster.port, cluster.password = free_port(), "another"

    cluster.start()

    assert await _run(cluster, "select answer from kept") == 42


async def test_stop_is_clean_and_leaves_no_process(cluster: PostgresCluster) -> None:
    connection = await asyncpg.connect(cluster.url())
    family = [psutil.Process(cluster.pid), *psutil.Process(cluster.pid).children()]

    cluster.stop()

    assert [process for process in family if process.is_running()] == []
    assert "database system is shut down" in cluster.log.read_text()
    connection.terminate()
    cluster.start()


async def test_nobody_gets_in_without_the_password(cluster: PostgresCluster) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(cluster.url(), password="wrong")


async def test_it_listens_on_loopback_only_and_takes_two_hundred_connections(cluster: PostgresCluster) -> None:
    assert await _run(cluster, "show listen_addresses") == "127.0.0.1"
    assert await _run(cluster, "show unix_socket_directories") == ""
    assert await _run(cluster, "show max_connections") == "200"


def test_a_paused_cluster_is_silent_and_a_resumed_one_answers(cluster: PostgresCluster) -> None:
    ask_for_tls = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
    cluster.pause()
    with socket.create_connection(("127.0.0.1", cluster.port), 1) as connection:
        connection.settimeout(0.3)
        connection.sendall(ask_for_tls)
        with pytest.raises(TimeoutError):
            connection.recv(1)

        cluster.resume()

        connection.settimeout(5)
        assert connection.recv(1) == b"N"


def test_a_second_server_on_the_same_folder_is_refused(cluster: PostgresCluster) -> None:
    second = PostgresCluster(cluster.folder, port=free_port(), password=cluster.password)

    with pytest.raises(ServerError, match=f"process {cluster.pid} already serves"):
        second.start()

    assert cluster.running


def test_a_lock_file_with_a_pid_that_now_belongs_to_somebody_else_is_no_obstacle(
    cluster: PostgresCluster, bystander: subprocess.Popen[bytes]
) -> None:
    cluster.kill()
    lock = cluster.data / "postmaster.pid"
    lines = lock.read_text().splitlines()
    lock.write_text("\n".join([str(bystander.pid), *lines[1:]]) + "\n")

    cluster.start()

    assert cluster.ready()
    assert bystander.poll() is None


def test_a_folder_below_one_that_its_account_cannot_enter_is_no_obstacle(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    cluster = PostgresCluster(closed / "pg", port=free_port(), password="secret", fsync=False)
    try:
        cluster.start()
        cluster.restart()

        owner = psutil.Process(cluster.pid).uids().effective
        assert owner == (os.geteuid() or (cluster.folder.stat().st_uid))
        assert owner != 0
        assert closed.stat().st_mode & 0o777 == 0o700
    finally:
        cluster.kill()


def test_an_initialization_that_was_killed_half_way_is_done_again(tmp_path: Path) -> None:
    (tmp_path / "pg" / "data.new" / "base").mkdir(parents=True)
    cluster = PostgresCluster(tmp_path / "pg", port=free_port(), password="secret", fsync=False)
    try:
        cluster.start()

        assert cluster.ready()
    finally:
        cluster.kill()


def test_a_server_that_cannot_start_says_its_last_words(tmp_path: Path) -> None:
    cluster = PostgresCluster(
        tmp_path / "pg", port=free_port(), password="secret", fsync=False, settings=["no_such_setting=1"]
    )

    with pytest.raises(ServerError, match="no_such_setting"):
        cluster.start()

    assert not cluster.running


def test_the_folder_that_somebody_named_has_to_hold_initdb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_BIN", str(tmp_path))

    with pytest.raises(MissingServerError, match="POSTGRES_BIN has to name a folder with initdb"):
        PostgresCluster(tmp_path / "pg", port=1, password="secret").start()
