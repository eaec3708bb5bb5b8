"""Spark servers of the session: each takes seconds to start, so there is one of each."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.spark_servers import (
    StandaloneCluster,
    connect_server,
    python_without_cropline,
    standalone_cluster,
)


@pytest.fixture(scope="session")
def worker_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workers' interpreter: it has the wheels and no cropline."""
    return python_without_cropline(tmp_path_factory.mktemp("worker") / "venv")


@pytest.fixture(scope="session")
def spark_cluster(tmp_path_factory: pytest.TempPathFactory, worker_python: Path) -> Iterator[StandaloneCluster]:
    """One master and two one-core workers."""
    with standalone_cluster(tmp_path_factory.mktemp("cluster"), worker_python) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def spark_connect_url(tmp_path_factory: pytest.TempPathFactory, worker_python: Path) -> Iterator[str]:
    """A Connect server on this machine."""
    with connect_server(tmp_path_factory.mktemp("connect"), worker_python) as url:
        yield url
