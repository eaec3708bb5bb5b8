"""Drift on a simulated fleet: seven calm days give no warning, and each change gives the warning of its camera."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cropline.core.schemas import CROPS, MANIFEST
from cropline.core.storage import list_keys, read, write
from cropline.core.store_spec import StoreSpec
from drift.baseline import Baseline, merge, observe, read_baseline, write_baseline
from drift.detect import Drift, check_manifest, find_drift, find_poor_photos, judged_hour
from tests.unit.expectations.rows import flipped, parquet, spoilt

SEED = 20261122
START = datetime(2026, 11, 10, tzinfo=UTC)
HOURS = 7 * 24
CAMERAS = [(f"s{n % 3}", f"c{n}") for n in range(6)]
Row = dict[str, Any]


class Fleet:
    """Cameras with a daily rhythm and one view each; ``spoil`` changes what one of them sends."""

    def __init__(self) -> None:
        self.dice = np.random.default_rng(SEED)
        self.taken = 0

    def hour(self, number: int, spoil: Callable[[Row], Row | None] = lambda row: row) -> pa.Table:
        """Return the manifest of one hour."""
        begin = START + timedelta(hours=number)
        rows = []
        for index, (store, camera) in enumerate(CAMERAS):
            rate = 40 if 8 <= begin.hour < 20 else 4
            for _ in range(self.dice.poisson(rate)):
                captured = begin + timedelta(seconds=float(self.dice.uniform(0, 3600)))
                if (row := spoil(self.photo(index, store, camera, captured))) is not None:
                    rows.append(row)
        return pa.Table.from_pylist(rows, schema=MANIFEST)

    def photo(self, index: int, store: str, camera: str, captured: datetime) -> Row:
        self.taken += 1
        count = 0 if self.dice.random() < 0.05 else 10
        x, y = 0.1 + 0.05 * index + 0.5 * self.dice.random(count), 0.2 + 0.5 * self.dice.random(count)
        side = np.exp(self.dice.normal(np.log(0.06), 0.3, count))
        boxes = [
            {"xmin": a - s / 2, "ymin": b - s / 2, "xmax": a + s / 2, "ymax": b + s / 2}
            for a, b, s in zip(x.tolist(), y.tolist(), side.tolist(), strict=True)
        ]
        return {
            "row": self.taken,
            "image_id": f"img-{self.taken}",
            "store_id": store,
            "camera_id": camera,
            "captured_at": captured,
            "coordinates": "normalised",
            "sha256": f"{self.taken:064x}",
            "boxes": boxes,
        }


def end_of(number: int) -> datetime:
    return START + timedelta(hours=number + 1, minutes=1)


@pytest.fixture(scope="module")
def calm() -> tuple[Baseline, list[Drift]]:
    """Return the baseline of seven days and all warnings in that time."""
    print(f"seed {SEED}")
    fleet, known, warnings = Fleet(), Baseline.empty(), []
    for number in range(HOURS):
        seen, now = observe(fleet.hour(number)), end_of(number)
        if number % 6 == 0 or number >= HOURS - 48:  # judging takes most of the time, and needs days of a baseline
            warnings += find_drift(seen, known, now=now)
        known = merge(known, seen, f"manifest-{number}", judged=judged_hour(now))
    return known, warnings


def test_calm_days_give_no_warning(calm: tuple[Baseline, list[Drift]]) -> None:
    assert calm[1] == []
    assert calm[0].hours["images"].to_numpy().sum() > 20_000


def only_camera(camera: str, change: Callable[[Row], Row | None]) -> Callable[[Row], Row | None]:
    return lambda row: change(row) if row["camera_id"] == camera else row


def moved(row: Row) -> Row:
    boxes = [box | {"xmin": box["xmin"] + 0.08, "xmax": box["xmax"] + 0.08} for box in row["boxes"]]
    return row | {"boxes": boxes}


def doubled(row: Row) -> Row:
    boxes = [
        {"xmin": b["xmin"], "ymin": b["ymin"], "xmax": 2 * b["xmax"] - b["xmin"], "ymax": 2 * b["ymax"] - b["ymin"]}
        for b in row["boxes"]
    ]
    return row | {"boxes": boxes}


def thinned(row: Row) -> Row | None:
    return row if row["row"] % 10 == 0 else None


# Change -> (function that makes it, expected evidence by kind of warning).
CHANGES: dict[str, tuple[Callable[[Row], Row | None], dict[str, dict[str, Any]]]] = {
    "nothing": (lambda row: row, {}),
    "the camera was nudged": (
        moved,
        {"camera_shifted": {"x": pytest.approx(0.08, abs=0.02), "y": pytest.approx(0, abs=0.02)}},
    ),
    "the camera was zoomed": (doubled, {"box_sizes": {"factor": pytest.approx(4, rel=0.1)}}),
    "the detector finds nothing": (
        lambda row: row | {"boxes": []},
        {"share_without_boxes": {"share": 1.0, "baseline": pytest.approx(0.05, abs=0.02)}},
    ),
    "a photo under many ids": (lambda row: row | {"sha256": "a" * 64}, {"photo_again": {"photos": 1.0}}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_camera_is_named_and_no_other(calm: tuple[Baseline, list[Drift]], change: str) -> None:
    spoil, expected = CHANGES[change]
    # Noon of the eighth day.
    seen = observe(Fleet().hour(HOURS + 12, only_camera("c3", spoil)))
    found = find_drift(Baseline(seen.hours, seen.photos), calm[0], now=end_of(HOURS - 1))
    # The simulation reuses its photo numbers, but not the changed hashes.
    found = [drift for drift in found if drift.kind != "photo_again" or drift.evidence["sha256"] == "a" * 64]
    told = {drift.kind: drift.evidence for drift in found}
    assert set(told) == set(expected)
    for kind, numbers in expected.items():
        assert {name: told[kind][name] for name in numbers} == numbers, kind
    assert {drift.camera_id for drift in found} <= {"c3", None}


def run_day(known: Baseline, spoil: Callable[[Row], Row | None], hours: range) -> Iterator[Drift]:
    fleet = Fleet()
    for number in hours:
        seen, now = observe(fleet.hour(number, spoil)), end_of(number)
        yield from find_drift(seen, known, now=now)
        known = merge(known, seen, f"manifest-{number}", judged=judged_hour(now))


@pytest.mark.parametrize(
    ("spoil", "kinds"),
    [
        (lambda row: None, {"camera_silent"}),
        (thinned, {"volume_low"}),
    ],
)
def test_fewer_photos_are_noticed_when_the_hour_is_over(
    calm: tuple[Baseline, list[Drift]], spoil: Callable[[Row], Row | None], kinds: set[str]
) -> None:
    found = [
        d for d in run_day(calm[0], only_camera("c3", spoil), range(HOURS + 8, HOURS + 14)) if d.kind != "photo_again"
    ]
    assert {(drift.kind, drift.camera_id) for drift in found} == {(kind, "c3") for kind in kinds}
    assert len(found) >= 3
    for drift in found:
        if drift.kind == "volume_low":
            assert float(drift.evidence["images"]) * 3 < float(drift.evidence["baseline"])
            assert (drift.evidence["days"], "hour" in drift.evidence) == (7.0, True)
        else:
            # The calm days end at midnight.
            assert drift.evidence["last_hour"] == (START + timedelta(hours=HOURS - 1)).isoformat()
            assert float(drift.evidence["baseline"]) >= 10


def test_many_more_photos_are_noticed(calm: tuple[Baseline, list[Drift]]) -> None:
    flood = observe(Fleet().hour(HOURS + 3, only_camera("c3", lambda row: row)))
    many = merge(flood, flood, "again", judged=START)
    for time in range(4):
        many = merge(many, many, f"more-{time}", judged=START)
    found = find_drift(many, calm[0], now=end_of(HOURS + 4))
    high = [drift.evidence for drift in found if drift.kind == "volume_high"]
    assert high
    assert all(float(numbers["images"]) > 3 * float(numbers["baseline"]) > 0 for numbers in high)


def test_an_hour_is_judged_once(calm: tuple[Baseline, list[Drift]]) -> None:
    silent = only_camera("c3", lambda row: None)
    first = Fleet().hour(HOURS + 9, silent)
    now = end_of(HOURS + 11)
    found = find_drift(observe(first), calm[0], now=now)
    assert "camera_silent" in {drift.kind for drift in found}
    known = merge(calm[0], observe(first), "first", judged=judged_hour(now))
    again = find_drift(observe(first), known, now=now + timedelta(minutes=5))
    assert {drift.kind for drift in again} <= {"photo_again"}


def test_the_baseline_is_kept_and_a_manifest_counts_once() -> None:
    spec = StoreSpec("memory:///drift")
    fleet = Fleet()
    first, second = fleet.hour(0), fleet.hour(1)
    assert check_manifest(spec, "cameras", first, "one", now=end_of(0)) == []
    assert check_manifest(spec, "cameras", second, "two", now=end_of(1)) == []
    kept = read_baseline(spec, "cameras")
    assert check_manifest(spec, "cameras", second, "two", now=end_of(9)) == []
    assert read_baseline(spec, "cameras").hours.equals(kept.hours)
    assert kept.hours["images"].to_numpy().sum() == len(first) + len(second)
    assert kept.manifests == ("one", "two")
    assert kept.judged == judged_hour(end_of(1)) == START
    assert read_baseline(spec, "others").hours.num_rows == 0


def test_a_baseline_survives_the_store() -> None:
    spec = StoreSpec("memory:///drift-again")
    seen = observe(Fleet().hour(0))
    known = merge(Baseline.empty(), seen, "one", judged=START)
    write_baseline(spec, "cameras", known)
    back = read_baseline(spec, "cameras")
    assert (back.hours.equals(known.hours), back.photos.equals(known.photos)) == (True, True)
    assert (back.manifests, back.judged) == (("one",), START)


def test_old_hours_are_forgotten() -> None:
    old = observe(Fleet().hour(0))
    new = observe(Fleet().hour(28 * 24))
    known = merge(merge(Baseline.empty(), old, "old", judged=START), new, "new", judged=START)
    assert known.hours.equals(merge(Baseline.empty(), new, "new", judged=START).hours)


def test_sums_are_those_of_a_plain_count() -> None:
    corners = [(0.0, 0.0, 0.5, 0.5), (0.1, 0.1, 0.2, 0.2), (0.0, 0.0, 1.0, 1.0)]
    boxes = [dict(zip(("xmin", "ymin", "xmax", "ymax"), c, strict=True)) for c in corners]
    at = datetime(2026, 11, 22, 8, 59, 59, tzinfo=UTC)
    common = {"captured_at": at, "width": 400, "height": 200, "store_id": "s", "camera_id": None}
    rows = [
        common | {"coordinates": "normalised", "boxes": boxes},
        common | {"coordinates": "pixels", "boxes": [{"xmin": 0.0, "ymin": 0.0, "xmax": 200.0, "ymax": 100.0}]},
        common | {"coordinates": "normalised", "boxes": []},
        common | {"coordinates": "normalised", "boxes": boxes, "captured_at": None},
    ]
    row = observe(pa.Table.from_pylist(rows, schema=MANIFEST)).hours.to_pylist()
    assert len(row) == 1
    assert row[0]["hour"] == at.replace(minute=0, second=0)
    assert [row[0][name] for name in ("images", "without_boxes", "boxes", "camera_id")] == [3, 1, 4, ""]
    assert row[0]["x"] == pytest.approx(0.25 + 0.15 + 0.5 + 0.25)
    assert {n: row[0][f"size_{n:02}"] for n in range(16) if row[0][f"size_{n:02}"]} == {0: 1, 1: 2, 5: 1}


def test_an_empty_manifest_gives_no_warning() -> None:
    assert find_drift(observe(MANIFEST.empty_table()), Baseline.empty(), now=START) == []
    assert observe(MANIFEST.empty_table()).hours.num_rows == 0


def crops(photos: dict[str, tuple[float, float]]) -> pa.Table:
    rows = [
        {
            "source": "a",
            "image_id": name,
            "store_id": "s",
            "camera_id": "c",
            "status": "written",
            "luminance": luma,
            "sharpness": sharp,
        }
        for name, (luma, sharp) in photos.items()
        for _ in range(3)
    ]
    return pa.Table.from_pylist([*rows, {"image_id": "failed", "status": "failed"}], schema=CROPS)


def test_kinds_of_poor_photos_are_distinguished() -> None:
    good = {f"good-{n}": (120.0 + n, 400.0 + 20 * n) for n in range(6)}
    poor = {"dark": (9.0, 60.0), "blank": (128.0, 0.2), "black": (1.0, 0.0), "soft": (120.0, 70.0)}
    found = {drift.kind: drift for drift in find_poor_photos(crops(good | poor))}
    assert {kind: drift.evidence["photos"] for kind, drift in found.items()} == {
        "photo_blank": 2.0,
        "photo_dark": 1.0,
        "photo_blurred": 1.0,
    }
    assert found["photo_blurred"].evidence["image_id"] == "soft"
    assert find_poor_photos(crops(good)) == []
    assert find_poor_photos(CROPS.empty_table()) == []


def test_old_photos_do_not_make_a_camera_look_silent() -> None:
    first = Fleet().hour(0)
    assert (
        check_manifest(StoreSpec("memory:///long-ago"), "cameras", first, "one", now=end_of(0) + timedelta(days=200))
        == []
    )


def key_of(spec: StoreSpec, name: str) -> str:
    (key,) = [key for key in list_keys(spec, "drift") if key.endswith(f"/{name}.parquet")]
    return key


@pytest.mark.parametrize("name", ["hours", "photos"])
def test_a_damaged_baseline_is_reported_and_restarted_and_the_others_are_kept(name: str) -> None:
    spec, first = StoreSpec(f"memory:///damaged-{name}"), Fleet().hour(0)
    check_manifest(spec, "cameras", first, "one", now=end_of(0))
    kept, key = read_baseline(spec, "cameras"), key_of(spec, name)
    table = getattr(kept, name)
    other_notes = table.replace_schema_metadata({"judged": "soon"})
    naive = table.replace_schema_metadata({"judged": "2026-11-22T08:00:00"})
    holes = pa.table({field.name: pa.nulls(1, field.type) for field in table.schema})
    notes = [parquet(other_notes), parquet(naive)] if name == "hours" else []
    for corrupt in (*spoilt(read(spec, key)), parquet(holes), *notes):
        write(spec, key, corrupt)
        found = check_manifest(spec, "cameras", first, "again", now=end_of(0))
        assert [(drift.kind, drift.evidence["file"], drift.evidence["bytes"]) for drift in found] == [
            ("baseline_corrupt", key, float(len(corrupt)))
        ], corrupt[:100]
        now = read_baseline(spec, "cameras")
        assert not now.corrupt
        assert now.photos.num_rows >= kept.photos.num_rows
        assert now.hours["images"].to_numpy().sum() >= len(first)
        assert (now.manifests == ("again",)) is (name == "hours")
        write_baseline(spec, "cameras", kept)


def test_no_flipped_bit_in_a_baseline_raises() -> None:
    spec, first = StoreSpec("memory:///flipped"), Fleet().hour(0)
    check_manifest(spec, "cameras", first, "one", now=end_of(0))
    kept = read_baseline(spec, "cameras")
    for name in ("hours", "photos"):
        for corrupt in flipped(read(spec, key_of(spec, name)), SEED, 40):
            write(spec, key_of(spec, name), corrupt)
            found = check_manifest(spec, "cameras", first, "two", now=end_of(0))
            assert {drift.kind for drift in found} <= {"baseline_corrupt"}
            write_baseline(spec, "cameras", kept)
