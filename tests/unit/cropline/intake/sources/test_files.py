"""Files of every format become items; what cannot be read is named; no new, late or rewritten file is missed."""

from __future__ import annotations

import csv
import gzip
import json
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from cropline.config.settings import ApiSettings, FieldMap
from cropline.config.state import StateSettings
from cropline.core.errors import ApiRefused, SettingsError
from cropline.intake import manifest
from cropline.intake.image_api import open_source
from cropline.intake.sources.base import Page
from cropline.state import State

BOX = {"id": "b0", "label": "cola", "xmin": 0.1, "ymin": 0.2, "xmax": 0.4, "ymax": 0.6}
ITEM = {
    "id": "p0",
    "etag": "v0",
    "url": "https://cdn.example/0.jpg",
    "captured_at": "2026-04-10T08:00:00Z",
    "boxes": [BOX],
}


class Memory:
    """What a poll keeps, in a real state."""

    def __init__(self, state: State) -> None:
        self.state = state

    def unread(self, files: dict[str, str]) -> set[str]:
        return self.state.unread_files("cams", files)

    def list_after(self) -> str | None:
        return self.state.list_after("cams")


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with State.open(StateSettings(url=SecretStr(f"sqlite:///{tmp_path / 'state.db'}"))) as state:
        yield Memory(state)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "ex ports"
    made.mkdir()
    return made


def settings(place: Path | str, **changes: Any) -> ApiSettings:
    return ApiSettings(kind="files", url=str(place), **changes)


def read(api: ApiSettings, memory: Any = None) -> tuple[list[Page], list[str]]:
    source = open_source(api, memory=memory)
    pages = list(source.pages("1970-01-01T00:00:00Z"))
    return pages, list(source.problems)


def rows(api: ApiSettings) -> list[dict[str, Any]]:
    pages, problems = read(api)
    assert problems == []
    return [manifest.manifest_row(0, json.loads(json.dumps(item)), api) for page in pages for item in page.items]


def poll(api: ApiSettings, memory: Memory) -> list[Any]:
    """Read and remember, as a poll does; return the items without their stamps."""
    pages, _ = read(api, memory)
    for page in pages:
        memory.state.remember_files("cams", page.read, page.list_after)
    return [{k: v for k, v in item.items() if k != "source_file"} for page in pages for item in page.items]


def write_csv(file: Path, *lines: dict[str, Any], delimiter: str = ",", encoding: str = "utf-8") -> None:
    with file.open("w", newline="", encoding=encoding) as out:
        table = csv.DictWriter(out, list(lines[0]), delimiter=delimiter)
        table.writeheader()
        table.writerows(lines)


@pytest.mark.parametrize(
    "kind", ["nested.jsonl", "nested.ndjson.gz", "nested.parquet", "nested.csv", "nested.tsv", "x.json"]
)
def test_a_nested_row_is_read_alike_in_every_format(folder: Path, kind: str) -> None:
    file = folder / kind
    cell = ITEM | {"boxes": json.dumps([BOX])}
    match kind.partition(".")[2]:
        case "jsonl":
            file.write_text(f"{json.dumps(ITEM)}\n\n")
        case "ndjson.gz":
            file.write_bytes(gzip.compress(json.dumps(ITEM).encode()))
        case "parquet":
            pq.write_table(pa.Table.from_pylist([ITEM]), file)
        case "csv":
            write_csv(file, cell, delimiter=";", encoding="utf-16")
        case "tsv":
            write_csv(file, cell, delimiter="\t")
        case _:
            file.write_text(json.dumps({"images": [ITEM]}))
    (row,) = rows(settings(file, format="json" if kind == "x.json" else ""))
    assert row["unreadable"] == []
    assert (row["image_id"], row["version"], row["url"]) == ("p0", "v0", ITEM["url"])
    assert row["captured_at"].isoformat() == "2026-04-10T08:00:00+00:00"
    assert [{name: box[name] for name in ("xmin", "ymin", "xmax", "ymax", "label")} for box in row["boxes"]] == [
        {name: BOX[name] for name in ("xmin", "ymin", "xmax", "ymax", "label")}
    ]
    assert row["updated_at"] is not None, "a file without times has that of its last change"


def test_a_relative_address_is_one_below_the_file_and_a_key_stays_as_written(folder: Path) -> None:
    lines = [
        {"id": n, "url": url} for n, url in enumerate(["bü ro/1%.jpg", "s3://bucket/bü ro/1%.jpg", "https://a.b/ü"])
    ]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert [row["url"] for row in rows(settings(folder))] == [
        f"file://{folder.parent}/ex%20ports/b%C3%BC%20ro/1%25.jpg",
        "s3://bucket/bü ro/1%.jpg",
        "https://a.b/%C3%BC",
    ]
    based = settings(folder, url_base="s3://photos/2026")
    assert rows(based)[0]["url"] == "s3://photos/2026/bü ro/1%.jpg"


def test_broken_rows_are_items_with_a_reason_and_the_others_go_on(folder: Path) -> None:
    (folder / "a.csv").write_bytes(b'id,url\n1,a.jpg\n2\n3,c.jpg,d\n4,"' + b"x" * 5000 + b'"\n5,\xff.jpg\n6,f.jpg\n')
    (folder / "b.jsonl").write_text('{"id": 7}\n{"id": \n[1]\n{"id": 8}\n')
    api = settings(folder, max_item_bytes=1_000)
    pages, problems = read(api)
    found = [manifest.manifest_row(0, item, api) for page in pages for item in page.items]
    whole = [row.get("image_id") for row in found if "item" not in row["unreadable"]]
    assert whole == ["1", "5", "6", "7", "8"]
    assert [row["unreadable"] for row in found if row.get("image_id") == "5"] == [["version", "url"]]
    reasons = [json.loads(row["raw"])["problem"].partition(": ")[2] for row in found if "item" in row["unreadable"]]
    assert reasons == [
        "line 3 has 1 cells, the header 2",
        "line 4 has 3 cells, the header 2",
        "line 5 is longer than 1000 bytes",
        "line 2 is not JSON (Expecting value)",
        "line 3 is not an object",
    ]
    assert problems == []


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.parquet", b"no", "cannot be read as Parquet (ArrowInvalid)"),
        ("a.csv", b"", "has no header"),
        ("a.csv", b"id,id\n1,2\n", "has two columns 'id'"),
        ("a.jsonl.gz", b"no", "cannot be read (BadGzipFile)"),
        ("a.json", b"{", "is not JSON (Expecting property name"),
        ("a.json", b"[" * 2_000, "is larger than 1000 bytes, and is read whole; raise CROPLINE_API__MAX_PAGE_BYTES"),
        ("a.json", b'{"a": 1}', "is not a list, and has none at CROPLINE_API__DATA_SELECTOR"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_the_others_are_read(
    folder: Path, memory: Memory, name: str, data: bytes, said: str
) -> None:
    (folder / name).write_bytes(data)
    (folder / f"z{name}").write_text("[]")
    if name.endswith(".json"):
        api = settings(folder, format="json", max_page_bytes=1_000)
    else:
        (folder / "z.jsonl").write_text('{"id": 1}')
        (folder / f"z{name}").unlink()
        api = settings(folder)
    pages, problems = read(api, memory)
    assert len(problems) == 1
    assert problems[0].startswith(f"{folder / name}: {said}")
    assert len([file for page in pages for file in page.read]) == 1, "it is read again by the next poll"


def test_only_new_and_rewritten_files_are_read(folder: Path, memory: Memory) -> None:
    api = settings(folder / "*.jsonl")
    (folder / "a.jsonl").write_text('{"id": 1}')
    assert poll(api, memory) == [{"id": 1}]
    assert poll(api, memory) == []
    (folder / "late.jsonl").write_text('{"id": 2}')
    os.utime(folder / "late.jsonl", (1_600_000_000, 1_600_000_000))  # an old file that was moved here
    (folder / "other.txt").write_text("no")
    assert poll(api, memory) == [{"id": 2}]
    facts = (folder / "a.jsonl").stat()
    (folder / "a.jsonl").write_text('{"id": 3}')  # rewritten in place: the same name, size and time
    os.utime(folder / "a.jsonl", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert poll(api, memory) == [{"id": 3}]
    (folder / "a.jsonl").write_text('{"id": 1}')
    assert poll(api, memory) == [{"id": 1}], "a correction that is taken back"
    assert poll(api, memory) == []


def test_a_later_file_comes_later_so_its_rows_win(folder: Path) -> None:
    for name, moment in (("z", 1_000), ("a", 2_000), ("m", 1_500)):
        (folder / f"{name}.jsonl").write_text(json.dumps({"id": name}))
        os.utime(folder / f"{name}.jsonl", (moment, moment))
    pages, _ = read(settings(folder))
    assert [item["id"] for page in pages for item in page.items] == ["z", "m", "a"]


@pytest.mark.parametrize(
    ("glob", "names"),
    [
        ("*.csv", {"a.csv"}),
        ("**/*.csv", {"a.csv", "x/b.csv", "x/y/c.csv"}),
        ("*/*.csv", {"x/b.csv"}),
        ("x/?.csv", {"x/b.csv"}),
        ("**/[ab].csv", {"a.csv", "x/b.csv"}),
        ("**/[!ab].csv", {"x/y/c.csv"}),
        ("", {"a.csv", "x/b.csv", "x/y/c.csv"}),
        ("x/", {"x/b.csv", "x/y/c.csv"}),
        ("a.csv", {"a.csv"}),
    ],
)
def test_a_glob_names_the_files_that_are_read(folder: Path, glob: str, names: set[str]) -> None:
    (folder / "x" / "y").mkdir(parents=True)
    for name in ("a.csv", "x/b.csv", "x/y/c.csv", "x/note.txt"):
        (folder / name).write_text("id\n1\n")
    pages, _ = read(settings(f"{folder}/{glob}"))
    assert {str(Path(file).relative_to(folder)) for page in pages for file in page.read} == names


def test_an_address_without_a_file_is_refused_with_its_setting(folder: Path) -> None:
    for place in (folder / "none" / "*.csv", folder / "none.csv", folder / "*.csv"):
        with pytest.raises(ApiRefused, match="CROPLINE_API__URL: "):
            read(settings(place))
    with pytest.raises(SettingsError, match="CROPLINE_API__URL: kind files needs a path"):
        open_source(ApiSettings(kind="files"))
    with pytest.raises(ValueError, match=r"a \.json file needs format"):
        settings(folder / "a.json")
    with pytest.raises(ValueError, match="must not hold credentials"):
        settings("s3://key:hush@bucket/a.csv")


def test_coco_is_read_without_further_settings(folder: Path) -> None:
    image = {"id": 7, "file_name": "images/7.jpg", "width": 200, "height": 100, "date_captured": "2026-04-10 08:00:00"}
    box = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 20, 30, 40], "iscrowd": 0}
    lost = box | {"id": 2, "image_id": 8}
    document = {
        "images": [image],
        "annotations": [box, lost, box | {"id": 4, "bbox": None}],
        "categories": [{"id": 3, "name": "cola"}],
    }
    (folder / "a.json").write_text(json.dumps(document))
    good, orphan = rows(settings(folder / "a.json", format="coco"))
    assert (good["image_id"], good["url"]) == ("images/7.jpg", f"file://{folder.parent}/ex%20ports/images/7.jpg")
    assert (good["width"], good["coordinates"], good["captured_at"].hour) == (200, "pixels", 8)
    first, second = good["boxes"]
    assert [first[name] for name in ("box_id", "label", "xmin", "ymin", "xmax", "ymax")] == [
        "1",
        "cola",
        10,
        20,
        40,
        60,
    ]
    assert good["unreadable"] == [f"boxes[1].{side}" for side in ("xmin", "ymin", "xmax", "ymax")]
    assert second["box_id"] == "4", "a box without a place is not left out in silence"
    assert "1 annotations name image 8" in orphan["raw"]


def test_an_export_of_label_studio_is_read_without_further_settings(folder: Path) -> None:
    region = {
        "id": "r",
        "type": "rectanglelabels",
        "original_width": 400,
        "original_height": 200,
        "value": {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": ["cola"]},
    }
    points = {
        "id": "s",
        "type": "polygonlabels",
        "value": {"points": [[10, 20], [40, 20], [40, 60]], "polygonlabels": ["bi"]},
    }
    choice = {"id": "c", "type": "choices", "value": {"choices": ["good"]}}
    old = {"updated_at": "2026-04-01T08:00:00Z", "result": []}
    new = {"updated_at": "2026-04-10T08:00:00Z", "result": [region, points, choice]}
    cancelled = {"updated_at": "2026-04-11T08:00:00Z", "result": [], "was_cancelled": True}
    task = {"id": 5, "data": {"image": "/data/local-files/?d=shop/5.jpg"}, "annotations": [old, new, cancelled]}
    short = {
        "id": 6,
        "image": "https://a.b/6.jpg",
        "label": [region["value"] | {"original_width": 400}],
        "updated_at": "2026-04-10T08:00:00Z",
    }
    (folder / "a.json").write_text(json.dumps([task, short, {"id": 7, "data": {"image": "x.jpg"}, "annotations": []}]))
    api = settings(folder / "a.json", format="label_studio", url_base="s3://bucket/root")
    first, second = rows(api)
    assert (first["image_id"], first["url"], first["width"]) == ("5", "s3://bucket/root/shop/5.jpg", 400)
    assert [[box[name] for name in ("label", "xmin", "ymin", "xmax", "ymax")] for box in first["boxes"]] == [
        ["cola", 0.1, 0.2, 0.4, 0.6],
        ["bi", 0.1, 0.2, 0.4, 0.6],
    ]
    assert (second["image_id"], second["boxes"][0]["xmax"], second["unreadable"]) == ("6", 0.4, [])
    assert first["updated_at"].isoformat() == "2026-04-10T08:00:00+00:00"


def test_a_row_a_box_is_grouped_by_its_photo(folder: Path) -> None:
    write_csv(folder / "a.csv", *({"image_id": "p", "box_id": n, "xmin": "0.1", "url": "p.jpg"} for n in range(2)))
    api = settings(folder, group_by_image=True)
    first, second = rows(api)
    assert (first["image_id"], first["boxes"][0]["box_id"], second["boxes"][0]["box_id"]) == ("p", "0", "1")


def test_times_of_files_are_in_the_format_of_the_items(folder: Path) -> None:
    (folder / "a.jsonl").write_text('{"id": 1, "captured_at": 1775808000000}')
    os.utime(folder / "a.jsonl", (1_775_808_060, 1_775_808_060))
    for form in ("epoch_ms", "%d.%m.%Y %H:%M"):
        (row,) = rows(settings(folder, time_format=form, time_zone="Europe/Berlin", fields=FieldMap(captured_at="")))
        assert row["updated_at"].isoformat() == "2026-04-10T08:01:00+00:00", form


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_large_file_is_read_a_page_at_a_time(folder: Path, kind: str) -> None:
    file, size = folder / f"a.{kind}", 8_000
    line = {"id": "p" * 60, "url": "u" * 200}
    if kind == "csv":
        write_csv(file, *[line] * size)
    elif kind == "jsonl":
        file.write_text(f"{json.dumps(line)}\n" * size)
    else:
        pq.write_table(pa.Table.from_pylist([line | {"n": n} for n in range(size)]), file, row_group_size=1_000)
    tracemalloc.start()
    source = open_source(settings(file))
    assert sum(len(page.items) for page in source.pages("1970-01-01T00:00:00Z")) == size
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2_500_000, "a few pages of 200 rows, and the reader's buffers"
