"""Photos that left the state table come back a portion at a time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from cropline.catalogue import Catalogue
from cropline.core.store_spec import StoreSpec
from cropline.pipeline import known_photos
from cropline.state import ImageState, State
from cropline.state.moved_out import MovedPhotos, Remembered
from tests.unit.cropline.catalogue.test_catalogue import NOW, crops


class Table(State):
    """A state that remembers photos that left, and how they came back."""

    def __init__(self, batches: dict[str, str | None]) -> None:
        self.batches = batches
        self.came: list[list[str]] = []

    def moved_photos(self, source: str, image_ids: Collection[str]) -> MovedPhotos:
        return MovedPhotos(7, {name: Remembered(NOW, self.batches[name]) for name in image_ids if name in self.batches})

    def bring_back(self, source: str, items: Sequence[ImageState]) -> None:
        self.came.append([item.image_id for item in items])


def test_many_photos_are_never_in_memory_at_once_and_those_that_the_catalogue_lost_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = Catalogue(StoreSpec(tmp_path.as_uri()))
    rows = crops(list("abcde"))
    same = {"profile_hash": "hash", "manifest": "manifests/1.parquet", "manifest_row": 0}
    for name, value in same.items():
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, rows.schema.field(at), pa.array([value] * len(rows), rows.schema.field(at).type))
    for number, names in enumerate(("ab", "cde")):
        part = rows.filter(pc.is_in(rows["image_id"], pa.array(list(names))))
        committed = NOW + timedelta(hours=number)
        catalogue.append(part, batch_id=f"batch-{number}", attempt=1, flow_run="run", committed_at=committed)
    # b: another installation superseded it; lost: the catalogue has nothing of it.
    table = Table({"a": "batch-0", "b": "batch-1", "c": None, "d": "batch-1", "lost": "batch-1"})
    monkeypatch.setattr(known_photos, "_PHOTOS_AT_ONCE", 2)
    moves, lost = known_photos.bring_back(table, catalogue, "cameras", [*"abcde", "lost", "new"])
    assert (moves, lost) == (7, {"lost"})
    assert [sorted(part) for part in table.came] == [["a", "b"], ["c", "d"], []]
    assert [item.image_id for item in known_photos.moved_items(table, catalogue, "cameras", "abd")] == ["a", "b", "d"]
