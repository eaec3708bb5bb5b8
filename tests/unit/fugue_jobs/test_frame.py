"""cropline.crop on in-process frames: options, odd columns, paths, keys, windows."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

import cropline
from fugue_jobs.frame.tables import windows
from tests.photos import PhotoServer

WHOLE = {"xmin": 0.0, "ymin": 0.0, "xmax": 1.0, "ymax": 1.0}


pytestmark = pytest.mark.usefixtures("loopback")


def frame(
    server: PhotoServer, *boxes: tuple[float, ...], names: tuple[str, ...] = ("xmin", "ymin", "xmax", "ymax")
) -> Any:
    return pd.DataFrame([{"ImgUrl": server.url("0.jpg")} | dict(zip(names, box, strict=True)) for box in boxes])


def edges(out: pd.DataFrame) -> list[tuple[int, ...]]:
    return list(out[["crop_left", "crop_top", "crop_right", "crop_bottom"]].itertuples(index=False, name=None))


GOOD = (0.1, 0.2, 0.5, 0.6)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"boxes": "yxyx"}, "boxes: 'yxyx' is not one of xyxy, xywh, cxcywh"),
        ({"units": "inches"}, "units: 'inches' is not one of"),
        ({"units": "pixels"}, "units: no box is in pixels"),
        ({"profile": {"max_sise": 3}}, "profile: max_sise: no such field"),
        ({"profile": {"quality": 300}}, "profile: quality: Input should be less than or equal to 100"),
        ({"profile": "nope"}, "profile: there is no 'nope'; CROPLINE_PROFILES has default"),
        ({"profile": "{"}, "profile: not JSON"),
        ({"columns": {"image": "photo"}}, "columns: the frame has no column 'photo' for the image"),
        ({"columns": {"box": ["a", "b"]}}, "columns: a box has four columns, not 2"),
        ({"columns": {"picture": "a"}}, "columns: unknown key 'picture'"),
        ({"columns": {"label": "sku"}}, "columns: the frame has no column 'sku' for the label"),
        ({"prefix": "x"}, "prefix: the frame has a column 'xstatus' already"),
        ({"store": "s3://"}, "store: must be"),
        ({"store": "memory:///"}, "store: memory:/// exists in one process"),
        ({"store": "file:///proc/no"}, "store: cannot use file:///proc/no"),
        ({"files": "/no/such"}, "files: /no/such is not a folder"),
        ({"processes": -1}, "processes: must be a whole number"),
        ({"engine": "abacus"}, "engine: Fugue does not know 'abacus'"),
    ],
)
def test_a_wrong_option_is_named_in_one_line_before_anything_is_fetched(
    server: PhotoServer, options: dict[str, Any], told: str
) -> None:
    server.served.clear()
    with pytest.raises(cropline.OptionError) as raised:
        cropline.crop(frame(server, GOOD).assign(xstatus=1), **options)
    assert str(raised.value).startswith(told)
    assert "\n" not in str(raised.value)
    assert not server.served


def test_boxes_in_another_convention_are_refused_and_one_bad_box_is_a_row(server: PhotoServer) -> None:
    with pytest.raises(cropline.OptionError, match="units: no box is normalised"):
        cropline.crop(frame(server, (10, 20, 50, 60)))
    with pytest.raises(cropline.OptionError, match="boxes: no box is xyxy"):
        cropline.crop(frame(server, (0.5, 0.5, 0.1, 0.1), (0.6, 0.6, 0.2, 0.2)))
    out = cropline.crop(frame(server, (0.5, 0.5, 0.1, 0.1), GOOD, (1.2, 0.1, 1.4, 0.2)))
    assert out["crop_reason"].tolist() == ["box_inverted", None, "box_outside"]


def test_every_way_to_write_a_box_gives_the_same_crop(server: PhotoServer) -> None:
    transport_names = [
        ((0.1, 0.2, 0.5, 0.6), {}),
        ((0.1, 0.2, 0.4, 0.4), {"boxes": "xywh"}),
        ((0.3, 0.4, 0.4, 0.4), {"boxes": "cxcywh"}),
        ((10, 20, 50, 60), {"units": "percent"}),
        ((20, 20, 100, 60), {"units": "pixels"}),
        ((20, 20, 80, 40), {"units": "pixels", "boxes": "xywh"}),
    ]
    names = ("a", "b", "c", "d")
    for box, options in transport_names:
        out = cropline.crop(frame(server, box, names=names), columns={"box": list(names)}, **options)  # type: ignore[arg-type]
        assert edges(out) == [(20, 20, 100, 60)], options


def test_a_frames_index_order_and_odd_columns_stay(server: PhotoServer) -> None:
    given = frame(server, GOOD, (0, 0, 1, 1), (0.2, 0.2, 0.4, 0.4)).set_index(pd.Index(["b", "a", "b"], name="own"))
    given["ImgUrl"] = pd.Categorical([server.url("1.jpg"), server.url("0.jpg"), server.url("1.jpg")])
    given[7] = [object(), [1], {"a": 2}]
    given["zoned"] = pd.Timestamp("2026-03-29 02:30", tz="UTC").tz_convert("Europe/Oslo")
    given.insert(0, "twice", 1)
    given.insert(0, "twice", 2, allow_duplicates=True)
    before = given.copy()
    out = cropline.crop(given)
    pd.testing.assert_frame_equal(out.iloc[:, : len(before.columns)], before)
    pd.testing.assert_frame_equal(given, before)
    assert out["crop_status"].tolist() == ["written"] * 3


def test_images_are_urls_bytes_or_nothing_in_one_column(server: PhotoServer) -> None:
    data = server.photos["2.jpg"]
    images = [data, server.url("2.jpg"), bytearray(data), None, float("nan"), 7, "", "ftp://host/x.jpg", b"no picture"]  # type: ignore[arg-type]
    out = cropline.crop(pd.DataFrame([{"image": image} | WHOLE for image in images]))
    wanted = [None, None, None, "bad_url", "bad_url", "bad_url", "bad_url", "bad_url", "not_a_picture"]
    assert out["crop_reason"].tolist() == wanted
    assert out["crop_sha256"][:3].nunique() == 1


def test_numbers_may_be_text_and_what_is_no_number_is_a_reason(server: PhotoServer) -> None:
    given = frame(server, GOOD, GOOD, GOOD).astype({"xmin": object})
    given["xmin"] = ["0.1", "wide", None]
    assert cropline.crop(given)["crop_reason"].tolist() == [None, "box_not_finite", "box_not_finite"]


def test_paths_are_read_below_the_named_folder_only(server: PhotoServer, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    for path in (root / "in.jpg", tmp_path / "out.jpg"):
        path.write_bytes(server.photos["0.jpg"])  # type: ignore[arg-type]
    (root / "link.jpg").symlink_to(tmp_path / "out.jpg")
    os.mkfifo(root / "pipe.jpg")
    images = [
        "in.jpg",
        str(root / "in.jpg"),
        "../out.jpg",
        "link.jpg",
        "missing.jpg",
        "pipe.jpg",
        ".",
        "a\0b",
        "/etc/passwd",
    ]
    given = pd.DataFrame([{"image": image} | WHOLE for image in images])
    out = cropline.crop(given, files=root)
    outside, unreadable = "forbidden_path", "file_unreadable"
    wanted = [None, None, outside, outside, unreadable, unreadable, unreadable, unreadable, outside]
    assert out["crop_reason"].tolist() == wanted
    assert set(cropline.crop(given)["crop_reason"]) == {"forbidden_path"}
    small = {"CROPLINE_FETCH__MAX_BYTES": "100"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in small.items():
            patch.setenv(name, value)
        assert cropline.crop(given[:1], files=root)["crop_reason"].tolist() == ["too_large"]


def test_nested_boxes_give_lists_of_their_length(server: PhotoServer) -> None:
    boxes: list[Any] = [
        [[0.1, 0.2, 0.5, 0.6], [0.5, 0.5, 0.1, 0.1]],
        [],
        None,
        [{"xmin": 0, "ymin": 0, "xmax": 1, "ymax": 1}],
    ]
    given = pd.DataFrame({"image": [server.url("0.jpg")] * 4, "boxes": boxes})
    out = cropline.crop(given)
    assert out["crop_status"].tolist() == [["written", "failed"], [], None, ["written"]]
    assert out["crop_width"].tolist() == [[80, None], [], None, [200]]
    table = pa.table({"image": given["image"][:3].tolist(), "boxes": boxes[:3]})
    nested = cropline.crop(table)
    assert nested["crop_reason"].to_pylist() == [[None, "box_inverted"], [], None]
    assert nested["crop_width"].type == pa.list_(pa.int64())


def test_a_key_comes_from_image_and_place_and_holds_the_bytes(server: PhotoServer, tmp_path: Path) -> None:
    given = frame(server, GOOD, (0.0, 0.0, 1.0, 1.0))
    first = cropline.crop(given, store=tmp_path / "a")
    for key, sha256 in zip(first["crop_key"], first["crop_sha256"], strict=True):
        assert hashlib.sha256((tmp_path / "a" / key).read_bytes()).hexdigest() == sha256
    signed = given.iloc[::-1].assign(ImgUrl=server.url("0.jpg?signature=canary"))
    second = cropline.crop(signed, store=(tmp_path / "b").as_uri())
    assert second["crop_key"].tolist() == first["crop_key"].tolist()[::-1]
    other = cropline.crop(given, store=tmp_path / "a", profile={"quality": 50})
    assert not set(other["crop_key"]) & set(first["crop_key"])


def test_an_image_of_too_many_boxes_fails_as_in_the_pipeline(
    server: PhotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROPLINE_PICTURES__MAX_BOXES", "2")
    assert set(cropline.crop(frame(server, GOOD, GOOD, GOOD))["crop_reason"]) == {"too_many_boxes"}


def test_an_empty_frame_comes_back_empty_with_its_columns() -> None:
    kinds = {"ImgUrl": pa.string()} | dict.fromkeys(WHOLE, pa.float64())
    table = pa.table({name: pa.array([], kind) for name, kind in kinds.items()})
    batch = pa.RecordBatch.from_pylist([], schema=table.schema)
    for frame in (table, batch, table.to_pandas()):
        out = cropline.crop(frame)
        assert len(out) == 0
        assert type(out) is type(frame)
        assert len(out.columns) == 5 + 13


def test_a_csv_keeps_what_its_text_says(server: PhotoServer, tmp_path: Path) -> None:
    path = tmp_path / "boxes.csv"
    path.write_text(
        f"ImgUrl,xmin,ymin,xmax,ymax,sku,when,n\n{server.url('0.jpg')},0,0,1,1,007,2026-01-01 10:00+01:00,5\n"
    )
    row = cropline.crop(path).iloc[0]
    assert (row["sku"], row["when"], row["n"], row["crop_status"]) == ("007", "2026-01-01 10:00+01:00", 5, "written")
    with pytest.raises(cropline.OptionError, match=r"df: there is no file"):
        cropline.crop(tmp_path / "none.csv")
    with pytest.raises(cropline.OptionError, match=r"df: a builtins.dict is not supported"):
        cropline.crop({})


def test_duckdbs_own_types_stay(server: PhotoServer) -> None:
    database = duckdb.connect()
    query = "SELECT ?::VARCHAR AS url, 0.1 AS x, 0.1 AS y, 0.5 AS w, 0.5 AS h, uuid() AS id, 1::HUGEINT AS n, 'a'::ENUM('a') AS e"
    relation = database.sql(query, params=[server.url("0.jpg")])
    out = cropline.crop(relation, boxes="xywh")
    assert out.types[:8] == relation.types
    assert len(out.filter("crop_status = 'written'").fetchall()) == 1
    assert database.sql("SELECT count(*) FROM duckdb_tables() WHERE table_name LIKE '%_in'").fetchall() == [(0,)]


@pytest.mark.parametrize("size", [1, 7, 5_000])
def test_rows_of_an_image_stay_in_one_window(size: int) -> None:
    images = [f"image-{row // 3}" for row in range(12_000)] + [None] * 9_000
    whole = pa.table({"image": pa.array(images), "row": range(len(images))})
    parts = list(windows(whole.to_batches(max_chunksize=size), "image"))
    assert pa.concat_tables(parts).equals(whole)
    assert len(parts) > 1
    seen: set[str] = set()
    for part in parts:
        own = {image for image in part["image"].to_pylist() if image is not None}
        assert not own & seen
        seen |= own


def test_the_front_door_imports_nothing_heavy() -> None:
    code = (
        "import sys, time; began = time.process_time(); import cropline; cost = time.process_time() - began\n"
        "assert cost < 0.15, cost\n"
        "cropline.crop, cropline.Profile\n"
        "heavy = {'prefect', 'great_expectations', 'deltalake', 'sqlalchemy', 'pyspark', 'fugue', 'dlt', 'cropline.state',"
        " 'cropline.catalogue', 'distributed', 'pandas'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
