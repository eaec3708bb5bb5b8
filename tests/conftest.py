"""Fixtures and settings of all tests: loopback only, no third-party telemetry, scheduling on xdist's workers."""

from __future__ import annotations

import atexit
import gc
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.contract.state.servers import Postgres
    from tests.integration.fork_server import ForkServer

# Set before any library reads them.
os.environ.update(
    DO_NOT_TRACK="1",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    GX_ANALYTICS_ENABLED="false",
    RUNTIME__DLTHUB_TELEMETRY="false",
    AWS_EC2_METADATA_DISABLED="true",
    # Prefect's clients read all authorities of the web, three times a flow run, for servers that speak plain HTTP.
    PREFECT_API_SSL_CERT_FILE=str(Path(__file__).with_name("authority.pem")),
    # No server of the tests asks for the tokens that a client would fetch before each run.
    PREFECT_CLIENT_CSRF_SUPPORT_ENABLED="false",
    # No test has a terminal for colours, for which Prefect searches each line it logs.
    PREFECT_LOGGING_COLORS="false",
    RAY_USAGE_STATS_ENABLED="0",
    # A node started by hand requires a token, and a driver sends one only in this mode.
    RAY_AUTH_MODE="token",
    RAY_AUTH_TOKEN="token-of-the-tests-" * 3,
    # Spark's JVMs are short-lived here: full compilation, parallel collection and a proof of all bytecode that they
    # load cost more than they save.
    JAVA_TOOL_OPTIONS="-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
    " -XX:+UnlockDiagnosticVMOptions -XX:-BytecodeVerificationRemote",
)

# A garbage collection each 700 objects took an eighth of a test process's time; most of them live as long as it does.
gc.set_threshold(10_000, 10, 10)

# Files that share one slow server of the session run on the same xdist worker.
_WITH = {
    "tests/e2e/test_worker_death.py": "tests/e2e/test_operations.py",
    "tests/contract/test_cluster_trouble.py": "tests/contract/test_engines.py",
    "tests/contract/test_engine_choice.py": "tests/contract/test_engines.py",
    "tests/contract/test_frames.py": "tests/contract/test_engines.py",
    "tests/contract/test_spark_cluster.py": "tests/contract/test_engines.py",
}

_connect = socket.socket.connect


def _guarded(self: socket.socket, address: Any) -> None:
    host = address[0] if isinstance(address, tuple) else ""
    if self.family != socket.AF_UNIX and host not in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::"):
        raise AssertionError(f"a test tried to reach {host}: tests talk to this machine only")
    _connect(self, address)


@pytest.fixture(autouse=True, scope="session")
def only_loopback() -> Iterator[None]:
    """Refuse sockets beyond loopback for the whole session."""
    socket.socket.connect = _guarded  # type: ignore[method-assign]
    yield
    socket.socket.connect = _connect  # type: ignore[method-assign]


def pytest_collection_finish() -> None:
    """Leave modules and collected tests out of later garbage collections."""
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # at the exit DuckDB reports what cannot be collected


@pytest.fixture(autouse=True, scope="session")
def quick_crop_processes() -> Iterator[None]:
    """Let crop processes of test processes be forks, for the whole session."""
    from tests import crop_forks

    with crop_forks.forked_crop_processes():
        yield


@pytest.fixture
def cold_crop_processes() -> Iterator[None]:
    """Let crop processes be new Pythons, for tests of what they take over at their start."""
    from tests import crop_forks

    with crop_forks.cold():
        yield


@pytest.fixture(scope="session")
def all_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that all test processes of this session share."""
    mine = tmp_path_factory.getbasetemp()
    return mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine


@pytest.fixture(scope="session")
def forks(all_processes: Path) -> Iterator[ForkServer]:
    """Processes that start at once, without repeating the imports."""
    from tests.integration.fork_server import fork_server

    with fork_server(all_processes) as server:
        yield server


@pytest.fixture(scope="session")
def new_prefect_database(forks: ForkServer, all_processes: Path) -> Path:
    """Return the database of a Prefect server that has just been migrated, to be copied."""
    from tests.integration.prefect_servers import new_database

    return new_database(forks, all_processes)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for all tests of this process; each test uses a new schema in it."""
    from tests.contract.state.servers import Postgres

    server = Postgres()
    yield server
    server.close()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Return a ``--dist loadfile`` scheduler that keeps the files of ``_WITH`` together."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return _WITH.get(file, file)

    return Scheduling(config, log)
