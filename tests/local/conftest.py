"""Servers of a test's own, in its own folder: these tests break and restart them."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from local.ports import free_port
from local.postgres import PostgresCluster
from local.rabbitmq import RabbitNode


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    """A node of this module alone; a test that stops it starts it again."""
    node = RabbitNode(
        tmp_path_factory.mktemp("node"),
        amqp_port=free_port(),
        management_port=free_port(),
        user="usher",
        password="first-password",
    )
    node.start()
    yield node
    node.kill()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresCluster]:
    """A cluster of this module alone; a test that stops it starts it again."""
    folder = tmp_path_factory.mktemp("cluster")
    cluster = PostgresCluster(folder, port=free_port(), password="it's a p@ss/word", fsync=False)
    cluster.start()
    yield cluster
    cluster.kill()


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that nobody may touch."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()
