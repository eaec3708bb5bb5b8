"""A crop job on photos that a server may hold back, for tests that act on a cluster in the middle of a batch."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from cropline.config.profile import Profile
from cropline.config.settings import EngineSettings, FetchSettings
from fugue_jobs.engines.run import run_crop_job
from tests.contract import jobs
from tests.integration.spark_photos import HoldingServer

_BOXES = [jobs.box("a", 0.1, 0.2, 0.5, 0.6), jobs.box("b", 0, 0, 1, 1)]
_PROFILES = {"png": Profile(format="png")}


def run(photos: HoldingServer, names: list[str], folder: Path, engine: dict[str, Any], **more: Any) -> pa.Table:
    """Cut two boxes of each named photo into ``folder``. Return CROPS."""
    rows = [jobs.image(number, photos.url(name), _BOXES) for number, name in enumerate(names)]
    return run_crop_job(
        jobs.images(rows),
        jobs.claims(rows, _PROFILES),
        jobs.stores(),
        # A photo that is held back must not fail a test by itself.
        jobs.job(folder, processes=1, fetch=FetchSettings(allow_loopback=True, timeout_s=110).options),
        EngineSettings.model_validate(engine),
        **more,
    )


def assert_each_box_once(crops: pa.Table, images: int, folder: Path) -> None:
    rows = crops.to_pylist()
    assert {row["status"] for row in rows} == {"written"}
    assert [(row["manifest_row"], row["box_index"]) for row in rows] == [(i, b) for i in range(images) for b in (0, 1)]
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {row["key"] for row in rows}
