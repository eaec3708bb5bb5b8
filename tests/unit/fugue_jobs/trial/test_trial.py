"""Two recipes on the same photos: outcomes, pixels, sizes, and the sheet."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cropline.config.profile import Profile
from cropline.config.settings import FetchSettings, load_settings
from fugue_jobs.trial.compare import Comparison
from fugue_jobs.trial.run import Pair, Spent, run_trial
from fugue_jobs.trial.sheet import trial_sheet
from fugue_jobs.work import CropOutcome
from tests.contract import jobs
from tests.photos import PhotoServer, drawn, encoded, photo_server, with_orientation

STEPS = "tests.unit.fugue_jobs.pool.shop_steps"
BOXES = [jobs.box(str(n), 0.1 * n, 0.1, 0.1 * n + 0.3, 0.7) for n in range(4)]


@pytest.fixture(scope="module")
def server() -> Iterator[PhotoServer]:
    with photo_server() as served:
        for number in range(3):
            served.photos[f"{number}.jpg"] = encoded(drawn(200, 100, seed=number))
        yield served


def trial(server: PhotoServer, current: Profile, tried: Profile) -> tuple[Comparison, Spent]:
    urls = [*(server.url(f"{n}.jpg") for n in range(3)), server.url("missing.jpg")]
    rows = [jobs.image(n, url, BOXES) for n, url in enumerate(urls)]
    for row in rows:
        row["work"] = [jobs.work("p", profile, row["image_id"]) for profile in (current, tried)]
    settings = load_settings(fetch=FetchSettings(allow_loopback=True))
    found, spent = Comparison(keep=5), Spent()
    for pair in run_trial(rows, settings, spent):
        found.add(pair)
    return found, spent


def test_each_photo_is_fetched_once_and_equal_recipes_differ_in_nothing(server: PhotoServer) -> None:
    server.served.clear()
    found, spent = trial(server, Profile(), Profile())
    assert set(server.served.values()) == {1}
    assert (found.boxes, len(found.photos), found.compared, found.changed) == (16, 4, 12, 0)
    assert found.current.outcomes == found.tried.outcomes == {"written": 12, "http_404": 4}
    assert (found.current.bytes, found.current.luminance) == (found.tried.bytes, found.tried.luminance)
    assert spent.current > 0
    assert spent.tried > 0


def test_a_step_that_fails_changes_pixels_and_returns_values_is_shown(server: PhotoServer) -> None:
    step = {"use": f"{STEPS}:judged", "columns": {"sku": "string"}, "version": "1"}
    tried = Profile.model_validate({"steps": [step], "max_side": 40})
    found, _ = trial(server, Profile(), tried)
    assert found.tried.outcomes == {"written": 9, "http_404": 4, "function_failed": 3}
    assert found.tried.values == {"sku": {"dark": 9}}
    assert (found.compared, found.changed, found.resized) == (9, 9, 9)
    assert found.tried.luminance / 9 < 3
    worst = found.worst
    assert [each.difference.pixels is None for each in worst] == [True, True, True, False, False]
    assert worst[3].difference.pixels is not None
    assert worst[3].difference.pixels > 0.9
    with Image.open(io.BytesIO(trial_sheet(worst, "title", ("now", "next")))) as sheet:
        sheet.load()
    assert (sheet.format, sheet.width > 1000, sheet.height > 700) == ("PNG", True, True)


def test_a_lossless_crop_is_compared_where_its_box_is_and_upright() -> None:
    pytest.importorskip("cropline_regions")
    with photo_server() as server:
        for number in range(3):
            photo = drawn(200, 100, seed=number)
            server.photos[f"{number}.jpg"] = encoded(photo, quality=95, subsampling=0, exif=with_orientation(6))
        found, _ = trial(server, Profile(format="png"), Profile(lossless=True))
    assert found.worst[-1].tried.box_top
    assert found.tried.outcomes == {"written": 12, "http_404": 4}
    assert (found.compared, found.changed, found.resized) == (12, 0, 0)


def test_the_share_of_pixels_is_of_those_beyond_the_noise_of_encoding() -> None:
    plain = np.full((10, 10, 3), 100, np.uint8)
    noisy, half = plain + 8, plain.copy()
    half[:5] = 120
    assert [_share(plain, other) for other in (plain, noisy, half)] == [0.0, 0.0, 0.5]


def _share(current: Any, tried: Any) -> float | None:
    crops = [CropOutcome(0, 0, "written", data=_png(array)) for array in (current, tried)]
    found = Comparison()
    found.add(Pair(jobs.image(0, "", BOXES), 0, *crops))
    return found.worst[0].difference.pixels


def _png(array: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_sheet_without_differences_says_so() -> None:
    with Image.open(io.BytesIO(trial_sheet([], "title", ("now", "next")))) as sheet:
        assert sheet.height > 100
