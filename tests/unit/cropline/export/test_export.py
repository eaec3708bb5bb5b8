"""Exports: a condition only selects crops, and each format can be read by its tool."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cropline.catalogue import Catalogue
from cropline.core.errors import CatalogueError, ExportError
from cropline.core.keys import crop_key
from cropline.core.schemas import CROPS
from cropline.core.storage import write
from cropline.core.store_spec import StoreSpec
from cropline.export import FORMATS, Choice, Exported, Layout
from cropline.export import export as write_export
from cropline.packs import Sample, Spool, pack_folder
from tests.photos import drawn, encoded
from tests.unit.cropline.catalogue.test_catalogue import NOW

STORES = ("s1", "s2")


def _row(image: int, box: int, data: bytes, **more: Any) -> dict[str, Any]:
    return {
        "source": "cams", "image_id": f"photo {image}", "version": "v1", "profile": "default", "fingerprint": "f" * 64,
        "box_id": f"b{box}", "box_index": box, "status": "written", "label": f"cola {box}", "store_id": STORES[image % 2],
        "key": f"crops/default-1/cams-1/photo-{image}/ffff/{box:04d}-b{box}.jpg", "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(), "width": 40, "height": 30, "format": "jpeg",
        "left": 10 * box, "top": 5, "right": 10 * box + 40, "bottom": 35, "image_width": 400, "image_height": 300,
        "captured_at": f"2026-11-{1 + image:02d}T08:00:00+00:00",
    } | more  # fmt: skip


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> StoreSpec:
    """Three photos of two boxes each. Their crops are objects, in a tar, and in a Parquet file."""
    spec = StoreSpec(tmp_path_factory.mktemp("store").as_uri())
    rows = []
    for image, kind in enumerate(("objects", "shards", "parquet")):
        pictures = [encoded(drawn(40, 30, seed=10 * image + box)) for box in range(2)]
        mine = [_row(image, box, data) for box, data in enumerate(pictures)]
        if kind == "objects":
            for row, data in zip(mine, pictures, strict=True):
                write(spec, row["key"], data)
        else:
            spool = Spool(spec, kind, pack_folder("default", "b1"))
            for row, data in zip(mine, pictures, strict=True):
                spool.add(Sample(row["key"][6:-4], "jpg", {"key": row["key"]}, data))
            shard, sealed = spool.put()
            mine = [row | {"shard": shard, "offset": at} for row, at in zip(mine, sealed.offsets, strict=True)]
        rows += mine
    rows.append(_row(9, 0, b"", status="failed", reason="http_404", key=None, bytes=None, sha256=None))
    Catalogue(spec).append(
        pa.Table.from_pylist(rows, schema=CROPS), batch_id="b1", attempt=1, flow_run="run", committed_at=NOW
    )
    return spec


def export(
    spec: StoreSpec, out: Path, *, where: str | None, kind: str, profiles: tuple[str, ...] = (), **layout: Any
) -> Exported:
    return write_export(spec, out, Choice(where, profiles), Layout(kind, **layout))


def _hashes(spec: StoreSpec, where: str) -> set[str]:
    rows = Catalogue(spec).rows().to_pylist()
    return {row["sha256"] for row in rows if row["status"] == "written" and eval(where, {}, row)}


def test_a_folder_is_an_imagefolder(spec: StoreSpec, tmp_path: Path) -> None:
    done = export(spec, tmp_path / "out", where="store_id = 's1' and captured_at >= '2026-11-02'", kind="folder")
    lines = [json.loads(line) for line in (tmp_path / "out/metadata.jsonl").read_text().splitlines()]
    found = {hashlib.sha256((tmp_path / "out" / line["file_name"]).read_bytes()).hexdigest() for line in lines}
    assert found == {line["sha256"] for line in lines} == _hashes(spec, "image_id == 'photo 2'")
    assert (done.crops, len(list((tmp_path / "out/images").rglob("*.jpg")))) == (2, 2)
    assert {line["label"] for line in lines} == {"cola 0", "cola 1"}


def test_webdataset_reads_an_export(spec: StoreSpec, tmp_path: Path) -> None:
    import webdataset

    export(spec, tmp_path / "out", where=None, kind="webdataset")
    samples = list(webdataset.WebDataset(str(tmp_path / "out/000000.tar"), shardshuffle=False))
    assert {hashlib.sha256(sample["jpg"]).hexdigest() for sample in samples} == _hashes(spec, "True")
    assert all(json.loads(sample["json"])["sha256"] == hashlib.sha256(sample["jpg"]).hexdigest() for sample in samples)


def test_a_parquet_export_holds_the_pictures(spec: StoreSpec, tmp_path: Path) -> None:
    export(spec, tmp_path / "out", where="label = 'cola 1'", kind="parquet")
    rows = pq.read_table(tmp_path / "out/000000.parquet").to_pylist()
    assert {hashlib.sha256(row["image"]["bytes"]).hexdigest() for row in rows} == _hashes(spec, "box_index == 1")
    with Image.open(io.BytesIO(rows[0]["image"]["bytes"])) as picture:
        assert picture.size == (40, 30)


IN_ZONE = """
import sys
from pathlib import Path
import cropline
from cropline.core.store_spec import StoreSpec
from cropline.export import Layout, Choice, export
where = "captured_at >= '2026-11-02 07:00:00' and captured_at < '2026-11-02 09:00:00'"
export(StoreSpec(sys.argv[1]), Path(sys.argv[2]), Choice(where), Layout("folder"))
rows = cropline.read_crops(where, storage=sys.argv[1], frame="arrow")
print(rows.num_rows, rows["captured_at"].type, rows["captured_at"][0].as_py().isoformat())
"""


@pytest.mark.parametrize("zone", ["America/New_York", pytest.param("Asia/Tokyo", marks=pytest.mark.slow)])
def test_a_time_in_a_condition_is_utc_whatever_the_machine(spec: StoreSpec, tmp_path: Path, zone: str) -> None:
    """Photo 1 was taken at 08:00 UTC. In New York or Tokyo, the texts would mean other hours."""
    ran = subprocess.run(
        [sys.executable, "-c", IN_ZONE, spec.url, str(tmp_path / "out")],
        env=os.environ | {"TZ": zone},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split() == ["2", "timestamp[us,", "tz=UTC]", "2026-11-02T08:00:00+00:00"]
    lines = [json.loads(line) for line in (tmp_path / "out/metadata.jsonl").read_text().splitlines()]
    told = [(line["image_id"], line["captured_at"], line["committed_at"]) for line in lines]
    assert told == [("photo 1", "2026-11-02T08:00:00+00:00", NOW.isoformat())] * 2


SETTING = """
import pyarrow as pa
from cropline.catalogue.sql import connect
rows = pa.RecordBatchReader.from_batches(pa.schema([("a", pa.int64())]), [])
database = connect(rows)
print(database.execute("SELECT current_setting('enable_progress_bar')").fetchone())
"""


def test_a_slow_query_draws_no_bar_into_the_output() -> None:
    """DuckDB draws one where Python runs no file, unless it is told not to."""
    ran = subprocess.run([sys.executable, "-c", SETTING], capture_output=True, text=True, check=True)
    assert ran.stdout == "(False,)\n"


@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_export_is_the_same_bytes(spec: StoreSpec, tmp_path: Path, kind: str) -> None:
    def files(out: Path) -> dict[str, bytes]:
        export(spec, out, where="width = 40", kind=kind)
        return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}

    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("kind", FORMATS)
def test_crops_of_one_box_by_several_profiles_are_all_there(tmp_path: Path, kind: str) -> None:
    import webdataset

    spec = StoreSpec((tmp_path / "store").as_uri())
    pictures = {f"{'long-profile-name-' * 2}{n}": encoded(drawn(40, 30, seed=n)) for n in range(3)}
    rows = []
    for name, data in pictures.items():
        key = crop_key("s" * 300, "i" * 300, name, "f" * 64, 0, "b" * 300, "jpg")
        rows.append(_row(0, 0, data, profile=name, key=key))
        write(spec, key, data)
    table = pa.Table.from_pylist(rows, schema=CROPS)
    Catalogue(spec).append(table, batch_id="b1", attempt=1, flow_run="run", committed_at=NOW)
    with pytest.raises(ExportError, match=r"of the profiles long-\S+, long-\S+, long-\S+, so boxes .* name one with"):
        export(spec, tmp_path / "out", where=None, kind=kind)
    if kind == "coco":
        with pytest.raises(ExportError, match=r"one annotation per box.*: name one with --profile$"):
            export(spec, tmp_path / "out", where=None, kind=kind, profiles=tuple(pictures))
        pictures = dict(list(pictures.items())[:1])
    export(spec, tmp_path / "out", where=None, kind=kind, profiles=tuple(pictures))
    if kind == "webdataset":
        found = [s["jpg"] for s in webdataset.WebDataset(str(tmp_path / "out/000000.tar"), shardshuffle=False)]
    elif kind == "parquet":
        found = [row["image"]["bytes"] for row in pq.read_table(tmp_path / "out/000000.parquet").to_pylist()]
    else:
        found = [path.read_bytes() for path in (tmp_path / "out").rglob("*.jpg")]
    assert sorted(found) == sorted(pictures.values())


def _strict(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_json_is_strict_and_names_values_that_are_not_numbers(tmp_path: Path) -> None:
    import webdataset

    spec = StoreSpec((tmp_path / "store").as_uri())
    data = encoded(drawn(40, 30, seed=1))
    rows = [_row(0, box, data, score=score) for box, score in enumerate((float("inf"), float("nan"), 0.5))]
    for row in rows:
        write(spec, row["key"], data)
    table = pa.Table.from_pylist(rows, schema=CROPS)
    Catalogue(spec).append(table, batch_id="b1", attempt=1, flow_run="run", committed_at=NOW)
    for kind in FORMATS:
        assert export(spec, tmp_path / kind, where=None, kind=kind).no_numbers == 2
    lines = [_strict(line) for line in (tmp_path / "folder/metadata.jsonl").read_text().splitlines()]
    assert [line["score"] for line in lines] == [None, None, 0.5]
    samples = webdataset.WebDataset(str(tmp_path / "webdataset/000000.tar"), shardshuffle=False)
    assert [_strict(sample["json"].decode())["score"] for sample in samples] == [None, None, 0.5]
    assert len(_strict((tmp_path / "coco/annotations.json").read_text())["annotations"]) == 3


KILLED = """
import os, signal, sys
from pathlib import Path
from cropline.export import Choice, Layout, export
from cropline.core.store_spec import StoreSpec
written = 0
def watch(frame, event, arg):
    global written
    if event == "return" and frame.f_code.co_name == "add" and frame.f_code.co_filename.endswith("/export/record.py"):
        written += 1
        if written == 4:
            os.kill(os.getpid(), signal.SIGKILL)
sys.setprofile(watch)
export(StoreSpec(sys.argv[1]), Path(sys.argv[2]), Choice(), Layout(sys.argv[3]))
"""


@pytest.mark.parametrize("kind", FORMATS)
def test_killed_in_the_middle_nothing_is_there_and_run_again_it_is_all_there(
    spec: StoreSpec, tmp_path: Path, kind: str
) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, spec.url, str(tmp_path / "out"), kind], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert export(spec, tmp_path / "out", where=None, kind=kind).crops == 6
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "what the killed one left is gone"


@pytest.mark.parametrize(
    "where",
    [
        "1 = 1) UNION SELECT * FROM crops --",
        "true; COPY crops TO '{out}/stolen.csv'",
        "exists (SELECT 1 FROM read_text('/etc/hostname'))",
        "exists (SELECT 1 FROM '/etc/hostname')",
        "exists (SELECT 1 FROM read_csv('http://127.0.0.1:1/x'))",
        "exists (SELECT 1 FROM glob('/etc/*'))",
        "exists (SELECT 1 FROM dataset)",
        "label = ",
        "",
        "no_such_column = 1",
        "count(*) > 1",
    ],
)
def test_a_condition_reads_the_catalogue_and_nothing_else(spec: StoreSpec, tmp_path: Path, where: str) -> None:
    with pytest.raises(ExportError, match=r"^--where: "):
        export(spec, tmp_path / "out", where=where.format(out=tmp_path), kind="folder")
    assert list(tmp_path.iterdir()) == [], "nothing half done may stay"


def test_a_folder_that_holds_something_is_left_alone(spec: StoreSpec, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ExportError, match="not empty"):
        export(spec, tmp_path, where=None, kind="folder")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_without_a_catalogue_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="no catalogue yet"):
        export(StoreSpec((tmp_path / "none").as_uri()), tmp_path / "out", where=None, kind="folder")


@pytest.mark.parametrize("name", ["elsewhere-{pid}", "elsewhere-2222222", "99999999999999999999", "{host}-{pid}"])
def test_files_of_an_export_that_may_still_run_are_kept(spec: StoreSpec, tmp_path: Path, name: str) -> None:
    """For example those of another machine that shares the folder: its process ids mean nothing here."""
    named = name.format(pid=os.getppid(), host=socket.gethostname())
    other = tmp_path / f"out.unfinished-{named}" / "0.tar"
    other.parent.mkdir()
    other.write_bytes(b"half")
    export(spec, tmp_path / "out", where=None, kind=next(iter(FORMATS)))
    assert other.read_bytes() == b"half"
