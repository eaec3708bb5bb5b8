"""A batch's rows are read where they are needed, and only the row groups of a manifest that contain them."""

import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cropline.core import storage
from cropline.core.errors import ManifestError
from cropline.core.store_spec import StoreSpec
from fugue_jobs.engines.manifests import IMAGE_ROWS, ManifestRows, load_rows, sizes
from tests.contract import jobs


def rows(count: int) -> list[dict[str, Any]]:
    boxes = [jobs.box("a", 0.1, 0.2, 0.5, 0.6)]
    return [jobs.image(i, f"http://h/{i}.jpg?signature=canary", boxes * (i % 4), bytes=i) for i in range(count)]


@pytest.fixture
def store(tmp_path: Path) -> StoreSpec:
    return StoreSpec(tmp_path.as_uri())


def test_rows_are_those_that_were_landed(store: StoreSpec) -> None:
    jobs.landed(store, rows(8))
    wanted = ManifestRows.of(store, pa.table({"manifest": [jobs.MANIFEST] * 3, "manifest_row": [7, 0, 3]}))
    assert wanted.table().schema.equals(IMAGE_ROWS)
    assert wanted.table().to_pylist() == [
        rows(8)[i] | {"captured_at": "2026-11-22T08:40:00.000000Z"} for i in (0, 3, 7)
    ]


def test_sizes_are_told_without_the_rows_and_are_theirs(store: StoreSpec) -> None:
    landed = jobs.landed(store, rows(8))
    assert sizes(landed).equals(sizes(load_rows(landed)))
    assert sizes(landed)["boxes"].to_pylist() == [i % 4 for i in range(8)]
    assert sizes(landed)["bytes"].to_pylist() == list(range(8))


def test_no_more_of_a_manifest_is_read_than_the_row_groups_of_the_batch(store: StoreSpec) -> None:
    jobs.landed(store, rows(30))  # ten row groups
    data = bytearray(storage.read(store, jobs.MANIFEST))
    metadata = pq.read_metadata(pa.BufferReader(bytes(data)))
    for group in (number for number in range(metadata.num_row_groups) if number != 4):
        for column in (metadata.row_group(group).column(i) for i in range(metadata.num_columns)):
            start = column.dictionary_page_offset or column.data_page_offset
            data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    storage.write(store, jobs.MANIFEST, bytes(data))
    batch = ManifestRows(store, ((jobs.MANIFEST, (12, 14)),))
    assert batch.table()["image_id"].to_pylist() == ["image-12", "image-14"]
    assert batch.counts["boxes"].to_pylist() == [0, 2]
    with pytest.raises((ManifestError, OSError)):
        ManifestRows(store, ((jobs.MANIFEST, (2,)),)).table()


def test_what_is_sent_to_the_workers_holds_no_row(store: StoreSpec) -> None:
    landed = jobs.landed(store, rows(2_500), group=500)
    assert [len(part["rows"]) for part in landed.parts.to_pylist()] == [1_000, 1_000, 500]
    sent = pickle.dumps((landed.reader, landed.parts))
    assert b"canary" not in sent
    assert b"image-7" not in sent
    read = pa.Table.from_batches(landed.reader(landed.parts.to_batches()))
    assert read.equals(landed.table())


def test_a_row_that_its_manifest_does_not_have_is_missing(store: StoreSpec) -> None:
    jobs.landed(store, rows(4))
    beyond = ManifestRows(store, ((jobs.MANIFEST, (3, 4, 900)),))
    assert beyond.counts["manifest_row"].to_pylist() == [3]
    assert ManifestRows(store, ((jobs.MANIFEST, (900,)),)).table().num_rows == 0


def test_a_manifest_that_is_not_there_is_told_by_its_key(store: StoreSpec) -> None:
    with pytest.raises(ManifestError, match=r"manifest manifests/gone\.parquet"):
        ManifestRows(store, (("manifests/gone.parquet", (0,)),)).table()
