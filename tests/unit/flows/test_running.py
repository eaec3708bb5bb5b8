"""What a run finds out before it begins: its deployment, and settings that are refused."""

from __future__ import annotations

from pathlib import Path
from tempfile import gettempdir
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect.context import FlowRunContext

from cropline.config.settings import Settings, load_settings
from cropline.core.errors import SettingsError
from flows import running
from flows.running import refuse_fleeting_places

# Named as Prefect names the temporary folder of one run.
OF_A_RUN = Path(gettempdir()).resolve() / "tmpx1y2prefect"


def _settings(storage: str, state: str) -> Settings:
    return load_settings(storage={"url": storage}, state={"url": state})


LOST, KEPT = f"file://{OF_A_RUN}/cropline-output", "file:///srv/cropline"


@pytest.mark.parametrize(
    ("storage", "state", "names"),
    [
        (LOST, "sqlite:////srv/state.db", ["CROPLINE_STORAGE__URL"]),
        (KEPT, "sqlite:///cropline-output/state.db", ["CROPLINE_STATE__URL"]),
        (LOST, "sqlite:///state.db", ["CROPLINE_STORAGE__URL", "CROPLINE_STATE__URL"]),
    ],
)
def test_temporary_places_of_a_run_are_refused(storage: str, state: str, names: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        refuse_fleeting_places(_settings(storage, state), OF_A_RUN)
    assert str(caught.value).startswith(", ".join(names) + ": is in this run's temporary folder")


@pytest.mark.parametrize(
    ("storage", "state", "here"),
    [
        (KEPT, "sqlite:////srv/state.db", OF_A_RUN),
        ("s3://bucket/prefix", "postgresql+psycopg://somewhere/db", OF_A_RUN),
        ("memory:///", "sqlite:////srv/state.db", OF_A_RUN),
        ("file:///srv/work/cropline-output", "sqlite:///cropline-output/state.db", Path("/srv/work")),
    ],
)
def test_permanent_places_are_accepted(storage: str, state: str, here: Path) -> None:
    refuse_fleeting_places(_settings(storage, state), here)


def _with_lineage(path: str | None) -> Settings:
    fields = {"storage": {"url": "s3://bucket/prefix"}, "state": {"url": "sqlite:////srv/state.db"}}
    return load_settings(**fields, lineage={"path": path})


@pytest.mark.parametrize("path", ["events.ndjson", "./lineage/events.ndjson", f"{OF_A_RUN}/events.ndjson"])
def test_lineage_in_a_runs_temporary_folder_is_refused(path: str) -> None:
    with pytest.raises(SettingsError, match="^CROPLINE_LINEAGE__PATH: is in this run's temporary folder"):
        refuse_fleeting_places(_with_lineage(path), OF_A_RUN)


@pytest.mark.parametrize("path", [None, "/srv/events.ndjson"])
def test_lineage_in_the_storage_or_at_an_absolute_place_stays(path: str | None) -> None:
    refuse_fleeting_places(_with_lineage(path), OF_A_RUN)


@pytest.mark.parametrize(("inside", "asked", "name"), [(False, 0, None), (True, 1, "poll")])
def test_only_a_run_of_a_deployment_asks_the_server_for_its_name(
    monkeypatch: pytest.MonkeyPatch, inside: bool, asked: int, name: str | None
) -> None:
    requests: list[str] = []

    class Deployment:
        @property
        def name(self) -> str:
            requests.append("name")
            return "poll"

    here = SimpleNamespace(flow_run=SimpleNamespace(deployment_id=uuid4() if inside else None))
    monkeypatch.setattr(FlowRunContext, "get", lambda: here)
    monkeypatch.setattr(running, "runtime", SimpleNamespace(deployment=Deployment()))
    assert (running._deployment(), len(requests)) == (name, asked)
