"""Servers of the contract tests: each takes seconds to start, so all of them share one of each.

They end with the last contract test: Dask's idle processes took a twentieth of a core.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.spark_servers import Clusters, connect_server, python_without_cropline
from tests.contract.task_servers import dask_cluster, ray_cluster
from tests.integration.spark_photos import HoldingServer, holding_server
from tests.photos import drawn, encoded


@pytest.fixture(scope="session")
def worker_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the workers' interpreter: it has the wheels and no cropline."""
    return python_without_cropline(tmp_path_factory.mktemp("worker") / "venv")


@pytest.fixture(scope="package")
def spark_clusters(tmp_path_factory: pytest.TempPathFactory, worker_python: Path) -> Iterator[Clusters]:
    """Give one master and two one-core workers, which start when a test first asks for them."""
    started = Clusters(tmp_path_factory.mktemp("clusters"), worker_python)
    yield started
    started.close()


@pytest.fixture(scope="package")
def spark_connect_url(tmp_path_factory: pytest.TempPathFactory, worker_python: Path) -> Iterator[str]:
    """Start a Connect server with one core: each session starts a Python worker for each core."""
    with connect_server(tmp_path_factory.mktemp("connect"), worker_python, "local[1]") as url:
        yield url


@pytest.fixture(scope="package")
def dask_scheduler(tmp_path_factory: pytest.TempPathFactory, worker_python: Path) -> Iterator[str]:
    """Start a scheduler and one worker of two threads."""
    pytest.importorskip("distributed", reason="Dask is not installed: make test-engines")
    with dask_cluster(tmp_path_factory.mktemp("dask"), worker_python, nanny=False) as address:
        yield address


@pytest.fixture(scope="package")
def ray_address(tmp_path_factory: pytest.TempPathFactory, worker_python: Path) -> Iterator[str]:
    """Start one node of two CPUs."""
    pytest.importorskip("ray", reason="Ray is not installed: make test-engines")
    folder = tmp_path_factory.mktemp("ray")
    # Ray's workers look for code in their driver's working folder; the default one holds our source.
    with ray_cluster(folder, worker_python) as address, contextlib.chdir(folder):
        yield address


@pytest.fixture
def held_photos() -> Iterator[HoldingServer]:
    """Serve a small photo under any name, and hold it back where the name begins with ``held``."""
    with holding_server(encoded(drawn(320, 240))) as server:
        yield server
