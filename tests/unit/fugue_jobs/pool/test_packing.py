"""Crops in packs: cut by real processes, found by their offsets alone, complete or absent, whatever process dies."""

import hashlib
import io
import json
import os
import random
import resource
import signal
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import cropline
from cropline.config.pictures import PictureLimits
from cropline.config.profile import Profile
from cropline.config.settings import FetchSettings
from cropline.core.storage import list_keys
from cropline.core.store_spec import StoreSpec
from cropline.packs import KINDS, Sample, new_pack
from cropline.packs.reading import opened, samples
from fugue_jobs.imaging.pixels import Cut
from fugue_jobs.pool.assignment import Assignment
from fugue_jobs.pool.crop_pool import CropPool
from fugue_jobs.pool.packing import Packer
from fugue_jobs.work import Box, CropOutcome, ImageOutcome, ImageWork
from tests.photos import PhotoServer, drawn, encoded, photo_server
from tests.unit.fugue_jobs.imaging.cutting import work_for
from tests.unit.fugue_jobs.pool.test_storing import s3 as s3  # a real S3 server

KIND_AND_STORE = [(kind, where) for kind in KINDS for where in ("file", "s3")]
BOXES = (Box("a", 0.1, 0.1, 0.5, 0.5, "Cola 0.5 l"), Box("b", 0.5, 0.5, 0.9, 0.9, None))


@pytest.fixture(scope="module")
def server() -> Iterator[PhotoServer]:
    with photo_server() as served:
        for number in range(8):
            served.photos[f"{number}.jpg"] = encoded(drawn(400, 300, seed=number))
        yield served


def assignment(spec: StoreSpec, kind: str, full: int = 1_000_000) -> Assignment:
    return Assignment(spec, FetchSettings(allow_loopback=True).options, PictureLimits().options, (("p0", kind, full),))


def works(server: PhotoServer, *names: str) -> list[ImageWork]:
    return [
        work_for(*BOXES, url=server.url(name), image_id=f"../{i} {name}", store_id="s-7")
        for i, name in enumerate(names)
    ]


def packed(
    spec: StoreSpec, kind: str, given: list[ImageWork], full: int = 1_000_000, size: int = 2
) -> list[ImageOutcome]:
    with CropPool(assignment(spec, kind, full), size) as pool:
        return [outcome for _, outcome in sorted(pool.run(given, "batch-1"), key=lambda pair: pair[0])]


def rows(outcomes: list[ImageOutcome]) -> list[dict[str, Any]]:
    return [crop._asdict() for outcome in outcomes for crop in outcome.crops]


@pytest.mark.parametrize(("kind", "where"), KIND_AND_STORE)
def test_each_crop_is_one_range_of_its_pack(
    server: PhotoServer, tmp_path: Path, s3: StoreSpec, kind: str, where: str
) -> None:
    spec = StoreSpec(tmp_path.as_uri()) if where == "file" else StoreSpec(f"{s3.url}/{kind}", s3.endpoint, s3.region)
    names = [f"{number}.jpg" for number in range(8)]
    found = rows(packed(spec, kind, works(server, *names, "missing.jpg"), full=60_000))
    assert [row["reason"] for row in found] == [None] * 16 + ["http_404"] * 2
    written = found[:16]
    assert all(hashlib.sha256(cropline.open_crop(row, spec).read()).hexdigest() == row["sha256"] for row in written)
    shards = {row["shard"] for row in written}
    assert 2 < len(shards) < 16
    beside = {f"{shard[:-4]}.json" for shard in shards} if kind == "shards" else set()
    assert set(list_keys(spec, "shards")) == shards | beside
    assert list_keys(spec, "crops") == []
    if spec.local_path:
        assert not list(spec.local_path.rglob("*#*"))


def test_a_shard_is_read_by_webdataset(server: PhotoServer, tmp_path: Path) -> None:
    import webdataset

    spec = StoreSpec(tmp_path.as_uri())
    written = rows(packed(spec, "shards", works(server, "0.jpg", "1.jpg", "2.jpg"), size=1))
    (shard,) = {row["shard"] for row in written}
    samples = list(webdataset.WebDataset(str(tmp_path / shard), shardshuffle=False).decode("pil"))
    assert len(samples) == 6
    written.sort(key=lambda row: row["offset"])
    for sample, row in zip(samples, written, strict=True):
        assert sample["png"].size == (row["width"], row["height"])
        facts = sample["json"]
        assert (facts["key"], facts["sha256"], facts["store_id"]) == (row["key"], row["sha256"], "s-7")
        assert facts["label"] == BOXES[row["box_index"]].label
    # The index agrees with the rows and with the tar, read independently.
    index = json.loads((tmp_path / shard).with_suffix(".json").read_text())
    with tarfile.open(tmp_path / shard) as tar:
        places = [(m.name.rpartition(".")[0], m.offset_data) for m in tar if m.name.endswith(".png")]
    assert [tuple(pair) for pair in index["samples"]] == places
    assert [row["offset"] for row in written] == [place for _, place in places]
    assert index["shardlist"] == [
        {
            "url": Path(shard).name,
            "nsamples": 6,
            "filesize": (tmp_path / shard).stat().st_size,
        }
    ]


def test_a_parquet_pack_has_the_image_layout_of_datasets(server: PhotoServer, tmp_path: Path) -> None:
    from PIL import Image

    written = rows(packed(StoreSpec(tmp_path.as_uri()), "parquet", works(server, "0.jpg", "1.jpg"), size=1))
    (shard,) = {row["shard"] for row in written}
    table = pq.read_table(tmp_path / shard)
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == table.column_names
    assert features["image"] == {"_type": "Image"}
    for entry, row in zip(table.to_pylist(), sorted(written, key=lambda row: row["offset"]), strict=True):
        assert hashlib.sha256(entry["image"]["bytes"]).hexdigest() == row["sha256"] == entry["sha256"]
        with Image.open(io.BytesIO(entry["image"]["bytes"])) as picture:
            assert picture.size == (row["width"], row["height"])
        assert entry["label"] == BOXES[row["box_index"]].label


@pytest.mark.parametrize("kind", KINDS)
def test_a_lossless_crops_pack_says_where_its_box_is_also_after_a_rewrite(
    server: PhotoServer, tmp_path: Path, kind: str
) -> None:
    pytest.importorskip("cropline_regions")
    spec = StoreSpec(tmp_path.as_uri())
    server.photos["no.jpg"] = encoded(drawn(400, 300), "PNG")
    plain, lossless = (work_for(profiles=(profile,)).orders for profile in (Profile(), Profile(lossless=True)))
    # Of one profile and batch, before and after its recipe was changed.
    given = zip(works(server, "0.jpg", "no.jpg", "1.jpg"), (lossless, lossless, plain), strict=True)
    found = rows(packed(spec, kind, [work._replace(orders=orders) for work, orders in given], size=1))
    assert [row["box_left"] for row in found] == [8, 8, None, None, None, None]
    wanted = {row["sha256"]: {name: row[name] for name in ("box_left", "box_top")} for row in found[:4]}
    shards = {row["shard"] for row in found}
    assert len(shards) == 2
    with (tmp_path / "again").open("w+b") as file:
        for shard in shards:
            with opened(spec, shard) as before:
                stored = list(samples(kind, before))
            again = new_pack(kind, file)
            for sample in stored:
                again.add(sample)
                place = {name: value for name, value in sample.facts.items() if name in ("box_left", "box_top")}
                assert place == wanted.get(sample.facts["sha256"], {})
            again.seal()
            file.seek(0)
            assert [sample.facts for sample in samples(kind, file)] == [sample.facts for sample in stored]
            file.seek(0)
            file.truncate()


@pytest.mark.parametrize("length", [1, 50, 98, 99, 100, 120, 180])
def test_a_tar_is_the_bytes_that_tarfile_writes(tmp_path: Path, length: int) -> None:
    """For any length of a name: a slash splits those over 100 bytes between the two fields that hold them."""
    name = f"{'d' * (length // 2)}/{'n' * (length - length // 2 - 1)}"[-length:].lstrip("/")
    facts, data = {"label": "Cola"}, bytes(1000)
    with (tmp_path / "ours.tar").open("w+b") as file:
        pack = new_pack("shards", file)
        pack.add(Sample(name, "jpg", facts, data))
        pack.seal()
    with tarfile.open(tmp_path / "plain.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for extension, content in (("json", json.dumps(facts, separators=(",", ":")).encode()), ("jpg", data)):
            member = tarfile.TarInfo(f"{name}.{extension}")
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))
    ours, plain = ((tmp_path / kind).read_bytes() for kind in ("ours.tar", "plain.tar"))
    assert ours == plain[: len(ours)], "tarfile fills its last record with zeros"
    assert not any(plain[len(ours) :])


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_crops_in_the_same_order_are_the_same_pack(server: PhotoServer, tmp_path: Path, kind: str) -> None:
    spec = StoreSpec(tmp_path.as_uri())
    first = rows(packed(spec, kind, works(server, "0.jpg"), size=1))
    assert rows(packed(spec, kind, works(server, "0.jpg"), size=1)) == first
    assert rows(packed(spec, kind, works(server, "1.jpg"), size=1))[0]["shard"] != first[0]["shard"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_killed_with_an_open_pack_leaves_no_half_pack_and_its_crops_are_cut_again(
    server: PhotoServer, tmp_path: Path, kind: str
) -> None:
    spec = StoreSpec(tmp_path.as_uri())
    given = works(server, *(f"{number}.jpg" for number in range(8)))
    killed: list[int] = []

    def killing() -> Iterator[ImageWork]:
        for number, work in enumerate(given):
            if number == 6:
                # Some photos are packed by now; nothing is stored, because no pack is full.
                assert list_keys(spec, "shards") == []
                assert list(tmp_path.rglob("*#*")), "a pack must be open"
                killed.extend(pool.pids[:1])
                os.kill(pool.pids[0], signal.SIGKILL)
            yield work

    with CropPool(assignment(spec, kind), 1) as pool:
        outcomes = [outcome for _, outcome in sorted(pool.run(killing(), "batch-1"), key=lambda pair: pair[0])]
    assert killed
    found = rows(outcomes)
    assert [row["reason"] for row in found] == [None] * 16
    assert {row["shard"] for row in found} == {key for key in list_keys(spec, "shards") if not key.endswith(".json")}
    assert all(hashlib.sha256(cropline.open_crop(row, spec).read()).hexdigest() == row["sha256"] for row in found)


def test_a_store_that_takes_no_packs_fails_their_crops_with_the_reason(server: PhotoServer, tmp_path: Path) -> None:
    (tmp_path / "shards").write_text("a file where a folder must be")
    found = rows(packed(StoreSpec(tmp_path.as_uri()), "shards", works(server, "0.jpg", "1.jpg")))
    assert [row["reason"] for row in found] == ["storage"] * 4
    assert all(str(tmp_path) not in row["detail"] for row in found)


def test_the_packs_of_a_reused_pool_belong_to_their_batch(server: PhotoServer, tmp_path: Path) -> None:
    spec = StoreSpec(tmp_path.as_uri())
    before = set(threading.enumerate())  # those of other tests too
    with CropPool(assignment(spec, "shards"), 1) as pool:
        for batch in ("one", "two"):
            outcomes = [outcome for _, outcome in pool.run(works(server, "0.jpg", "1.jpg"), batch)]
            assert {Path(row["shard"]).parent.name for row in rows(outcomes)} == {batch}
        assert len(set(threading.enumerate()) - before) < 10


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_fills_up_fails_the_crops_of_its_pack_and_no_other(tmp_path: Path, kind: str) -> None:
    ended: dict[int, list[str | None]] = {}
    last = threading.Event()
    packer = Packer(StoreSpec(tmp_path.as_uri()), (("p0", kind, 10_000_000),))
    work = work_for(*[Box(str(number), 0.1, 0.1, 0.5, 0.5) for number in range(12)])

    def add(number: int, size: int) -> None:
        facts = {
            "bytes": size,
            "sha256": "0" * 64,
            "width": 1,
            "height": 1,
            "left": 0,
            "top": 0,
            "right": 1,
            "bottom": 1,
        }
        piece = Cut(CropOutcome(0, number, "written", **facts), random.Random(number).randbytes(size))

        def end(outcome: CropOutcome) -> None:
            ended.setdefault(number, []).append(outcome.reason)
            if number == 6:
                last.set()

        packer.add(work, "batch-1", piece, end)

    large = 3_000_000
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * large + 500_000, limits[1]))
    try:
        for number in range(5):
            add(number, large)
        packer.seal_all()
        add(5, 100)
        packer.seal_all()
        add(6, 100)
        packer.seal_all()
        assert last.wait(60), "packs are stored by a thread of their own"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert all(len(reasons) == 1 for reasons in ended.values()), "each crop ends once"
    assert set(ended) == set(range(7))
    assert [ended[2], ended[5]] == [["storage"], [None]]
    assert not [path for path in tmp_path.rglob("*#*") if path.stat().st_size > 10_000]
