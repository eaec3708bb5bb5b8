"""The optional decoder: crops equal Pillow's; Pillow decodes what it refuses, and the reason is reported."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cropline.config.pictures import PictureLimits
from cropline.config.profile import Profile
from cropline.core.failures import PhotoFailure
from fugue_jobs.imaging.decode import Photo, open_photo
from fugue_jobs.imaging.photo_hash import PhotoHash
from fugue_jobs.imaging.pixels import Cut, cut
from fugue_jobs.work import Box
from tests.photos import drawn, encoded, with_orientation
from tests.unit.fugue_jobs.imaging.cutting import work_for

BOXES = [Box("a", 0.1, 0.2, 0.23, 0.31), Box("b", 0.14, 0.3, 0.33, 0.36), Box("c", 0.7, 0.38, 0.71, 0.39)]
NOTHING = hashlib.sha256().hexdigest()
PROFILES = (Profile(format="png"), Profile(format="png", padding=0.2), Profile(max_side=40))

WITHOUT = """
import sys, json
sys.modules["cropline_regions"] = None  # as if it were not installed
from pathlib import Path
from tests.unit.fugue_jobs.imaging.test_regions import decoded
print(json.dumps([decoded(Path(path).read_bytes()) for path in sys.argv[1:]]))
"""


def decoded(data: bytes) -> list[Any]:
    """Return [the decoder, for each crop its file's hash, its measures and the photo's perceptual hash]."""
    limits = PictureLimits()
    work = work_for(*BOXES, profiles=PROFILES)
    photo, photo_hash = open_photo(data, limits), PhotoHash(work)
    pieces = list(cut(photo, work, limits, lambda: None))
    for piece in pieces:
        photo_hash.add(piece.outcome, piece.sample, photo.upright_size)
    return [photo.decoder, [_described(piece, photo_hash.hash()) for piece in pieces]]


def _described(piece: Cut, phash: str | None) -> str:
    if piece.data is None:
        return NOTHING
    file = hashlib.sha256(piece.data).hexdigest()
    return f"{file} {piece.outcome.luminance} {piece.outcome.sharpness} {phash}"


def decoded_without(folder: Path, photos: list[bytes]) -> list[Any]:
    """Return the same from a process without cropline_regions."""
    paths = []
    for number, data in enumerate(photos):
        paths.append(folder / str(number))
        paths[-1].write_bytes(data)
    done = subprocess.run([sys.executable, "-c", WITHOUT, *paths], capture_output=True, text=True, check=True)
    found: list[Any] = json.loads(done.stdout)
    return found


def test_crops_have_the_same_bytes_with_and_without_it_in_every_orientation(tmp_path: Path) -> None:
    pytest.importorskip("cropline_regions")
    picture = drawn(531, 397)
    photos = [
        encoded(picture.convert(mode), exif=with_orientation(turn), subsampling=turn % 3, quality=91)
        for turn in range(1, 9)
        for mode in ("RGB", "L")
    ]
    with_it = [decoded(data) for data in photos]
    without = decoded_without(tmp_path, photos)
    assert {name for name, _ in with_it} == {"regions"}
    assert {name for name, _ in without} == {"pillow: not_installed"}
    assert [crops for _, crops in with_it] == [crops for _, crops in without]


def test_nothing_is_decoded_for_a_refused_box() -> None:
    pytest.importorskip("cropline_regions")
    photo = opened(encoded(drawn(800, 600)))
    outside, inside = Box("out", 0.9, 0.95, 3.0, 3.0), Box("in", 0.1, 0.1, 0.2, 0.2)
    pieces = list(cut(photo, work_for(inside, outside), PictureLimits(), lambda: None))
    assert [piece.outcome.status for piece in pieces] == ["written", "failed"]
    assert set(photo.regions.bands) == {(80, 60, 160, 120)}


def opened(data: bytes) -> Photo:
    return open_photo(data, PictureLimits())


FALLBACKS = {
    "progressive": lambda: encoded(drawn(400, 300), progressive=True),
    "colour_space": lambda: encoded(drawn(400, 300).convert("CMYK")),
}


@pytest.mark.parametrize("reason", FALLBACKS)
def test_photos_that_regions_refuses_are_decoded_by_pillow_and_reported(reason: str) -> None:
    pytest.importorskip("cropline_regions")
    name, crops = decoded(FALLBACKS[reason]())
    assert name == f"pillow: {reason}"
    assert len(crops) == len(BOXES) * len(PROFILES)


def test_a_photo_of_another_format_is_decoded_by_pillow_without_a_reason() -> None:
    assert decoded(encoded(drawn(200, 100), "PNG"))[0] == "pillow"


def test_a_photo_cut_off_below_its_boxes_is_cut_by_pillow(tmp_path: Path) -> None:
    pytest.importorskip("cropline_regions")
    data = encoded(drawn(800, 600))
    boxes = work_for(Box("top", 0.0, 0.0, 0.1, 0.05))
    whole, cut_off = opened(data), data[:-30]
    list(cut(whole, boxes, PictureLimits(), lambda: None))
    assert whole.decoder == "regions"
    shorter = opened(cut_off)
    (found,) = cut(shorter, boxes, PictureLimits(), lambda: None)
    assert (shorter.decoder, found.outcome.status, found.outcome.flags) == (
        "pillow: damaged",
        "written",
        "damaged_photo",
    )


def test_a_photo_that_libjpeg_only_warns_of_ends_alike(tmp_path: Path) -> None:
    """Pillow ignores the warning."""
    pytest.importorskip("cropline_regions")
    data = bytearray(encoded(drawn(531, 397), restart_marker_rows=1))
    at = data.index(b"\xff\xd2", 700)
    data[at + 40 : at + 60] = b"\xff\xd9" * 10
    name, crops = decoded(bytes(data))
    assert name == "pillow: damaged"
    assert [crops] == [found for _, found in decoded_without(tmp_path, [bytes(data)])]


def test_hostile_photos_end_alike(tmp_path: Path) -> None:
    """With any header byte broken, both decoders give the same crops, or the same failure.

    Only the optional decoder notices a changed Huffman table whose bits still end at the end: it fails, and never
    writes what Pillow alone would not write.
    """
    pytest.importorskip("cropline_regions")
    data = encoded(drawn(64, 48))
    tables, end = data.index(b"\xff\xc4"), data.index(b"\xff\xda")
    places = [*range(2, tables + 4, 3), *range(tables + 4, end, 15), *(at for at in range(2, end) if data[at] == 0xFF)]
    photos = [data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :] for at in places]
    found = [(at, photo, ended(photo)) for at, photo in zip(places, photos, strict=True)]
    good = [(at, photo, crops) for at, photo, crops in found if not isinstance(crops, str)]
    without = decoded_without(tmp_path, [photo for _, photo, _ in good])
    different = [
        (at, crops)
        for (at, photo, crops), (_, alone) in zip(good, without, strict=True)
        if crops != alone and not (at > tables + 4 and data[at] != 0xFF and set(crops) == {NOTHING})
    ]
    assert different == []


def ended(data: bytes) -> Any:
    try:
        return decoded(data)[1]
    except PhotoFailure as failure:
        return failure.code


def test_bands_of_a_reduced_decode_are_those_of_the_reduced_photo() -> None:
    pytest.importorskip("cropline_regions")
    data = encoded(drawn(801, 603))
    reduced, whole = opened(data), opened(data)
    reduced.load(None, 4, [(10, 20, 60, 50)])
    whole.load(None, 4)
    assert (reduced.decoder, whole.decoder) == ("regions", "pillow: no_boxes")
    assert reduced.crop((10, 20, 60, 50)).tobytes() == whole.crop((10, 20, 60, 50)).tobytes()
    assert isinstance(reduced.crop((10, 20, 60, 50)), Image.Image)
