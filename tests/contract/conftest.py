"""Servers of the session: each takes seconds to start, so tests share one of each."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.spark_servers import (
    StandaloneCluster,
    connect_server,
    python_without_cropline,
    standalone_cluster,
)
from tests.contract.task_servers import dask_cluster, ray_cluster


@pytest.fixture(scope="session")
def worker_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the workers' interpreter: it has the wheels and no cropline."""
    return python_without_cropline(tmp_path_factory.mktemp("worker") / "venv")


@pytest.fixture(scope="session")
def spark_cluster(tmp_path_factory: pytest.TempPathFactory, worker_python: Path) -> Iterator[StandaloneCluster]:
    """Start one master and two one-core workers."""
    with standalone_cluster(tmp_path_factory.mktemp("cluster"), worker_python) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def spark_connect_url(tmp_path_factory: pytest.TempPathFactory, worker_python: Path) -> Iterator[str]:
    """Start a Connect server on this machine."""
    with connect_server(tmp_path_factory.mktemp("connect"), worker_python) as url:
        yield url


@pytest.fixture(scope="session")
def dask_scheduler(tmp_path_factory: pytest.TempPathFactory, worker_python: Path) -> Iterator[str]:
    """Start a scheduler and one worker of two threads."""
    pytest.importorskip("distributed", reason="Dask is not installed: make test-engines")
    with dask_cluster(tmp_path_factory.mktemp("dask"), worker_python) as address:
        yield address


@pytest.fixture(scope="session")
def ray_address(tmp_path_factory: pytest.TempPathFactory, worker_python: Path) -> Iterator[str]:
    """Start one node of two CPUs."""
    pytest.importorskip("ray", reason="Ray is not installed: make test-engines")
    folder = tmp_path_factory.mktemp("ray")
    # Ray's workers look for code in their driver's working folder; the default one holds our source.
    with ray_cluster(folder, worker_python) as address, contextlib.chdir(folder):
        yield address
