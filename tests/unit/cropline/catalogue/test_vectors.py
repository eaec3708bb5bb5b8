"""Deletion vectors: what we write is what others read, and what others write is read."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from cropline.catalogue import vectors
from cropline.core.errors import CatalogueError
from tests.delta_log import dead_rows


def _sets() -> list[list[int]]:
    rng = np.random.default_rng(18)
    some = [sorted(rng.choice(300_000, size, replace=False).tolist()) for size in (1, 3, 4096, 4097, 70_000)]
    return [[0], [65_535, 65_536], list(range(4096)), list(range(4097)), list(range(200_000)), *some]


@pytest.mark.parametrize("rows", _sets(), ids=lambda rows: str(len(rows)))
def test_a_vector_holds_its_rows_for_us_and_for_another_reader(rows: list[int]) -> None:
    vector = vectors.descriptor(np.array(rows, np.uint32))
    assert vectors.positions(vector).tolist() == rows
    assert sorted(dead_rows(vector)) == rows


def test_a_vector_of_another_writer_is_read() -> None:
    """An inline vector as Delta's own tests have it, of six rows."""
    inline = "^Bg9^0rr910000000000iXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L"
    vector = {"storageType": "i", "pathOrInlineDv": inline, "sizeInBytes": 44, "cardinality": 6}
    assert vectors.positions(vector).tolist() == [3, 4, 7, 11, 18, 29]


def test_containers_with_runs_are_read() -> None:
    """Spark writes runs; we do not."""
    runs = struct.pack("<IB", 12347 | (1 << 16), 0b01) + struct.pack("<HHHH", 0, 11, 1, 1)
    runs += struct.pack("<HHHHH", 2, 5, 9, 100, 1) + struct.pack("<HH", 7, 65_535)
    data = struct.pack("<IQI", 1681511377, 1, 0) + runs
    vector = {"storageType": "i", "pathOrInlineDv": vectors._z85(data), "sizeInBytes": len(data), "cardinality": 14}
    assert vectors.positions(vector).tolist() == [*range(5, 15), 100, 101, 65_543, 131_071]


@pytest.mark.parametrize("text", ["", "0", "~~~~~", "0" * 40, "^Bg9^0rr91"], ids=range(5))
def test_a_damaged_vector_is_one_clear_error(text: str) -> None:
    vector = {"storageType": "i", "pathOrInlineDv": text, "sizeInBytes": 38, "cardinality": 3}
    with pytest.raises(CatalogueError, match="damaged"):
        vectors.positions(vector)
    whole = vectors.descriptor(np.array([1, 2, 3], np.uint32))
    with pytest.raises(CatalogueError, match="names 3 rows instead of 4"):
        vectors.positions({**whole, "cardinality": 4})


def test_delta_rs_leaves_out_the_rows_of_a_vector(tmp_path: Path) -> None:
    """The same through the reader that most tools use, at a size with a bitmap container."""
    import json

    write_deltalake(str(tmp_path), pa.table({"n": list(range(100_000))}))
    log = tmp_path / "_delta_log"
    (add,) = (json.loads(line)["add"] for line in (log / f"{0:020d}.json").read_text().splitlines() if '"add"' in line)
    dead = np.arange(0, 100_000, 3, dtype=np.uint32)
    gone = {name: add[name] for name in ("path", "size", "partitionValues")} | {"dataChange": True}
    features = {"readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}
    actions = [
        {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **features}},
        {"remove": gone},
        {"add": {**add, "deletionVector": vectors.descriptor(dead)}},
    ]
    (log / f"{1:020d}.json").write_text("\n".join(map(json.dumps, actions)))
    read = pa.table(DeltaTable(str(tmp_path)).scan())["n"].to_pylist()
    assert sorted(read) == [n for n in range(100_000) if n % 3]
