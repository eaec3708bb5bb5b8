"""cropline crop: the folder holds the crops of the plain way, and failures are shown with their reasons."""

from __future__ import annotations

import io
import json
import math
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageOps, ImageStat

from cropline.cli.boxes_file import read_boxes
from cropline.config.settings import ApiSettings, FieldMap
from cropline.core.errors import SettingsError
from tests.integration.commands import forked_cropline, new_cropline
from tests.integration.fork_server import ForkServer
from tests.photos import PhotoServer, drawn, encoded, photo_server, with_orientation

PHOTO = encoded(drawn(900, 600), quality=92, exif=with_orientation(6))
LISTS = [[0.1, 0.2, 0.4, 0.5], [0.5, 0.25, 1.0, 0.75]]


@pytest.fixture
def server() -> Iterator[PhotoServer]:
    with photo_server() as served:
        served.photos["photo.jpg"] = PHOTO
        yield served


Ended = subprocess.CompletedProcess[str]
Crop = Callable[..., Ended]


def _crop(run: Crop, folder: Path, photo: str, boxes: Any, *options: str, **environment: str) -> Ended:
    (folder / "boxes.json").write_text(boxes if isinstance(boxes, str) else json.dumps(boxes))
    arguments = ["crop", photo, "--boxes", "boxes.json", "--out", "out", *options]
    return run(folder, *arguments, **environment)


@pytest.fixture
def crop(forks: ForkServer) -> Crop:
    """Run the command in a fork. Tests that count the lines of its stderr run it in a new Python, as the first does."""
    return partial(_crop, partial(forked_cropline, forks))


def listed(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((folder / "out" / "crops.json").read_text())
    return rows


def plain(box: list[float]) -> Image.Image:
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(PHOTO))).convert("RGB")
    sides = (image.width, image.height) * 2
    return image.crop(tuple(math.floor(edge * side + 0.5) for edge, side in zip(box, sides, strict=True)))  # type: ignore[arg-type]


def test_a_files_crops_are_those_of_the_plain_way(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(PHOTO)
    ended = _crop(new_cropline, tmp_path, "photo.jpg", LISTS, "--format", "png")
    assert ended.returncode == 0, ended.stderr
    assert "2 crops: 2 written, 0 skipped, 0 failed" in ended.stdout
    for row, box in zip(listed(tmp_path), LISTS, strict=True):
        with Image.open(tmp_path / "out" / row["file"]) as found:
            assert (found.size, found.tobytes()) == (plain(box).size, plain(box).tobytes())
    left = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert left == {"boxes.jpg", "crops.json", "custom/0000.png", "custom/0001.png"}


def test_the_picture_shows_the_upright_photo_with_its_boxes(crop: Crop, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(PHOTO)
    crop(tmp_path, "photo.jpg", [[0.25, 0.25, 0.75, 0.75]])
    upright = plain([0, 0, 1, 1]).resize((1400, 2100), Image.Resampling.LANCZOS)
    with Image.open(tmp_path / "out" / "boxes.jpg") as picture:
        shown = picture.convert("RGB")
    assert shown.height > 2100, "the crops stand below"
    for at in ((351, 1000), (1048, 1000), (700, 526), (700, 1573)):
        found: Any = shown.getpixel(at)
        assert max(abs(level - wanted) for level, wanted in zip(found, (43, 138, 62), strict=True)) < 40, at
    for inside in ((10, 10, 340, 2090), (400, 600, 1000, 1500), (1060, 10, 1390, 2090)):
        difference = ImageChops.difference(shown.crop(inside), upright.crop(inside)).convert("L")
        assert ImageStat.Stat(difference).mean[0] < 6


def test_items_of_the_api_named_profiles_and_pixels(crop: Crop, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(PHOTO)
    box = {"id": "door/../7", "xmin": 60, "ymin": 90, "xmax": 360, "ymax": 450, "label": "[red]cola[/red]"}
    profiles = json.dumps({"thumb": {"max_side": 64}, "other": {}})
    options = ("--coordinates", "pixels", "--profile", "thumb", "--quality", "70")
    ended = crop(tmp_path, "photo.jpg", {"id": "1", "boxes": [box]}, *options, CROPLINE_PROFILES=profiles)
    assert ended.returncode == 0, ended.stderr
    assert "[red]cola[/red]" in ended.stdout, "text from outside stays text"
    (row,) = listed(tmp_path)
    assert (row["profile"], row["file"], row["box_id"]) == ("thumb", "thumb/0000-door-7.jpg", "door/../7")
    with Image.open(tmp_path / "out" / row["file"]) as found:
        assert found.size == (53, 64)


def test_boxes_that_fail_are_shown_with_their_reasons_and_spare_the_others(crop: Crop, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(PHOTO)
    boxes = "[[0.1, 0.2, 0.4, 0.5], [0.5, 0.2, 0.1, 0.6], [NaN, 0, 1, 1], [0.9, 0.9, 1.5, 1.5], [60, 90, 360, 450]]"
    ended = crop(tmp_path, "photo.jpg", boxes)
    assert ended.returncode == 1
    assert "5 crops: 1 written, 0 skipped, 4 failed" in ended.stdout
    assert "--coordinates pixels" in ended.stdout
    reasons = [row["reason"] for row in listed(tmp_path)]
    assert reasons == [None, "box_inverted", "box_not_finite", "box_mostly_outside", "box_outside"]
    assert all(reason in ended.stdout for reason in reasons[1:])


def test_a_crop_with_a_flag_is_shown_with_it(crop: Crop, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(encoded(drawn(300, 200), progressive=True))
    ended = crop(tmp_path, "photo.jpg", LISTS[:1], "--lossless")
    assert ended.returncode == 0, ended.stderr
    assert "custom/0000.jpg (reencoded)" in " ".join(ended.stdout.split())


def test_only_files_of_an_earlier_run_are_deleted(crop: Crop, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(PHOTO)
    crop(tmp_path, "photo.jpg", LISTS)
    (tmp_path / "out" / "default" / "mine.jpg").write_text("mine")
    rows = [*listed(tmp_path), {"file": "default/mine.jpg"}, {"file": "../boxes.json"}, {"file": "/etc/hostname"}]
    (tmp_path / "out" / "crops.json").write_text(json.dumps(rows))
    crop(tmp_path, "photo.jpg", LISTS[:1])
    left = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert left == {"boxes.jpg", "crops.json", "default/0000.jpg", "default/mine.jpg"}


def test_a_hostile_file_ends_with_its_reason(crop: Crop, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_text("<!doctype html><title>Sign in</title>")
    ended = crop(tmp_path, "photo.jpg", LISTS)
    assert ended.returncode == 1
    assert "not_a_picture" in ended.stdout
    assert [row["reason"] for row in listed(tmp_path)] == ["not_a_picture"] * 2
    assert "Traceback" not in ended.stdout + ended.stderr


def test_an_endless_file_is_too_large(crop: Crop, tmp_path: Path) -> None:
    ended = crop(tmp_path, "/dev/zero", LISTS, CROPLINE_FETCH__MAX_BYTES="1000000")
    assert ended.returncode == 1
    assert "too_large: more than 1000000 bytes" in ended.stdout


def test_loopback_needs_its_flag_whatever_the_settings_say(crop: Crop, server: PhotoServer, tmp_path: Path) -> None:
    url = server.url("photo.jpg?sig=tweet")
    refused = crop(tmp_path, url, LISTS, CROPLINE_FETCH__ALLOW_LOOPBACK="true")
    assert refused.returncode == 1
    assert "forbidden_address" in refused.stdout
    assert "--allow-loopback" in refused.stdout
    assert not server.served
    allowed = crop(tmp_path, url, LISTS, "--allow-loopback")
    assert allowed.returncode == 0, allowed.stdout + allowed.stderr
    assert server.served["photo.jpg"] == 1
    gone = crop(tmp_path, server.url("gone.jpg?sig=tweet"), LISTS, "--allow-loopback")
    assert "http_404" in gone.stdout
    everything = "".join(path.read_text() for path in (tmp_path / "out").rglob("*.json"))
    assert "tweet" not in "".join((everything, *(ended.stdout + ended.stderr for ended in (refused, allowed, gone))))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--profile", "nope"), "--profile nope: is not in CROPLINE_PROFILES, which has default"),
        (("--quality", "101"), "--quality: "),
        (("--effort", "2"), "effort of jpeg is 0 to 1, not 2"),
        (("--lossless", "--max-side", "90"), "a lossless jpeg copies the photo's bits: leave out max_side"),
        (("--out", "photo.jpg"), "--out photo.jpg: cannot be written to"),
        (("--boxes", "gone.json"), "--boxes gone.json: cannot be read"),
    ],
)
def test_a_wrong_option_is_one_clear_line(tmp_path: Path, options: tuple[str, ...], says: str) -> None:
    (tmp_path / "photo.jpg").write_bytes(PHOTO)
    ended = _crop(new_cropline, tmp_path, "photo.jpg", LISTS, *options)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert says in ended.stderr


WRONG_BOXES = {
    "no JSON": ("{", "not JSON (line 1)"),
    "a number": ("3", "must be a list of boxes"),
    "no box": ("[]", "no boxes at boxes"),
    "an object without boxes": ('{"id": "7"}', "no boxes at boxes"),
    "three numbers": ("[[1, 2, 3]]", "box 0 is not [xmin, ymin, xmax, ymax]"),
    "lists and objects": ('[[1, 2, 3, 4], {"xmin": 1}]', "box 1 is not [xmin, ymin, xmax, ymax]"),
    "text": ('[{"xmin": "left"}]', "boxes[0].xmin cannot be read"),
    "true": ("[[true, 0, 1, 1]]", "boxes[0].xmin cannot be read"),
    "other names": ('[{"x": 1, "y": 2}]', "no box has a value at xmin"),
    "too deep": ("[" * 100_000, "not JSON (RecursionError)"),
}


@pytest.mark.parametrize(("text", "says"), WRONG_BOXES.values(), ids=WRONG_BOXES.keys())
def test_an_invalid_boxes_file_is_reported_with_its_fault(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "b.json"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        read_boxes(path, ApiSettings())
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_boxes_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    path.write_text(json.dumps(LISTS), encoding="utf-8-sig")
    assert [box["xmin"] for box in read_boxes(path, ApiSettings())] == [0.1, 0.5]


def test_a_file_where_a_folder_of_crops_must_be_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(PHOTO)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "default").write_text("mine")
    ended = _crop(new_cropline, tmp_path, "photo.jpg", LISTS[:1])
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert "--out out: default/0000.jpg cannot be written" in ended.stderr
    assert (tmp_path / "out" / "default").read_text() == "mine"


def test_boxes_are_found_where_the_settings_say_the_api_has_them(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    path.write_text(json.dumps({"found": [{"box": {"l": 0.1, "t": 0.2, "r": 0.3, "b": 0.4}, "n": 7}]}))
    fields = FieldMap(boxes="found", box_id="n", xmin="box.l", ymin="box.t", xmax="box.r", ymax="box.b")
    (box,) = read_boxes(path, ApiSettings(fields=fields))
    assert (box["box_id"], box["xmin"], box["ymin"], box["xmax"], box["ymax"]) == ("7", 0.1, 0.2, 0.3, 0.4)
