"""Quarantined rows are mapped again from their items, by the current mapping."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cropline.backfill.remapping import remapped
from cropline.config.settings import ApiSettings
from cropline.core.store_spec import StoreSpec
from cropline.intake import manifest
from cropline.intake.grouping import grouped_rows

MENDED = {"image_id": "photo"}


def _landed(rows: Any, folder: Path) -> tuple[StoreSpec, str]:
    path = folder / "landed.parquet"
    manifest.write_rows(rows, path)
    spec = StoreSpec((folder / "store").as_uri())
    return spec, manifest.land(path, "cams", "2026-11-27", spec)


def _image_ids(api: ApiSettings, spec: StoreSpec, key: str, rows: range, folder: Path) -> tuple[list[Any], int]:
    (listing,), unmapped = remapped({key: rows}, api, spec, folder)
    assert listing.path is not None
    return pq.read_table(listing.path)["image_id"].to_pylist(), unmapped


def test_an_item_is_read_by_the_current_mapping(tmp_path: Path) -> None:
    items = [{"photo": "a"}, {"photo": "b"}]
    spec, key = _landed([manifest.manifest_row(n, item, ApiSettings()) for n, item in enumerate(items)], tmp_path)
    assert _image_ids(ApiSettings(), spec, key, range(2), tmp_path) == ([None, None], 0)
    assert _image_ids(ApiSettings(fields=MENDED), spec, key, range(2), tmp_path) == (["a", "b"], 0)


def test_items_of_one_box_are_not_mapped_one_by_one(tmp_path: Path) -> None:
    """One by one, the boxes of a photo would be versions of it, and only one of them would stay."""
    spool = tmp_path / "items.ndjson"
    spool.write_text("".join(json.dumps({"photo": "a", "id": None, "xmin": n}) + "\n" for n in range(3)))
    api = ApiSettings(group_by_image=True)
    spec, key = _landed(grouped_rows(spool, api, StoreSpec("memory:///"), lambda _: {}), tmp_path)
    mended = ApiSettings(group_by_image=True, fields=MENDED)
    assert _image_ids(mended, spec, key, range(3), tmp_path) == ([None] * 3, 3)


@pytest.mark.parametrize(("grouped", "says"), [(True, "backfill --from api"), (False, "were not stored")])
def test_a_replay_says_why_rows_keep_their_mapping(grouped: bool, says: str) -> None:
    from tasks.plan import _unmapped_note

    assert says in str(_unmapped_note(3, grouped))
    assert _unmapped_note(0, grouped) is None
