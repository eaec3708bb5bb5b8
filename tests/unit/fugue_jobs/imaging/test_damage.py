"""Crops above the damage are those of the whole photo; crops in it fail. Every decoder agrees."""

import json
import random
import subprocess
import sys
import zlib

import pytest

from fugue_jobs.imaging import decode, regions
from fugue_jobs.imaging.jpeg_scan import Walked, entropy, read_scan, walk_in_python
from fugue_jobs.work import Box
from tests.photos import drawn, encoded
from tests.unit.fugue_jobs.damaging import (
    HEIGHT,
    HOW,
    KINDS,
    all_told,
    damaged,
    in_passes,
    jpeg,
    packed,
    picture,
    png,
    rows,
    told,
)
from tests.unit.fugue_jobs.imaging.cutting import cuts, photo_failure, work_for

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

CUT = ("cut off", "cut off, with an end marker", "zeros to the end", "zeros and an end marker", "ones to the end")
ENDS = ("no end marker", "half an end marker", "zeros for the end marker", "filled before its end marker")


@pytest.fixture(scope="module")
def judged() -> dict[str, str]:
    return all_told()


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("kind", KINDS)
def test_no_crop_of_a_damaged_jpeg_has_other_pixels_than_the_whole_ones(
    judged: dict[str, str], kind: str, how: str
) -> None:
    found = judged[f"{kind}, {how}"]
    assert len(found) == 10
    assert set(found) <= set(".de-")


@pytest.mark.parametrize("how", CUT)
@pytest.mark.parametrize("kind", KINDS)
def test_boxes_above_a_cut_are_written_and_flagged_and_those_below_fail(
    judged: dict[str, str], kind: str, how: str
) -> None:
    found = judged[f"{kind}, {how}"]
    assert found.startswith("dddd"), "the cut is at 55 % of the bits"
    assert found.endswith("----")
    assert found == found.replace("-", "").ljust(10, "-")


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_that_lacks_only_its_end_is_good_and_says_so(judged: dict[str, str], kind: str, how: str) -> None:
    assert judged[f"{kind}, {how}"] == "e" * 10


@pytest.mark.parametrize("kind", ["restarts", "short restarts"])
@pytest.mark.parametrize("how", ["a hole of zeros", "bytes missing"])
def test_a_damaged_restart_interval_spoils_itself_alone(kind: str, how: str) -> None:
    data = jpeg("restarts" if kind == "restarts" else kind)
    begin = data.rindex(b"\xff\xd3", 0, len(data) // 2)
    broken = data[: begin + 8] + (bytes(40) + data[begin + 48 :] if how == "a hole of zeros" else data[begin + 12 :])
    found = told(data, broken)
    assert found.count("-") in (1, 2)
    assert found.startswith("d")
    assert found.endswith("d")


def test_with_and_without_the_optional_decoder_every_photo_ends_alike(judged: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.unit.fugue_jobs.damaging"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == judged


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_damage_is_judged_at_reduced_scales_too(scale: int) -> None:
    from cropline.config.profile import Profile

    boxes = [Box("all", 0.0, 0.0, 1.0, 1.0), Box("top", 0.0, 0.0, 1.0, 0.4)]
    work = work_for(*boxes, profiles=(Profile(max_side=320 // scale // 3),))
    whole, top = cuts(damaged(jpeg("420"), "cut off"), work)
    assert (whole.outcome.reason, top.outcome.flags) == ("damaged_pixels", "damaged_photo")
    assert top.data == cuts(jpeg("420"), work)[1].data


def test_an_empty_wall_is_not_taken_for_a_hole() -> None:
    """Optimised tables give blank blocks short codes of zeros: there, long runs of zero bytes are a picture."""
    from PIL import Image

    wall = Image.new("RGB", (1600, 1200), (240, 240, 235))
    wall.paste(drawn(200, 150), (700, 500))
    photo = encoded(wall, quality=90, optimize=True)
    assert bytes(32) in photo[photo.rindex(b"\xff\xda") :]
    found = cuts(photo, work_for(Box("a", 0.4, 0.4, 0.6, 0.6), Box("b", 0.0, 0.8, 0.2, 0.99)))
    assert [cut.outcome.flags for cut in found] == [None, None]


def _scans(data: bytes) -> list[int]:
    return [at for at in range(len(data)) if data.startswith(b"\xff\xda", at)]


def test_a_progressive_jpeg_without_its_last_scans_fails_as_a_whole() -> None:
    data = jpeg("progressive")
    scans = _scans(data)
    for broken in (data[: scans[-1]] + b"\xff\xd9", data[: scans[3] + 400] + b"\xff\xd9", data[:-500]):
        assert told(data, broken) == "-" * 10
    assert told(data, data) == "." * 10


def _in_the_last_scan(data: bytes) -> dict[str, bytes]:
    """Damage within the last scan: every scan begins, and the end marker is there."""
    last = _scans(data)[-1]
    middle = (last + len(data)) // 2
    return {
        "a hole": data[:middle] + bytes(40) + data[middle + 40 :],
        "garbage": data[:middle] + b"\xa5\x3c" * 200 + data[middle + 400 :],
        "an early end": data[:middle] + b"\xff\xd9",
        "bytes lost": data[:middle] + data[middle + 300 :],
    }


@pytest.mark.parametrize("how", ["a hole", "garbage", "an early end", "bytes lost"])
def test_damage_within_a_scan_of_a_progressive_jpeg_fails_it_as_a_whole(how: str) -> None:
    pytest.importorskip("cropline_regions")
    data = jpeg("progressive")
    assert told(data, _in_the_last_scan(data)[how]) == "-" * 10


def test_a_progressive_jpeg_that_only_lacks_its_end_marker_is_whole() -> None:
    pytest.importorskip("cropline_regions")
    data = jpeg("progressive")
    assert told(data, data[:-2]) == "e" * 10


def test_without_the_extension_a_progressive_jpeg_that_lacks_its_end_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fugue_jobs.imaging.jpeg_damage.scan_damage", lambda _: None)
    data = jpeg("progressive")
    assert told(data, data[:-2]) == "-" * 10


PNG_DAMAGE = {
    "cut off": lambda: png(packed(rows(0, HEIGHT)))[:-40_000],
    "zeros to the end": lambda: png(packed(rows(0, HEIGHT)))[:-40_000] + bytes(40_000),
    "fewer rows": lambda: png(packed(rows(0, 250))),
    "a stream that breaks": lambda: png(flushed(250) + b"\xff" * 99),
    "a stream cut off": lambda: png(packed(rows(0, HEIGHT))[:-40_000]),
    "a wrong checksum": lambda: flipped(png(packed(rows(0, HEIGHT))), -40_000),
}


def flushed(end: int) -> bytes:
    packer = zlib.compressobj()
    return packer.compress(rows(0, end)) + packer.flush(zlib.Z_FULL_FLUSH)


def flipped(data: bytes, at: int) -> bytes:
    place = len(data) + at
    return data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :]


@pytest.mark.parametrize("how", PNG_DAMAGE)
def test_rows_of_a_png_above_its_damage_are_written_and_flagged_and_those_in_it_fail(how: str) -> None:
    found = told(png(packed(rows(0, HEIGHT))), PNG_DAMAGE[how]())
    assert found.startswith("dddddd")
    assert found.endswith("--")
    assert found == found.replace("-", "").ljust(10, "-")


def test_a_png_of_one_damaged_piece_fails_as_a_whole() -> None:
    good = png(packed(rows(0, HEIGHT)), 1 << 30)
    assert told(good, flipped(good, -40_000)) == "-" * 10


def test_a_png_that_lacks_only_its_end_is_good_and_says_so() -> None:
    good = png(packed(rows(0, HEIGHT)))
    for end in (12, 5, 20):
        assert told(good, good[:-end]) == "e" * 10


def test_an_interlaced_png_is_whole_or_fails_as_a_whole() -> None:
    plain, interlaced = png(packed(rows(0, HEIGHT))), png(packed(in_passes()), interlaced=True)
    assert told(plain, interlaced) == "." * 10
    for broken in (interlaced[:-9_000], png(packed(in_passes()[:-9_000]), interlaced=True)):
        assert told(plain, broken) == "-" * 10


def test_a_black_png_is_no_damage() -> None:
    from PIL import Image

    (cut,) = cuts(encoded(Image.new("RGB", (90, 60)), "PNG"))
    assert (cut.outcome.status, cut.outcome.flags) == ("written", None)


@pytest.mark.parametrize("options", [{"quality": 80}, {"lossless": True}])
@pytest.mark.parametrize("zeros", [False, True])
def test_a_webp_that_is_not_all_there_fails_as_a_whole(options: dict[str, object], zeros: bool) -> None:
    data = encoded(picture(), "WEBP", **options)
    assert photo_failure(data) is None
    half = len(data) // 2
    failure = photo_failure(data[:half] + bytes(len(data) - half if zeros else 0))
    assert failure is not None
    assert failure.code == "damaged_pixels"


def test_the_walk_in_c_is_the_one_in_python_on_any_bits() -> None:
    native = pytest.importorskip("cropline_regions")
    dice = random.Random(11)
    photos = [jpeg(kind) for kind in KINDS] + [encoded(drawn(90, 70, 3), optimize=True)]
    ended = set()
    for number in range(400):
        photo = photos[number % len(photos)]
        scan = read_scan(photo)
        assert scan is not None
        piece = bytearray(dice.choice(entropy(photo, scan).pieces)[:3000])
        for _ in range(dice.choice([0, 1, 5])):
            piece[dice.randrange(len(piece))] = dice.randrange(256)
        wanted = dice.choice([1, 20, scan.columns * scan.rows])
        found = walk_in_python(bytes(piece), scan.tables, wanted)
        assert Walked(*native.walk(bytes(piece), scan.tables, wanted)) == found
        ended.add(found.ended)
    assert ended == {"whole", "short", "bad"}


@pytest.mark.parametrize("kind", ["420", "444", "optimised", "grey", "CMYK"])
def test_a_whole_photo_is_judged_by_nobody(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A walk in Python takes a second per megabyte."""
    monkeypatch.setattr(regions, "_extension", lambda: (None, "not_installed"))
    monkeypatch.setattr(decode, "judge_jpeg", lambda *_: pytest.fail("judged"))
    assert told(jpeg(kind), jpeg(kind)) == "." * 10
