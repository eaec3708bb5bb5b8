"""Photos sent again in other bytes are found by their hashes, per camera, and never where nothing moves."""

import tracemalloc
from collections.abc import Iterable
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from cropline.catalogue.rows import to_catalogue
from cropline.core.phash import CELLS, LETTERS, UNKNOWN
from cropline.core.schemas import CROPS
from cropline.core.storage import list_keys, read, write
from cropline.core.store_spec import StoreSpec
from drift.detect import Drift
from drift.near_duplicates import check_photos
from tests.unit.expectations.rows import flipped, parquet, spoilt

SEED = 20261122
Scene = npt.NDArray[np.float64]


class Camera:
    """Scenes of one camera: levels 0..63 of each cell. No box covers the left quarter."""

    def __init__(self, name: str = "c1", seed: int = SEED) -> None:
        self.name, self.dice = name, np.random.default_rng(seed)
        self.shelf = self.dice.uniform(10, 50, (CELLS, CELLS))

    def scene(self, moved: int = 30) -> Scene:
        """Return the shelf with other products in ``moved`` cells."""
        scene = self.shelf.copy()
        cells = self.dice.choice(CELLS**2, moved, replace=False)
        scene.flat[cells] = self.dice.uniform(5, 60, moved)
        return scene

    def again(self, scene: Scene) -> Scene:
        """Return the scene from another encoder: half a level of noise."""
        return scene + self.dice.normal(0, 0.5, scene.shape)

    def photo(self, image_id: str, scene: Scene, uncovered: int = CELLS // 4) -> dict[str, object]:
        letters = [LETTERS[int(level)] for level in np.clip(scene, 0, 63).flat]
        for row in range(CELLS):
            letters[row * CELLS : row * CELLS + uncovered] = UNKNOWN * uncovered
        return {"camera_id": self.name, "store_id": "s1", "image_id": image_id, "image_phash": "".join(letters)}


def batch(photos: Iterable[dict[str, object]]) -> pa.Table:
    """Two crops per photo."""
    rows = [photo | {"source": "cams", "status": "written", "box_index": box} for photo in photos for box in range(2)]
    return pa.Table.from_pylist(rows, schema=CROPS)


@pytest.fixture
def spec(request: pytest.FixtureRequest) -> StoreSpec:
    return StoreSpec(f"memory:///{request.node.name}")


def seen(spec: StoreSpec, *photos: dict[str, object]) -> list[Drift]:
    return check_photos(spec, "cams", batch(photos))


def test_a_photo_sent_again_is_noticed_in_its_batch_and_in_later_ones(spec: StoreSpec) -> None:
    camera = Camera()
    scenes = [camera.scene() for _ in range(8)]
    assert seen(spec, *(camera.photo(f"i{n}", scene) for n, scene in enumerate(scenes))) == []
    (later,) = seen(spec, camera.photo("again", camera.again(scenes[3])), camera.photo("new", camera.scene()))
    assert (later.kind, later.store_id, later.camera_id) == ("near_duplicate", "s1", "c1")
    assert (later.evidence["photos"], later.evidence["image_id"], later.evidence["like"]) == (1.0, "again", "i3")
    other = camera.scene()
    (at_once,) = seen(spec, camera.photo("a", other), camera.photo("b", camera.again(other)))
    assert (at_once.evidence["image_id"], at_once.evidence["like"]) == ("b", "a")


def test_a_batch_that_is_checked_or_cut_again_gives_no_warning(spec: StoreSpec) -> None:
    camera = Camera()
    photos = [camera.photo(f"i{n}", camera.scene()) for n in range(8)]
    assert seen(spec, *photos) == []
    assert seen(spec, *photos) == []
    assert seen(spec, *(photo | {"image_phash": None} for photo in photos)) == []


def test_other_scenes_of_a_camera_and_other_cameras_are_not_alike(spec: StoreSpec) -> None:
    camera, beside = Camera(), Camera("c2")
    scenes = [camera.scene(moved=12 + n % 40) for n in range(200)]
    assert seen(spec, *(camera.photo(f"i{n}", scene) for n, scene in enumerate(scenes))) == []
    assert seen(spec, *(beside.photo(f"j{n}", scene) for n, scene in enumerate(scenes))) == []


def test_a_camera_before_which_nothing_moves_is_not_judged(spec: StoreSpec) -> None:
    camera = Camera()
    still = [camera.photo(f"i{n}", camera.again(camera.shelf)) for n in range(40)]
    assert seen(spec, *still[:20]) == []
    assert seen(spec, *still[20:]) == []


def test_dark_photos_and_those_of_few_boxes_are_no_evidence(spec: StoreSpec) -> None:
    camera = Camera()
    seen(spec, *(camera.photo(f"i{n}", camera.scene()) for n in range(8)))
    dark = np.full((CELLS, CELLS), 2.0)
    assert seen(spec, camera.photo("d1", camera.again(dark)), camera.photo("d2", camera.again(dark))) == []
    few = camera.scene()
    known = [camera.photo(name, camera.again(few), uncovered=CELLS - 1) for name in ("f1", "f2")]
    assert seen(spec, *known) == []


def test_a_photo_with_some_other_boxes_is_the_same_photo(spec: StoreSpec) -> None:
    camera = Camera()
    scenes = [camera.scene() for _ in range(8)]
    seen(spec, *(camera.photo(f"i{n}", scene) for n, scene in enumerate(scenes)))
    (found,) = seen(spec, camera.photo("again", camera.again(scenes[0]), uncovered=CELLS // 4 + 2))
    assert found.evidence["like"] == "i0"


def test_a_whole_day_sent_again_is_noticed_once_for_its_camera(spec: StoreSpec) -> None:
    camera = Camera()
    scenes = [camera.scene() for _ in range(60)]
    seen(spec, *(camera.photo(f"i{n}", scene) for n, scene in enumerate(scenes)))
    (found,) = seen(spec, *(camera.photo(f"a{n}", camera.again(scene)) for n, scene in enumerate(scenes)))
    assert (found.evidence["photos"], found.evidence["of_photos"]) == (60.0, 120.0)


def test_batches_without_hashes_leave_nothing(spec: StoreSpec) -> None:
    assert check_photos(spec, "cams", CROPS.empty_table()) == []
    assert seen(spec, {"image_id": "failed", "image_phash": None}) == []
    assert list_keys(spec, "drift") == []


def test_photos_without_store_or_camera_are_compared_with_each_other(spec: StoreSpec) -> None:
    camera = Camera()
    scenes = [camera.scene() for _ in range(8)]
    nameless = {"camera_id": None, "store_id": None}
    seen(spec, *(camera.photo(f"i{n}", scene) | nameless for n, scene in enumerate(scenes)))
    (found,) = seen(spec, camera.photo("again", camera.again(scenes[5])) | nameless)
    assert (found.camera_id, found.evidence["like"]) == ("", "i5")


def test_rows_of_the_catalogue_are_accepted_like_those_of_the_job(spec: StoreSpec) -> None:
    camera = Camera()
    scenes = [camera.scene() for _ in range(6)]
    captured = {"profile": "p", "captured_at": "2026-11-22T08:40:00+01:00"}
    cut = batch(camera.photo(f"i{n}", scene) | captured for n, scene in enumerate(scenes))
    again = batch([camera.photo("again", camera.again(scenes[2])) | captured])
    facts = {"batch_id": "b", "attempt": 1, "flow_run": "r", "committed_at": datetime.now(UTC)}
    assert check_photos(spec, "cams", to_catalogue(cut, **facts)) == []
    (drift,) = check_photos(spec, "cams", to_catalogue(again, **facts))
    assert (drift.evidence["like"], drift.evidence["captured_at"]) == ("i2", "2026-11-22T07:40:00+00:00")
    assert check_photos(spec, "cams", cut) == []


def test_memory_for_a_large_batch_of_one_camera_is_not_quadratic(spec: StoreSpec) -> None:
    camera = Camera()
    photos = batch(camera.photo(f"i{n}", camera.shelf) for n in range(3_000))  # all pairs at once: 72 MB per array
    tracemalloc.start()
    try:
        check_photos(spec, "cams", photos)
        assert tracemalloc.get_traced_memory()[1] < 72e6
    finally:
        tracemalloc.stop()


def test_a_damaged_baseline_is_reported_and_restarted(spec: StoreSpec) -> None:
    camera = Camera()
    photos = [camera.photo(f"i{n}", camera.scene()) for n in range(6)]
    seen(spec, *photos)
    (key,) = list_keys(spec, "drift")
    whole = read(spec, key)
    other = pa.table({"image_id": ["x"], "image_phash": ["?" * CELLS**2]})
    short = pa.Table.from_pylist(
        [photo | {"captured_at": "", "like": None, "image_phash": "0"} for photo in photos[:1]]
    )
    for corrupt in (*spoilt(whole), parquet(other), parquet(short)):
        write(spec, key, corrupt)
        found = seen(spec, *photos)
        assert [(drift.kind, drift.evidence["file"], drift.evidence["bytes"]) for drift in found] == [
            ("baseline_corrupt", key, float(len(corrupt)))
        ]
        assert read(spec, key) == whole
    for corrupt in flipped(whole, SEED, 100):
        write(spec, key, corrupt)
        assert {drift.kind for drift in seen(spec, *photos)} <= {"baseline_corrupt"}
