"""One server for all end-to-end tests, because it takes long to start. Tests share its data and say what they add."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.server import DemoServer
from tests.e2e.stack import Stack
from tests.e2e.warm import warm
from tests.integration.fork_server import ForkServer


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory, forks: ForkServer, new_prefect_database: Path) -> Iterator[Stack]:
    """Start a server with everything deployed, six photos behind the camera API, no worker and no schedule."""
    folder: Path = tmp_path_factory.mktemp("stack")
    with (
        warm(folder / "warm", forks) as programs,
        DemoServer(photos=6, megapixels=0.3, cache_dir=folder / "photos") as api,
    ):
        here = Stack(folder, api, programs)
        with here.server(forks, new_prefect_database):
            deployed = here.python("automations.deploy")  # cropline deploy is a new process in test_operations.py
            assert deployed.returncode == 0, deployed.stdout + deployed.stderr
            here.pause("poll")
            yield here
