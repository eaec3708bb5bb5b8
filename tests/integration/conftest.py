"""A live camera API, a real Prefect server, and a workspace: a folder and settings that connect the two."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pyarrow as pa
import pytest
from prefect import results, task_engine
from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_LOGGING_TO_API_ENABLED,
    temporary_settings,
)
from prefect.utilities.engine import emit_task_run_state_change_event

from cropline.catalogue import Catalogue
from cropline.config.settings import Settings, load_settings
from cropline.core import storage
from cropline.core.errors import NothingCameThrough
from cropline.pipeline.funnel import Funnel
from cropline.state import State
from tests.emulators.s3 import s3_server
from tests.integration.cameras import Cameras, cameras, listening
from tests.integration.faulty_proxy import FaultyProxy, faulty_proxy
from tests.integration.fork_server import ForkedRun, ForkServer
from tests.integration.oracle import Ledger, Place, books
from tests.integration.prefect_servers import served

_EVENTS_WAIT_S = 60


@pytest.fixture(scope="package")
def prefect_server(
    forks: ForkServer, new_prefect_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """One server for all tests of this folder, which gets no logs and no events of task runs of this process: see logs_and_task_events.

    Flows in this process send it no heartbeats: at a flow's end Prefect waits for the heartbeat thread, which
    sleeps for a second at a time, and a poll takes a third of a second. Flows in other processes send them.
    """
    import prefect.main  # noqa: F401 - it sets up logging: at the first flow it would remove a test's handlers

    with (
        pytest.MonkeyPatch.context() as patch,
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_LOGGING_TO_API_ENABLED: False}),
        served(forks, new_prefect_database, tmp_path_factory.mktemp("prefect")),
    ):
        patch.setattr(task_engine, "emit_task_run_state_change_event", lambda *_, **__: None)
        # A flow run asks twice where results are kept by default. No flow keeps a result.
        patch.setattr(results, "_read_server_default_result_storage_block_id", lambda: None)
        yield


@pytest.fixture
def logs_and_task_events(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let runs send their logs, and task runs of this process their events: thirty a poll. Few tests read them."""
    monkeypatch.setattr(task_engine, "emit_task_run_state_change_event", emit_task_run_state_change_event)
    monkeypatch.setenv(PREFECT_LOGGING_TO_API_ENABLED.name, "true")
    with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: True}):
        yield


@pytest.fixture(scope="session")
def photo_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of small photos, drawn once for the session."""
    return tmp_path_factory.mktemp("photos")


@pytest.fixture
def camera_api(photo_cache: Path, request: pytest.FixtureRequest) -> Iterator[Cameras]:
    """Serve six small photos of ten boxes over real HTTP. ``all_boxes`` asks for all of about forty."""
    most = getattr(request, "param", 10)
    with cameras(photos=6, megapixels=0.3, boxes=most, cache_dir=photo_cache) as api:
        yield api


all_boxes = pytest.mark.parametrize("camera_api", [None], indirect=True, ids=["all boxes"])


@dataclass
class Workspace:
    """A user's environment, output and state. Tests may add ``extra`` settings before a run."""

    folder: Path
    api: Cameras
    forks: ForkServer
    environment: dict[str, str] = field(default_factory=dict)

    def set(self, **values: str) -> None:
        """Set CROPLINE_ settings for this process and its later children."""
        named = {f"CROPLINE_{name}": value for name, value in values.items()}
        self.environment |= named
        os.environ |= named

    @property
    def settings(self) -> Settings:
        return load_settings()

    @property
    def place(self) -> Place:
        """Return where its outputs and its state are, for the oracle."""
        set_here = self.environment
        return Place(
            set_here["CROPLINE_STORAGE__URL"],
            set_here["CROPLINE_STATE__URL"],
            set_here.get("CROPLINE_STORAGE__ENDPOINT"),
        )

    def poll(self) -> Funnel:
        from flows.poll import poll

        return poll()

    def poll_in_vain(self) -> str:
        """Run a poll in which every photo fails; return its message."""
        with pytest.raises(NothingCameThrough) as caught:
            self.poll()
        return str(caught.value)

    def process(self) -> Funnel:
        from flows.process import process

        return process()

    def start(self, code: str) -> ForkedRun:
        """Start Python code in a forked process with this workspace's environment."""
        return self.forks.start(code, os.environ)

    def run(self, code: str) -> ForkedRun:
        """Run code in a forked process to its end."""
        run = self.start(code)
        run.wait()
        return run

    def child(self, code: str, *, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run code in a new Python, for tests of what it imports or who holds its streams."""
        return subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ.copy(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def rows(self) -> list[dict[str, Any]]:
        """Return the catalogue's rows, ordered."""
        table: pa.Table = Catalogue(self.settings.storage.spec).rows()
        return sorted(table.to_pylist(), key=lambda row: (row["image_id"], row["profile"], row["box_index"]))

    def objects(self) -> dict[str, bytes]:
        """Return every crop in the store."""
        spec = self.settings.storage.spec
        return {key: storage.read(spec, key) for key in storage.list_keys(spec, "crops")}

    def states(self) -> dict[str, str]:
        """Return {image id: state} of the default profile."""
        with State.open(self.settings.state) as state:
            return {work.image_id: work.state for work in state.find_images(limit=100_000)}

    def end_state(self) -> dict[str, Any]:
        """Return everything that a run leaves and that must not depend on how often it was interrupted."""
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
    tmp_path: Path,
    camera_api: Cameras,
    prefect_server: None,
    forks: ForkServer,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[Workspace]:
    """A workspace whose settings are in the environment, as a user sets them. ``after_a_poll`` asks for one with crops."""
    if hasattr(request, "param"):
        first_polls: FirstPolls = request.getfixturevalue("first_polls")
        with first_polls.done(request.param, monkeypatch) as here:
            yield here
        return
    with settled(tmp_path, camera_api, forks, monkeypatch) as here:
        yield here


class FirstPolls:
    """Workspaces after their first poll, which is made once. Each test gets it put back as it was.

    It stays at one place, and its cameras at one address: the state belongs to both.
    """

    def __init__(self, root: Path, photo_cache: Path, forks: ForkServer) -> None:
        self._root, self._photo_cache, self._forks = root, photo_cache, forks
        self._at = listening()
        self._kept: list[dict[str, str]] = []

    @contextmanager
    def done(self, values: dict[str, str], patch: pytest.MonkeyPatch) -> Iterator[Workspace]:
        """Yield the workspace with these settings, in which nothing happened after the first poll."""
        new = values not in self._kept
        folder = self._root / f"polled-{len(self._kept) if new else self._kept.index(values)}"
        kept = folder.with_suffix(".kept")
        shutil.rmtree(folder, ignore_errors=True)
        if not new:
            shutil.copytree(kept, folder)
        with (
            cameras(photos=6, megapixels=0.3, boxes=10, cache_dir=self._photo_cache, at=self._at) as api,
            settled(folder, api, self._forks, patch) as here,
        ):
            here.set(**values)
            if new:
                folder.mkdir()
                here.poll()
                shutil.copytree(folder, kept)
                self._kept.append(values)
                api.control.clear_log()
            yield here

    def close(self) -> None:
        self._at.close()


@pytest.fixture(scope="package")
def first_polls(
    photo_cache: Path, prefect_server: None, forks: ForkServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FirstPolls]:
    made = FirstPolls(tmp_path_factory.mktemp("polled"), photo_cache, forks)
    yield made
    made.close()


def after_a_poll(**values: str) -> pytest.MarkDecorator:
    """Run the test in a workspace with these settings whose six photos were polled; the cameras' log is empty."""
    return pytest.mark.parametrize("workspace", [values], indirect=True, ids=["after a poll"])


@contextmanager
def settled(folder: Path, api: Cameras, forks: ForkServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """Yield a workspace in this folder; ``monkeypatch`` restores the environment."""
    for name in [name for name in os.environ if name.startswith("CROPLINE_")]:
        monkeypatch.delenv(name)
    # Children use the session's server too; their own servers would outlive them when they are killed.
    monkeypatch.setenv("PREFECT_API_URL", PREFECT_API_URL.value())
    monkeypatch.setenv(PREFECT_LOGGING_TO_API_ENABLED.name, "false")
    here = Workspace(folder, api, forks)
    values = {
        "API__SOURCE": "cams",
        "API__URL": api.base_url,
        "API__TOKEN": api.token,
        "API__PAGE_SIZE": "4",
        "API__RETRIES": "1",
        "FETCH__ALLOW_LOOPBACK": "true",
        "FETCH__TIMEOUT_S": "60",  # the cameras share this process, which may be importing, on a machine that may be busy
        "STORAGE__URL": (folder / "output").as_uri(),
        "STATE__URL": f"sqlite:///{folder / 'state.db'}",
        "ENGINE__PROCESSES": "1",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"CROPLINE_{name}", value)  # monkeypatch restores the variables that Workspace.set changes
    here.set(**values)
    yield here
    for name in here.environment:
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def steady_api(photo_cache: Path) -> Iterator[Cameras]:
    """Serve three small photos that no test changes, so that one undisturbed run is the reference for all.

    Each has five boxes: a disturbed run does the same with five as with forty.
    """
    with cameras(photos=3, megapixels=0.3, boxes=5, cache_dir=photo_cache) as api:
        yield api


@pytest.fixture(scope="package")
def undisturbed(
    steady_api: Cameras, prefect_server: None, forks: ForkServer, tmp_path_factory: pytest.TempPathFactory
) -> Ledger:
    """Return the ledger after one undisturbed poll of the steady API."""
    folder = tmp_path_factory.mktemp("clean")
    with pytest.MonkeyPatch.context() as patch, settled(folder, steady_api, forks, patch) as here:
        here.set(LINEAGE__TRANSPORT="none", API__PAGE_SIZE="2")
        here.poll()
        ledger = books(here.place)
    assert ledger.crops.total() == sum(len(row["boxes"]) for row in steady_api.control.images())
    return ledger


@pytest.fixture
def disturbed(
    tmp_path: Path, undisturbed: Ledger, steady_api: Cameras, forks: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Workspace]:
    """A separate workspace on the same API; leases are short, so that the next run need not wait for them."""
    with settled(tmp_path, steady_api, forks, monkeypatch) as here:
        here.set(LINEAGE__TRANSPORT="none", API__PAGE_SIZE="2", STATE__LEASE_S="0.2", STATE__BACKOFF_S="0.001")
        yield here


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """Return the address of an S3 server."""
    with s3_server() as url:
        yield url


@pytest.fixture
def store(disturbed: Workspace, s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """Put the disturbed workspace's outputs on S3, behind a proxy."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    bucket = f"crops-{uuid4().hex[:8]}"
    boto3.client("s3", endpoint_url=s3).create_bucket(Bucket=bucket)
    with faulty_proxy(s3) as proxy:
        disturbed.set(STORAGE__URL=f"s3://{bucket}/cropline", STORAGE__ENDPOINT=proxy.url)
        yield proxy


def picture(data: bytes) -> Any:
    """Return the encoded bytes as a loaded Pillow image."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as opened:
        opened.load()
        return opened


def artifact_text(key: str) -> str:
    """Return the text of a key's newest artifact."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
    from prefect.client.schemas.sorting import ArtifactSort

    wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
    with get_client(sync_client=True) as client:  # Artifact.get leaves its connection open
        return str(client.read_artifacts(artifact_filter=wanted, sort=ArtifactSort.CREATED_DESC, limit=1)[0].data)


def prefect_events(name: str, since: datetime, count: int = 1) -> list[Any]:
    """Return Prefect's events as soon as its server has stored ``count`` of them."""
    wanted = EventFilter(
        event=EventNameFilter(name=[name]),
        occurred=EventOccurredFilter(since=since, until=datetime.now(UTC) + timedelta(minutes=5)),
    )
    from prefect.client.orchestration import get_client

    until = datetime.now(UTC) + timedelta(seconds=_EVENTS_WAIT_S)
    with get_client(sync_client=True) as client:
        while len(found := client.read_events(wanted, limit=50).events) < count and datetime.now(UTC) < until:
            pass
    return found
