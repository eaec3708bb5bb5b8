"""A live camera API, a real Prefect server, and a workspace: settings that point one at the other, in a folder of its own."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness

from cropline import storage
from cropline.catalogue import Catalogue
from cropline.funnel import Funnel
from cropline.settings import Settings, load_settings
from cropline.state import State
from demo.server import DemoServer


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """One server a session: it takes long to start."""
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def photo_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small photos, drawn once for the session."""
    return tmp_path_factory.mktemp("photos")


@pytest.fixture
def camera_api(photo_cache: Path) -> Iterator[DemoServer]:
    """Six small photos behind a real HTTP server."""
    with DemoServer(photos=6, megapixels=0.3, cache_dir=photo_cache) as api:
        yield api


@dataclass
class Workspace:
    """A user's place: environment, output, state. ``extra`` settings may be added before a run."""

    folder: Path
    api: DemoServer
    environment: dict[str, str] = field(default_factory=dict)

    def set(self, **values: str) -> None:
        """CROPLINE_ settings from now on, in this process and its children."""
        named = {f"CROPLINE_{name}": value for name, value in values.items()}
        self.environment |= named
        os.environ |= named

    @property
    def settings(self) -> Settings:
        return load_settings()

    def poll(self) -> Funnel:
        from flows.poll import poll

        return poll()

    def process(self) -> Funnel:
        from flows.process import process

        return process()

    def child(self, code: str, *, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run Python code in a process of its own with this workspace's environment."""
        return subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ.copy(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def rows(self) -> list[dict[str, Any]]:
        """The catalogue, ordered."""
        table: pa.Table = Catalogue(self.settings.storage.spec).rows()
        return sorted(table.to_pylist(), key=lambda row: (row["image_id"], row["profile"], row["box_index"]))

    def objects(self) -> dict[str, bytes]:
        """Every crop that lies in the store."""
        spec = self.settings.storage.spec
        return {key: storage.read(spec, key) for key in storage.list_keys(spec, "crops")}

    def states(self) -> dict[str, str]:
        """image id -> state, for the default profile."""
        with State.open(self.settings.state) as state:
            return {work.image_id: work.state for work in state.find_images(limit=100_000)}

    def end_state(self) -> dict[str, Any]:
        """All that a run leaves and that must not depend on how often it was interrupted."""
        names = ("image_id", "profile", "box_index", "status", "reason", "key", "sha256", "manifest", "manifest_row")
        spec = self.settings.storage.spec
        with State.open(self.settings.state) as state:
            cursor, outbox = state.cursor("cams"), len(state.pending_events(1000))
        return {
            "rows": [tuple(row[name] for name in names) for row in self.rows()],
            "objects": self.objects(),
            "states": self.states(),
            "manifests": storage.list_keys(spec, "manifests"),
            "quarantine": storage.list_keys(spec, "quarantine"),
            "cursor": cursor,
            "unpublished": outbox,
        }


@pytest.fixture
def workspace(
    tmp_path: Path, camera_api: DemoServer, prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> Workspace:
    """Settings as a user makes them: in the environment."""
    for name in [name for name in os.environ if name.startswith("CROPLINE_")]:
        monkeypatch.delenv(name)
    # Children use the session's server too; a server of their own would outlive them when they are killed.
    monkeypatch.setenv("PREFECT_API_URL", PREFECT_API_URL.value())
    here = Workspace(tmp_path, camera_api)
    values = {
        "API__SOURCE": "cams",
        "API__URL": camera_api.base_url,
        "API__TOKEN": camera_api.token,
        "API__PAGE_SIZE": "4",
        "API__RETRIES": "1",
        "FETCH__ALLOW_LOOPBACK": "true",
        "FETCH__TIMEOUT_S": "3",
        "STORAGE__URL": (tmp_path / "output").as_uri(),
        "STATE__URL": f"sqlite:///{tmp_path / 'state.db'}",
        "ENGINE__PROCESSES": "2",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"CROPLINE_{name}", value)  # monkeypatch takes back what Workspace.set changes of these
    here.set(**values)
    yield here  # type: ignore[misc]
    for name in here.environment:
        os.environ.pop(name, None)


def picture(data: bytes) -> Any:
    """Encoded bytes as a Pillow image, loaded."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as opened:
        opened.load()
        return opened


def artifact_text(key: str) -> str:
    """The newest artifact of a key."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
    from prefect.client.schemas.sorting import ArtifactSort

    wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
    with get_client(sync_client=True) as client:  # Artifact.get leaves its connection open
        return str(client.read_artifacts(artifact_filter=wanted, sort=ArtifactSort.CREATED_DESC, limit=1)[0].data)


@pytest.fixture
def undisturbed(workspace: Workspace) -> dict[str, Any]:
    """What one poll leaves. Its output is then set aside, so that the disturbed run begins from nothing."""
    workspace.set(LINEAGE__TRANSPORT="none", LINEAGE__PATH=str(workspace.folder / "none"))
    workspace.poll()
    end = workspace.end_state()
    assert end["objects"]
    (workspace.folder / "output").rename(workspace.folder / "undisturbed")
    workspace.set(STATE__URL=f"sqlite:///{workspace.folder / 'other.db'}", STATE__LEASE_S="0.2")
    return end
