"""What every test gets: no network beyond this machine, quiet third-party telemetry, and a worker to run on."""

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

# Before any library reads them.
os.environ.update(
    DO_NOT_TRACK="1",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    GX_ANALYTICS_ENABLED="false",
    RUNTIME__DLTHUB_TELEMETRY="false",
    AWS_EC2_METADATA_DISABLED="true",
    RAY_USAGE_STATS_ENABLED="0",
    # A node started by hand wants a token, and a driver that is given an address shows it only when told so.
    RAY_AUTH_MODE="token",
    RAY_AUTH_TOKEN="token-of-the-tests-" * 3,
    # Spark's JVMs live for seconds here: compiling well and collecting in parallel costs them more than it saves.
    JAVA_TOOL_OPTIONS="-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
)

# Files whose tests use one session's server that takes long to start: the same worker of xdist takes both.
_WITH = {"tests/e2e/test_worker_death.py": "tests/e2e/test_operations.py"}

_connect = socket.socket.connect


def _guarded(self: socket.socket, address: Any) -> None:
    host = address[0] if isinstance(address, tuple) else ""
    if self.family != socket.AF_UNIX and host not in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::"):
        raise AssertionError(f"a test tried to reach {host}: tests talk to this machine only")
    _connect(self, address)


@pytest.fixture(autouse=True, scope="session")
def only_loopback() -> Iterator[None]:
    """Sockets beyond loopback are refused for the whole session."""
    socket.socket.connect = _guarded  # type: ignore[method-assign]
    yield
    socket.socket.connect = _connect  # type: ignore[method-assign]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """``--dist loadfile`` that knows which files belong together."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return _WITH.get(file, file)

    return Scheduling(config, log)
