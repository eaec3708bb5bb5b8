"""Which crops are reused when a photo is cropped again: only those whose box and recipe did not change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from cropline.catalogue import CATALOGUE
from cropline.core.keys import box_fingerprint
from cropline.core.schemas import CLAIM, CROPS
from cropline.pipeline.reuse import reuse_crops

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
TAKEN = "2026-11-22T08:40:00.000000Z"
BOXES = [
    {"box_id": f"b{n}", "xmin": n / 10, "ymin": 0.1, "xmax": n / 10 + 0.1, "ymax": 0.9, "label": "cola", "score": 0.5}
    for n in range(4)
]


def _image(boxes: list[dict[str, Any]] = BOXES, **changes: Any) -> dict[str, Any]:
    return {
        "source": "cams", "image_id": "photo", "manifest": "m2", "manifest_row": 7, "version": "etag-1", "boxes": boxes,
        "coordinates": "normalised", "orientation": "upright", "captured_at": TAKEN, "store_id": "s1", "camera_id": "c1",
    } | changes  # fmt: skip


def _rows(**changes: Any) -> list[dict[str, Any]]:
    """Return the catalogue's rows of the photo from its earlier crop."""
    return [
        {
            "source": "cams", "image_id": "photo", "profile": "default", "profile_hash": "recipe", "fingerprint": "old",
            "box_fingerprint": box_fingerprint("etag-1", "normalised", "upright", box, "recipe"), "box_id": box["box_id"],
            "box_index": index, "status": "written", "key": f"crops/{index}", "label": "unknown", "manifest": "m1",
            "manifest_row": 1, "captured_at": datetime(2026, 11, 22, 8, 40, tzinfo=UTC), "store_id": "s1",
            "camera_id": "c1", "committed_at": NOW - timedelta(days=3),
        } | changes
        for index, box in enumerate(BOXES)
    ]  # fmt: skip


def _kept(
    image: dict[str, Any], rows: list[dict[str, Any]], days: int | None = None, **work: Any
) -> tuple[dict[int, str], list[int] | None]:
    """Return ({box position: key of the reused crop}, positions left to cut)."""
    claimed = {"profile": "default", "profile_hash": "recipe", "fingerprint": "new", "recipe": "{}"} | work
    claim = {"source": "cams", "image_id": "photo", "manifest": "m2", "manifest_row": 7, "work": [claimed]}
    kept, claims = reuse_crops(
        pa.Table.from_pylist(rows, schema=CATALOGUE),
        pa.Table.from_pylist([image]),
        pa.Table.from_pylist([claim], schema=CLAIM),
        {"default": days},
        NOW,
    )
    assert (kept.schema, claims.schema) == (CROPS, CLAIM)
    return {row["box_index"]: row["key"] for row in kept.to_pylist()}, claims["work"][0].as_py()[0]["only"]


def _moved(index: int) -> list[dict[str, Any]]:
    return [box | {"xmin": box["xmin"] + 0.01} if n == index else box for n, box in enumerate(BOXES)]


def test_a_box_that_moved_is_cut_and_the_others_stay() -> None:
    assert _kept(_image(_moved(2)), _rows()) == ({0: "crops/0", 1: "crops/1", 3: "crops/3"}, [2])


def test_a_box_that_went_moves_the_others_up_and_one_that_came_is_cut() -> None:
    new = BOXES[0] | {"box_id": "b9", "xmin": 0.7, "xmax": 0.8}
    assert _kept(_image([*BOXES[1:], new]), _rows()) == ({0: "crops/1", 1: "crops/2", 2: "crops/3"}, [3])


def test_what_stays_is_told_as_it_is_now() -> None:
    boxes = [box | {"label": "cola 0.5 l", "score": 0.9} for box in BOXES]
    claim = {"profile": "default", "profile_hash": "recipe", "fingerprint": "new", "recipe": "{}"}
    claims = [{"source": "cams", "image_id": "photo", "manifest": "m2", "manifest_row": 7, "work": [claim]}]
    kept, _ = reuse_crops(
        pa.Table.from_pylist(_rows(), schema=CATALOGUE),
        pa.Table.from_pylist([_image(boxes)]),
        pa.Table.from_pylist(claims, schema=CLAIM),
        {},
        NOW,
    )
    names = ("label", "score", "fingerprint", "manifest", "manifest_row", "captured_at")
    assert [tuple(row[name] for name in names) for row in kept.to_pylist()] == [
        ("cola 0.5 l", 0.9, "new", "m2", 7, TAKEN)
    ] * 4


EVERYTHING_IS_CUT = {
    "another photo": (_image(version="etag-2"), _rows(), {}),
    "no version": (_image(version=None), _rows(), {}),
    "another recipe": (_image(), _rows(), {"profile_hash": "other"}),
    "another profile": (_image(), _rows(profile="thumb"), {}),
    "pixels, not shares": (_image(coordinates="pixels"), _rows(), {}),
    "turned otherwise": (_image(orientation="stored"), _rows(), {}),
    "another store": (_image(store_id="s2"), _rows(), {}),
    "another moment": (_image(captured_at="2026-11-22T08:41:00.000000Z"), _rows(), {}),
    "it failed before": (_image(), _rows(status="failed"), {}),
    "rows of an older cropline": (_image(), _rows(box_fingerprint=None), {}),
    "the same work, asked for again": (_image(), _rows(fingerprint="new"), {}),
    "all boxes have one id": (_image([box | {"box_id": "b0"} for box in BOXES]), _rows(), {}),
    "nothing there": (_image(), [], {}),
}


@pytest.mark.parametrize("why", EVERYTHING_IS_CUT)
def test_everything_is_cut_anew(why: str) -> None:
    image, rows, work = EVERYTHING_IS_CUT[why]
    assert _kept(image, rows, **work) == ({}, None)


@pytest.mark.parametrize(("days", "stay"), [(None, 4), (30, 4), (7, 4), (6, 0), (4, 0)])
def test_crops_that_may_be_aged_out_soon_are_cut_anew(days: int | None, stay: int) -> None:
    assert len(_kept(_image(), _rows(), days=days)[0]) == stay


def test_rows_that_another_state_left_are_taken_over_though_their_work_is_the_same() -> None:
    image = _image()
    claimed = {"profile": "default", "profile_hash": "recipe", "fingerprint": "old", "recipe": "{}"}
    claim = {"source": "cams", "image_id": "photo", "manifest": "m2", "manifest_row": 7, "work": [claimed]}
    left = {
        unknown: reuse_crops(
            pa.Table.from_pylist(_rows(), schema=CATALOGUE),
            pa.Table.from_pylist([image]),
            pa.Table.from_pylist([claim], schema=CLAIM),
            {"default": None},
            NOW,
            unknown,
        )[1]["work"][0].as_py()[0]["only"]
        for unknown in ((), (("cams", "photo", "default"),))
    }
    assert list(left.values()) == [None, []]


def _pixel_rows(rescaled_from: tuple[int, int] | None, size: tuple[int, int]) -> list[dict[str, Any]]:
    """Return rows of boxes in pixels, cut from a photo of this size."""
    return [
        row
        | {"image_width": size[0], "image_height": size[1]}
        | {"box_fingerprint": box_fingerprint("etag-1", "pixels", "upright", box, "recipe", rescaled_from)}
        for row, box in zip(_rows(), BOXES, strict=True)
    ]


@pytest.mark.parametrize(
    ("declared", "rescaled_from", "stays"),
    [
        ((800, 600), None, True),
        ((600, 800), None, True),  # the picture rotated by 90 degrees
        ((None, None), None, True),
        ((1600, 1200), (1600, 1200), True),
        ((1600, 1200), None, False),  # cut before the API declared the size, or while the size was ignored
        ((3200, 2400), (1600, 1200), False),
        ((800, 600), (1600, 1200), False),
        ((None, None), (1600, 1200), False),
    ],
)
def test_a_crop_stays_only_where_its_box_was_measured_in_the_size_that_is_declared_now(
    declared: tuple[int | None, int | None], rescaled_from: tuple[int, int] | None, stays: bool
) -> None:
    image = _image(coordinates="pixels", width=declared[0], height=declared[1])
    kept, _ = _kept(image, _pixel_rows(rescaled_from, (800, 600)))
    assert bool(kept) == stays


STORES = pa.Table.from_pylist(
    [{"store_id": "s2", "store_name": "Two", "city": "Lyon", "region": "ARA", "store_format": "mini"}]
)


def _rewritten(
    rows: list[dict[str, Any]], image: dict[str, Any], days: int | None = None
) -> tuple[list[dict[str, Any]], list[int] | None]:
    work = {"profile": "default", "profile_hash": "recipe", "fingerprint": "old", "recipe": "{}"}
    claim = {"source": "cams", "image_id": "photo", "manifest": "m2", "manifest_row": 7, "work": [work]}
    kept, claims = reuse_crops(
        pa.Table.from_pylist(rows, schema=CATALOGUE),
        pa.Table.from_pylist([image]),
        pa.Table.from_pylist([claim], schema=CLAIM),
        {"default": days},
        NOW,
        rewriting={("photo", "default")},
        stores=STORES,
    )
    return kept.to_pylist(), claims["work"][0].as_py()[0]["only"]


def _corrected() -> dict[str, Any]:
    boxes = [box | {"score": 0.1} for box in BOXES]
    return _image(boxes, store_id="s2", camera_id="c2", captured_at="2026-11-20T08:00:00.000000Z")


def test_rewriting_keeps_every_row_whatever_became_of_it_and_cuts_nothing() -> None:
    rows = _rows()
    rows[1] |= {"status": "failed", "reason": "box_outside", "key": None}
    rows[2] |= {"status": "skipped", "reason": "below_min_side", "key": None}
    rows[3] |= {"shard": "packs/1.tar", "offset": 512}
    kept, only = _rewritten(rows, _corrected())
    assert only == []
    names = ("status", "reason", "key", "shard", "offset", "fingerprint", "box_fingerprint")
    assert [[row[name] for name in names] for row in kept] == [[row.get(name) for name in names] for row in rows]
    told = ("store_id", "camera_id", "captured_at", "score", "store_name", "city", "region", "store_format", "manifest")
    assert {tuple(row[name] for name in told) for row in kept} == {
        ("s2", "c2", "2026-11-20T08:00:00.000000Z", 0.1, "Two", "Lyon", "ARA", "mini", "m2")
    }


def test_a_store_that_nobody_describes_leaves_nothing_of_the_one_before() -> None:
    rows = [row | {"store_name": "One", "city": "Paris"} for row in _rows()]
    kept, _ = _rewritten(rows, _corrected() | {"store_id": "s3"})
    assert {(row["store_id"], row["store_name"], row["city"]) for row in kept} == {("s3", None, None)}


def test_rewriting_cuts_what_is_not_there_or_may_go_any_day() -> None:
    assert _rewritten(_rows()[1:], _corrected())[1] == [0]
    assert _rewritten(_rows(), _corrected(), days=5)[1] is None  # no row is young enough: all are cut
