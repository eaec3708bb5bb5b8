"""The catalogue suite: a good batch passes, and each fault breaks only its own rule."""

import hashlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from cropline.core.schemas import CLAIM, CROPS
from cropline.core.storage import write
from cropline.core.store_spec import StoreSpec
from expectations.catalogue import (
    CROP_RULES,
    OBJECT_RULES,
    UNWRITTEN_RULES,
    WORK_RULES,
    BatchVerdict,
    check_batch,
    claimed_boxes,
)
from expectations.objects import read_objects, sample_keys

SPEC = StoreSpec("memory:///catalogue-suite")
Row = dict[str, Any]


def content(image: int, box: int) -> bytes:
    return f"crop {image} {box}".encode() * 9


def crop_row(image: int, box: int, **changes: Any) -> Row:
    data = content(image, box)
    return {
        "source": "cameras",
        "image_id": f"img-{image}",
        "profile": "default",
        "box_index": box,
        "status": "written",
        "key": f"crops/{image}/{box}.jpg",
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "width": 300,
        "height": 200,
        "format": "jpeg",
        "left": 100,
        "top": 50,
        "right": 400,
        "bottom": 250,
        "image_width": 4000,
        "image_height": 3000,
    } | changes


def unwritten(image: int, box: int, status: str, reason: str | None) -> Row:
    nothing = dict.fromkeys(("key", "bytes", "sha256", "width", "height", "format", "left", "top", "right", "bottom"))
    return crop_row(image, box, **nothing, status=status, reason=reason)


def good_batch() -> list[Row]:
    """Three images with 3, 2 and 0 boxes; one box failed."""
    rows = [crop_row(image, box) for image, boxes in ((0, 3), (1, 1)) for box in range(boxes)]
    return [*rows, unwritten(1, 1, "failed", "http_404")]


@pytest.fixture(scope="module", autouse=True)
def objects_of_the_good_batch() -> None:
    for row in good_batch():
        if row["key"]:
            write(SPEC, row["key"], content(int(row["image_id"][4:]), row["box_index"]))


def claimed() -> pa.Table:
    counts = [{"manifest": "m", "manifest_row": n, "boxes": boxes} for n, boxes in enumerate((3, 2, 0))]
    work = [{"profile": "default"}]
    claims = [
        {"source": "cameras", "image_id": f"img-{n}", "manifest": "m", "manifest_row": n, "work": work}
        for n in (2, 0, 1)
    ]
    return claimed_boxes(pa.Table.from_pylist(counts), pa.Table.from_pylist(claims, schema=CLAIM))


def judge(rows: list[Row], keys: list[str] | None = None) -> BatchVerdict:
    crops = pa.Table.from_pylist(rows, schema=CROPS)
    wanted = sample_keys(crops, 100) if keys is None else keys
    return check_batch(crops, claimed(), read_objects(SPEC, crops, wanted))


def test_a_good_batch_breaks_nothing() -> None:
    verdict = judge(good_batch())
    assert (verdict.critical, verdict.broken) == ([], {})
    assert {outcome.name for outcome in verdict.outcomes} == {
        rule.name for rule in (*WORK_RULES, *CROP_RULES, *UNWRITTEN_RULES, *OBJECT_RULES)
    }


def test_a_lossless_crop_contains_its_box() -> None:
    def broken(**changes: Any) -> list[str]:
        rows = good_batch()
        rows[0].update(changes)
        return list(judge(rows, []).broken)

    assert not broken(width=312, height=209, box_left=12, box_top=9)
    assert not broken(width=315, height=209, box_left=0, box_top=9)
    for changes in ({"width": 311}, {"height": 208}, {"box_left": -1}, {"box_top": None}):
        assert broken(**{"width": 312, "height": 209, "box_left": 12, "box_top": 9} | changes) == [
            "size_matches_region"
        ]


def test_claimed_boxes_are_counted_for_each_work_item() -> None:
    counts = {row["image_id"]: row["boxes"] for row in claimed().to_pylist()}
    assert counts == {"img-0": 3, "img-1": 2, "img-2": 0}
    assert list(counts) == ["img-2", "img-0", "img-1"]


def changed(position: int, **changes: Any) -> Callable[[list[Row]], None]:
    return lambda rows: rows[position].update(changes)


def swapped_keys(rows: list[Row]) -> None:
    rows[0]["key"], rows[1]["key"] = rows[1]["key"], rows[0]["key"]


SABOTAGES: dict[str, tuple[Callable[[list[Row]], None], dict[str, list[int]]]] = {
    "a row is lost": (lambda rows: rows.pop(), {"boxes_all_accounted": [2]}),
    "a row too many": (
        lambda rows: rows.append(crop_row(2, 0, key="crops/2/0.jpg")),
        {"boxes_none_invented": [0], "object_there": [5]},
    ),
    "a box twice": (lambda rows: rows.append(dict(rows[4])), {"boxes_none_invented": [2], "box_once": [5]}),
    "a key twice": (changed(1, key="crops/0/0.jpg"), {"key_once": [1], "object_hash": [1]}),
    "an unknown status": (changed(4, status="lost"), {"status_known": [4]}),
    "written without a hash": (changed(0, sha256=None), {"written_complete": [0], "object_hash": [0]}),
    "failed with a key": (changed(4, key="crops/9.jpg"), {"unwritten_without_key": [4]}),
    "failed without a reason": (changed(4, reason=None), {"reason_present": [4]}),
    "failed for an unheard-of reason": (changed(4, reason="bad luck"), {"reason_known": [4]}),
    "skipped for a reason": (changed(4, status="skipped", reason="http_404"), {}),
    "region beyond the picture": (changed(2, left=3900, right=4200), {"region_in_picture": [2]}),
    "region without area": (changed(2, left=400), {"region_in_picture": [2], "size_matches_region": [2]}),
    "as large as something else": (changed(3, width=299), {"size_matches_region": [3]}),
    "enlarged": (changed(3, width=600, height=400), {"size_matches_region": [3]}),
    "shrunk in proportion": (changed(3, width=100, height=67), {}),
    "shrunk out of proportion": (changed(3, width=100, height=69), {"size_matches_region": [3]}),
    "shrunk to a line": (changed(3, right=4000, bottom=51, width=100, height=1), {}),
    "the object is not there": (changed(3, key="crops/none.jpg"), {"object_there": [3]}),
    "another size": (changed(3, bytes=1), {"object_size": [3]}),
    "two crops exchanged": (swapped_keys, {"object_hash": [0, 1]}),
}


@pytest.mark.parametrize("name", SABOTAGES)
def test_each_fault_breaks_only_its_rule(name: str) -> None:
    sabotage, broken = SABOTAGES[name]
    rows = good_batch()
    sabotage(rows)
    verdict = judge(rows)
    assert verdict.broken == broken
    severities = {outcome.name: outcome.severity for outcome in verdict.outcomes}
    assert set(verdict.critical) == {name for name in broken if severities[name] == "critical"}


def test_every_rule_is_broken_by_some_fault() -> None:
    rules = {rule.name for rule in (*WORK_RULES, *CROP_RULES, *UNWRITTEN_RULES, *OBJECT_RULES)}
    assert {name for _, broken in SABOTAGES.values() for name in broken} == rules


def test_rows_of_unclaimed_work_items_are_reported_as_invented() -> None:
    rows = [*good_batch(), crop_row(7, 0, key="crops/7/0.jpg")]
    assert judge(rows, keys=[]).broken == {"boxes_none_invented": [3]}


def test_a_batch_without_any_box_is_good() -> None:
    nothing = check_batch(CROPS.empty_table(), claimed().slice(0, 1), {})
    assert nothing.broken == {}


@pytest.mark.parametrize(("at_most", "count"), [(0, 0), (1, 1), (3, 2), (4, 4), (100, 4)])
def test_samples_are_spread_and_repeatable(at_most: int, count: int) -> None:
    crops = pa.Table.from_pylist(good_batch(), schema=CROPS)
    sample = sample_keys(crops, at_most)
    assert len(sample) == count
    assert sample == sample_keys(crops.take(list(reversed(range(len(crops))))), at_most)
