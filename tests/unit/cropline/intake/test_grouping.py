"""Items with one box each become one row per photo, from any pages or polls."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cropline.backfill.listings import polled
from cropline.backfill.request import Photos
from cropline.config.settings import ApiSettings
from cropline.core.store_spec import StoreSpec
from cropline.intake import manifest
from cropline.intake.grouping import grouped_rows

API = ApiSettings(
    url="http://cameras.example",
    group_by_image=True,
    coordinates="pixels",
    fields={"image_id": "photo", "url": "photo", "version": "photo", "box_id": "row_id"},
)


def box(photo: str, row_id: int, minute: int, **more: Any) -> dict[str, Any]:
    place = {"xmin": row_id, "ymin": 0, "xmax": row_id + 10, "ymax": 10}
    return {"photo": photo, "row_id": row_id, "updated_at": f"2026-11-22T08:{minute:02}:00Z", **place, **more}


def group(
    folder: Path, items: list[dict[str, Any]], places: Mapping[str, tuple[str, int]] | None = None
) -> list[dict[str, Any]]:
    spool = folder / "items.ndjson"
    spool.write_text("".join(json.dumps(item) + "\n" for item in items))
    return list(grouped_rows(spool, API, StoreSpec(folder.as_uri()), lambda ids: places or {}))


def test_boxes_of_a_photo_come_together_from_all_over_the_poll(tmp_path: Path) -> None:
    rows = group(tmp_path, [box("a", 1, 1), box("b", 2, 2), box("a", 3, 5, store_id="S1"), box("a", 4, 3)])
    assert [(row["row"], row["image_id"], [b["box_id"] for b in row["boxes"]]) for row in rows] == [
        (0, "a", ["1", "3", "4"]),
        (1, "b", ["2"]),
    ]
    # The newest item decides the photo's fields.
    assert (rows[0]["store_id"], rows[0]["updated_at"].minute) == ("S1", 5)


def test_a_box_that_comes_again_is_the_newer_one(tmp_path: Path) -> None:
    [row] = group(tmp_path, [box("a", 1, 1), box("a", 1, 2, xmax=99)])
    assert [b["xmax"] for b in row["boxes"]] == [99]


def test_a_later_box_joins_those_that_were_registered_before(tmp_path: Path) -> None:
    spec = StoreSpec(tmp_path.as_uri())
    first = group(tmp_path, [box("x", 9, 1), box("a", 1, 1), box("a", 2, 1)])
    manifest.write_rows(first, tmp_path / "first.parquet")
    key = manifest.land(tmp_path / "first.parquet", "cams", "2026-11-22", spec)
    [row] = group(tmp_path, [box("a", 3, 7)], {"a": (key, 1)})
    assert [b["box_id"] for b in row["boxes"]] == ["1", "2", "3"]
    assert row["unreadable"] == []
    assert row["content_hash"] != first[1]["content_hash"]


def test_a_photo_whose_earlier_boxes_are_gone_is_unreadable_not_smaller(tmp_path: Path) -> None:
    [row] = group(tmp_path, [box("a", 3, 7)], {"a": ("manifests/cams/2026-11-22/gone.parquet", 1)})
    assert row["unreadable"] == ["boxes"]


def test_what_cannot_be_read_is_named_by_its_place_in_the_photo(tmp_path: Path) -> None:
    [row] = group(tmp_path, [box("a", 1, 5), box("a", 2, 2, xmin="odd"), box("a", 3, 1, store_id=[])])
    assert row["unreadable"] == ["boxes[1].xmin", "store_id"]
    assert len(json.loads(row["raw"])) == 3, "every item that it is made of, to be mapped again"


@pytest.mark.parametrize("item", [{"row_id": 1}, {"photo": None}, [1], "x"])
def test_an_item_without_a_photo_is_a_row_of_its_own(tmp_path: Path, item: Any) -> None:
    rows = group(tmp_path, [item, box("a", 1, 1), item])
    assert [row.get("image_id") for row in rows] == [None, "a", None]
    assert [row["row"] for row in rows] == [0, 1, 2]


def test_a_backfill_of_the_listing_puts_boxes_together_too(tmp_path: Path) -> None:
    spec = StoreSpec(tmp_path.as_uri())
    listed = [[box("a", 1, 1)], [box("b", 2, 2), box("a", 3, 3)]]
    announced = polled(
        listed, API, Photos(), tmp_path, None, lambda spool: grouped_rows(spool, API, spec, lambda ids: {})
    )
    rows = [row for listing in announced.listings for row in listing.read(spec).to_pylist()]
    assert [(row["image_id"], len(row["boxes"])) for row in rows] == [("a", 2), ("b", 1)]
    assert (announced.items, announced.calls) == (3, 2)
