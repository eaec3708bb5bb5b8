"""Settings that are refused before a run begins."""

from __future__ import annotations

from pathlib import Path
from tempfile import gettempdir

import pytest

from cropline.config.settings import Settings, load_settings
from cropline.core.errors import SettingsError
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
def test_places_that_vanish_with_the_run_are_refused(storage: str, state: str, names: list[str]) -> None:
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
def test_places_that_stay_are_good(storage: str, state: str, here: Path) -> None:
    refuse_fleeting_places(_settings(storage, state), here)


def _with_lineage(path: str | None) -> Settings:
    fields = {"storage": {"url": "s3://bucket/prefix"}, "state": {"url": "sqlite:////srv/state.db"}}
    return load_settings(**fields, lineage={"path": path})


@pytest.mark.parametrize("path", ["events.ndjson", "./lineage/events.ndjson", f"{OF_A_RUN}/events.ndjson"])
def test_lineage_that_vanishes_with_the_run_is_refused(path: str) -> None:
    with pytest.raises(SettingsError, match="^CROPLINE_LINEAGE__PATH: is in this run's temporary folder"):
        refuse_fleeting_places(_with_lineage(path), OF_A_RUN)


@pytest.mark.parametrize("path", [None, "/srv/events.ndjson"])
def test_lineage_in_the_storage_or_at_an_absolute_place_stays(path: str | None) -> None:
    refuse_fleeting_places(_with_lineage(path), OF_A_RUN)
