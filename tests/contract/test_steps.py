"""A profile's steps in the pipeline's job: function per crop or per batch, objects or packs, the same pixels."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cropline
from cropline.config.profile import Profile
from cropline.config.settings import EngineSettings
from cropline.core.store_spec import StoreSpec
from fugue_jobs.engines.run import run_crop_job
from tests.contract import jobs
from tests.photos import PhotoServer, drawn, encoded, photo_server

STEPS = "tests.unit.fugue_jobs.pool.shop_steps"
BOXES = [jobs.box(str(n), 0.1 * n, 0.1, 0.1 * n + 0.2, 0.7) for n in range(5)]


@pytest.fixture(scope="module")
def server() -> Iterator[PhotoServer]:
    with photo_server() as served:
        for number in range(4):
            served.photos[f"{number}.jpg"] = encoded(drawn(200, 100, seed=number))
        yield served


def run(server: PhotoServer, folder: Path, steps: list[Any], **job: Any) -> list[dict[str, Any]]:
    rows = [jobs.image(n, server.url(f"{n}.jpg"), BOXES) for n in range(4)]
    claims = jobs.claims(rows, {"p": Profile(format="png", steps=tuple(steps))})
    given = jobs.images(rows), claims, jobs.stores()
    crops = run_crop_job(*given, jobs.job(folder, **job), EngineSettings()).to_pylist()
    spec = StoreSpec(folder.as_uri())
    return [row | {"pixels": np.asarray(Image.open(io.BytesIO(cropline.open_crop(row, spec).read())))} for row in crops]


def test_steps_change_pixels_and_nothing_else_whatever_the_way(server: PhotoServer, tmp_path: Path) -> None:
    plain = run(server, tmp_path / "plain", [])
    packs: dict[str, Any] = {"packed": (("p", "shards", 20_000),), "batch": "b-1"}
    transport_names: list[tuple[str, dict[str, Any]]] = [
        ("inverted", {}),
        ("Inverter", {}),
        ("inverted", packs),
        ("Inverter", packs),
    ]
    for place, (name, job) in enumerate(transport_names):
        done = run(server, tmp_path / str(place), [f"{STEPS}:{name}"], **job)
        assert len(done) == len(plain) == 20
        for before, after in zip(plain, done, strict=True):
            assert (after["pixels"] == 255 - before["pixels"]).all()
            assert (after["shard"] is None) == (not job)
            for column in ("status", "left", "right", "width", "height", "image_phash", "decoder"):
                assert after[column] == before[column], column


def test_two_steps_follow_each_other(server: PhotoServer, tmp_path: Path) -> None:
    plain = run(server, tmp_path / "plain", [])
    twice = run(server, tmp_path / "twice", [f"{STEPS}:inverted", {"use": f"{STEPS}:Inverter", "batch": 3}])
    assert [row["sha256"] for row in twice] == [row["sha256"] for row in plain]
