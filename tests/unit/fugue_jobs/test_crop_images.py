"""The transformer over real HTTP: each box gives a row, for any photo, and no row contains a secret."""

import hashlib
import io
import json
import logging
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from cropline.config.pictures import PictureLimits
from cropline.config.profile import Profile
from cropline.config.settings import FetchSettings
from cropline.core.failures import FAILURES
from cropline.core.schemas import CROPS, IMAGES
from fugue_jobs.crop_images import crop_images, warm
from fugue_jobs.pool.idle_pools import close_idle_pools
from tests.contract import jobs
from tests.photos import PhotoServer, drawn, encoded, photo_server
from tests.unit.fugue_jobs.imaging import hostile

ALL = PictureLimits(formats=hostile.ALL_FORMATS).options
BOXES = [jobs.box("a", 0.1, 0.1, 0.6, 0.6), jobs.box("b", 0.0, 0.0, 1.0, 1.0)]
PROFILES = {"png": Profile(format="png"), "thumb": Profile(max_side=40)}


@pytest.fixture(scope="module")
def server() -> Iterator[PhotoServer]:
    with photo_server() as served:
        served.photos["good.jpg"] = encoded(drawn(320, 240), quality=92)
        yield served
    close_idle_pools()


def table(rows: list[dict[str, Any]], profiles: dict[str, Profile] = PROFILES) -> pa.Table:
    """Return IMAGES rows, as an engine passes them after its joins."""
    joined = [
        row | {"work": [jobs.work(name, profile, row["image_id"]) for name, profile in profiles.items()]}
        for row in rows
    ]
    return pa.Table.from_pylist(joined, schema=IMAGES)


def run(job: Any, *tables: pa.Table) -> list[dict[str, Any]]:
    found = pa.concat_tables(list(crop_images(job)(iter(tables))))
    assert found.schema.equals(CROPS)
    return sorted(found.to_pylist(), key=lambda row: (row["manifest_row"], row["profile"], row["box_index"]))


def test_every_hostile_picture_ends_as_rows_with_its_reason(server: PhotoServer, tmp_path: Path) -> None:
    cases = [case for case in hostile.HOSTILE if case.formats == hostile.ALL_FORMATS]
    rows = []
    for number, case in enumerate(cases):
        server.photos[f"hostile-{number}"] = case.data
        rows.append(jobs.image(number, server.url(f"hostile-{number}"), BOXES, image_id=case.name))
    found = run(jobs.job(tmp_path, pictures=ALL), table(rows))
    assert len(found) == len(cases) * len(BOXES) * len(PROFILES)
    wanted = [(case.name, case.reason, case.flags) for case in cases for _ in range(4)]
    # An absent photo is an empty body; the download reports it.
    assert [(row["image_id"], row["reason"], row["flags"]) for row in found] == wanted


def test_written_rows_agree_with_the_stored_objects(server: PhotoServer, tmp_path: Path) -> None:
    found = run(jobs.job(tmp_path), table([jobs.image(0, server.url("good.jpg"), BOXES)]))
    for row in found:
        data = (tmp_path / row["key"]).read_bytes()
        assert (row["bytes"], row["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        with Image.open(io.BytesIO(data)) as crop:
            assert (row["width"], row["height"], row["format"]) == (*crop.size, (crop.format or "").lower())
        assert row["image_sha256"] == hashlib.sha256(server.photos["good.jpg"]).hexdigest()  # type: ignore[arg-type]
        assert row["image_bytes"] == len(server.photos["good.jpg"])  # type: ignore[arg-type]
    assert len({row["key"] for row in found}) == 4
    assert sum(1 for path in tmp_path.rglob("*") if path.is_file()) == 4


def test_a_photo_unlike_its_manifest_is_refused(server: PhotoServer, tmp_path: Path) -> None:
    rows = [
        jobs.image(0, server.url("good.jpg"), BOXES, sha256="0" * 64),
        jobs.image(1, server.url("good.jpg"), BOXES, sha256=hashlib.sha256(server.photos["good.jpg"]).hexdigest()),  # type: ignore[arg-type]
    ]
    found = run(jobs.job(tmp_path), table(rows))
    assert [row["reason"] for row in found] == ["hash_mismatch"] * 4 + [None] * 4


def test_more_boxes_than_allowed_fail_without_a_download(server: PhotoServer, tmp_path: Path) -> None:
    before = server.served["good.jpg"]
    many = [jobs.box(str(number), 0.1, 0.1, 0.2, 0.2) for number in range(6)]
    job = jobs.job(tmp_path, pictures=PictureLimits(max_boxes=5).options)
    found = run(
        job, table([jobs.image(0, server.url("good.jpg"), many), jobs.image(1, server.url("good.jpg"), many[:5])])
    )
    assert [row["reason"] for row in found] == ["too_many_boxes"] * 12 + [None] * 10
    assert server.served["good.jpg"] == before + 1


def test_images_refused_without_a_fetch_give_rows_too(tmp_path: Path) -> None:
    many = [jobs.box(str(number), 0.1, 0.1, 0.2, 0.2) for number in range(6)]
    job = jobs.job(tmp_path, pictures=PictureLimits(max_boxes=5).options)
    assert len(run(job, table([jobs.image(0, "http://127.0.0.1:9/", many)]))) == 12


def test_no_image_and_no_table_give_no_row(tmp_path: Path) -> None:
    assert run(jobs.job(tmp_path), table([])) == []
    assert pa.concat_tables(list(crop_images(jobs.job(tmp_path))(iter([])))).num_rows == 0


def test_rows_stream_through_in_tables(server: PhotoServer, tmp_path: Path) -> None:
    rows = [jobs.image(number, server.url("good.jpg"), BOXES) for number in range(7)]
    found = run(jobs.job(tmp_path), table(rows[:3]), table([]), table(rows[3:]))
    assert [row["manifest_row"] for row in found] == [number for number in range(7) for _ in range(4)]


@pytest.mark.usefixtures("cold_crop_processes")
def test_processes_that_were_started_early_do_the_batch(server: PhotoServer, tmp_path: Path) -> None:
    close_idle_pools()
    job, others = jobs.job(tmp_path), children()
    warm(job, 1)
    early = children() - others
    assert len(early) == 1, "no more than images"
    assert run(job, table([jobs.image(0, server.url("good.jpg"), BOXES)]))
    assert children() - others == early


def children() -> set[str]:
    tasks = Path("/proc/self/task").glob("*/children")
    return {pid for found in tasks for pid in found.read_text().split()}


def test_ids_of_any_kind_become_safe_and_distinct_files(server: PhotoServer, tmp_path: Path) -> None:
    ids = [
        "../../etc/passwd",
        "a\0b",
        "x" * 1000,
        "\u00e9",
        "e\u0301",
        "ID",
        "id",
        "/",
        "..",
        " ",
        "con",
        "a/b",
        "a\\b",
    ]
    boxes = [jobs.box(name, 0.1, 0.1, 0.3, 0.3) for name in ids]
    rows = [jobs.image(number, server.url("good.jpg"), boxes, image_id=name) for number, name in enumerate(ids)]
    out = tmp_path / "out"
    found = run(jobs.job(out), table(rows, {"png": Profile(format="png")}))
    assert {row["status"] for row in found} == {"written"}
    assert len({row["key"].casefold() for row in found}) == len(ids) ** 2
    assert sum(1 for path in out.rglob("*") if path.is_file()) == len(ids) ** 2
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_store_that_refuses_writes_fails_each_crop(server: PhotoServer, tmp_path: Path) -> None:
    rows = [jobs.image(0, server.url("good.jpg"), BOXES)]
    (tmp_path / "crops").write_text("a file where a folder must be")
    found = run(jobs.job(tmp_path), table(rows))
    assert [(row["status"], row["reason"], row["key"]) for row in found] == [("failed", "storage", None)] * 4


def test_an_unreadable_recipe_fails_its_own_crops_only(server: PhotoServer, tmp_path: Path) -> None:
    images = table([jobs.image(0, server.url("good.jpg"), BOXES)]).to_pylist()
    images[0]["work"][1]["recipe"] = json.dumps({"format": "jxl", "from": "the future"})
    found = run(jobs.job(tmp_path), pa.Table.from_pylist(images, schema=IMAGES))
    assert [row["reason"] for row in found] == [None] * 2 + ["recipe_unreadable"] * 2


def test_canary_secrets_reach_no_row_and_no_log(
    server: PhotoServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    fetch = FetchSettings(allow_loopback=True, token="tweet-token", token_host=f"127.0.0.1:{server.port}").options
    urls = [
        server.url("good.jpg?sig=tweet-sig"),
        server.url("missing.jpg?sig=tweet-sig"),
        "http://user:tweet-password@127.0.0.1/x",
        "http://10.1.2.3/?sig=tweet-sig",
        "http://127.0.0.1:9/closed?sig=tweet-sig",
        "not a url tweet-sig",
    ]
    rows = [jobs.image(number, url, BOXES) for number, url in enumerate(urls)]
    found = run(jobs.job(tmp_path, fetch=fetch), table(rows))
    assert len(found) == len(urls) * 4
    assert "tweet" not in json.dumps(found) + caplog.text + repr(jobs.job(tmp_path, fetch=fetch))
    assert not any("tweet" in str(path) for path in tmp_path.rglob("*"))


def spoilt(dice: random.Random) -> bytes:
    """Return a photo with bytes changed, removed, doubled or truncated."""
    seeds = (hostile.JPEG, hostile.PNG, hostile.WEBP, hostile.GIF, hostile.BMP, hostile.TIFF, hostile.AVIF)
    data = bytearray(dice.choice(seeds))
    for _ in range(dice.randrange(1, 30)):
        at = dice.randrange(len(data)) if dice.random() < 0.5 else dice.randrange(min(len(data), 400))
        kind = dice.randrange(4)
        if kind == 0:
            data[at] = dice.randrange(256)
        elif kind == 1:
            del data[at : at + dice.randrange(1, 50)]
        elif kind == 2:
            data[at:at] = data[at : at + dice.randrange(1, 50)]
        else:
            data[at : at + 4] = dice.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\x01\0\0\0"])
        if len(data) < 20:
            break
    return bytes(data)


def test_corrupt_photos_get_a_known_reason_and_end_no_process(
    server: PhotoServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seed = 20_261_122
    print(f"seed {seed}")
    dice = random.Random(seed)
    rows = []
    for number in range(300):
        server.photos[f"spoilt-{number}"] = spoilt(dice)
        rows.append(jobs.image(number, server.url(f"spoilt-{number}"), BOXES))
    found = run(jobs.job(tmp_path, pictures=ALL), table(rows, {"thumb": Profile(max_side=40)}))
    assert len(found) == 600
    for row in found:
        assert (row["status"] == "written") == (row["reason"] is None)
        assert row["reason"] is None or row["reason"] in FAILURES
    unexpected = {"internal_error", "decoder_died", "decoder_killed", "decode_hung"}
    assert not unexpected & {row["reason"] for row in found}, caplog.text
    assert {row["status"] for row in found} == {"written", "failed"}, "else the spoiling spoils nothing or all"


def test_rows_come_in_the_order_of_the_images_boxes_and_profiles(server: PhotoServer, tmp_path: Path) -> None:
    server.photos["large.jpg"] = encoded(drawn(3000, 2000), quality=92)
    many = [jobs.box(str(number), 0.1, 0.1, 0.2, 0.2) for number in range(6)]
    rows = [jobs.image(0, server.url("large.jpg"), BOXES), jobs.image(1, server.url("good.jpg"), BOXES)]
    rows += [jobs.image(2, server.url("good.jpg"), many), jobs.image(3, server.url("missing.jpg"), BOXES)]
    job = jobs.job(tmp_path, pictures=PictureLimits(max_boxes=5).options)
    found = pa.concat_tables(list(crop_images(job)(iter([table(rows)])))).to_pylist()
    keys = [(row["manifest_row"], row["box_index"], row["profile"]) for row in found]
    assert keys == sorted(keys)
    assert len(keys) == 24


def test_rows_of_lossless_crops_say_where_the_box_is(server: PhotoServer, tmp_path: Path) -> None:
    if not hasattr(getattr(pytest.importorskip("cropline_regions"), "Pieces", None), "edges"):
        pytest.skip("cropline-regions is of an earlier version")
    profiles = {"copy": Profile(lossless=True), "default": Profile()}
    found = run(jobs.job(tmp_path), table([jobs.image(0, server.url("good.jpg"), BOXES)], profiles))
    copies, others = found[:2], found[2:]
    assert [(row["box_left"], row["box_top"]) for row in copies] == [(0, 8), (0, 0)]
    assert [(row["box_left"], row["box_top"]) for row in others] == [(None, None)] * 2
    for row in copies:
        crop = Image.open(io.BytesIO((tmp_path / row["key"]).read_bytes()))
        assert crop.size == (row["width"], row["height"])
        assert crop.quantization == Image.open(io.BytesIO(server.photos["good.jpg"])).quantization  # type: ignore[attr-defined]


def test_rows_of_a_slice_are_the_slices_rows(server: PhotoServer, tmp_path: Path) -> None:
    rows = [jobs.image(number, server.url("good.jpg"), None if number == 2 else BOXES) for number in range(5)]
    found = run(jobs.job(tmp_path), table(rows).slice(1, 3))
    assert [row["manifest_row"] for row in found] == [1] * 4 + [3] * 4
    assert {row["box_id"] for row in found} == {"a", "b"}


def test_the_declared_size_reaches_the_worker_and_is_in_the_fingerprint_of_what_it_rescaled(
    server: PhotoServer, tmp_path: Path
) -> None:
    """The photo has 320 x 240 px."""
    box = [jobs.box("a", 64.0, 48.0, 384.0, 288.0)]
    changes = {"version": "v1", "coordinates": "pixels"}
    declared = [{"width": 640, "height": 480}, {"width": 320, "height": 240}, {"width": None, "height": None}]
    rows = [jobs.image(number, server.url("good.jpg"), box) | changes | sides for number, sides in enumerate(declared)]
    found = run(jobs.job(tmp_path), table(rows, {"png": PROFILES["png"]}))
    assert [(row["left"], row["top"], row["right"], row["bottom"]) for row in found] == [
        (32, 24, 192, 144),
        (64, 48, 320, 240),
        (64, 48, 320, 240),
    ]
    assert [row["flags"] for row in found] == ["rescaled", "clipped", "clipped"]
    other, same, unknown = [row["box_fingerprint"] for row in found]
    assert same == unknown != other
