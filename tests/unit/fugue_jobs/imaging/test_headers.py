"""Formats, sizes and scans from the bytes, before anything is decoded."""

import io
import random
import sys

import pytest
from PIL import Image

from cropline.config.pictures import PictureLimits
from cropline.core.failures import PhotoFailure
from fugue_jobs.imaging.decode import open_photo
from fugue_jobs.imaging.headers import check_header, count_scans, declared_size, is_lossless, scans_are_complete, sniff
from tests.photos import drawn, encoded
from tests.unit.fugue_jobs.imaging import hostile

EVERY = {
    "JPEG": hostile.JPEG,
    "PNG": hostile.PNG,
    "WEBP": hostile.WEBP,
    "TIFF": hostile.TIFF,
    "BMP": hostile.BMP,
    "GIF": hostile.GIF,
    "AVIF": hostile.AVIF,
}


@pytest.mark.parametrize("kind", EVERY)
def test_each_format_is_told_by_its_bytes(kind: str) -> None:
    assert sniff(EVERY[kind]) == kind
    assert check_header(EVERY[kind], PictureLimits(formats=(kind,))) == kind  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", EVERY)
def test_declared_sizes_are_those_that_pillow_reads(kind: str) -> None:
    assert declared_size(kind, EVERY[kind]) in ((320, 240), None)


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 50}, {"exif": b"Exif\0\0"}, {"xmp": b"<x/>"}])
def test_each_kind_of_webp_declares_its_size(options: dict[str, object]) -> None:
    data = encoded(drawn(123, 457), "WEBP", **options)
    assert declared_size("WEBP", data) == (123, 457)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_scans_are_counted_as_they_are_in_the_file(progressive: bool, mode: str) -> None:
    data = encoded(drawn(200, 150).convert(mode), progressive=progressive, quality=90)
    # Byte stuffing keeps the marker out of coded data, and these files hold no thumbnail.
    assert count_scans(data, 1000) == data.count(b"\xff\xda")


def test_scans_of_a_thumbnail_and_behind_the_end_do_not_count() -> None:
    thumbnail = encoded(drawn(64, 64), progressive=True)
    exif = Image.Exif()
    exif[0x9286] = thumbnail
    data = encoded(drawn(200, 150), progressive=True, exif=exif.tobytes())
    plain = encoded(drawn(200, 150), progressive=True)
    assert data.count(b"\xff\xda") > plain.count(b"\xff\xda")
    assert count_scans(data + thumbnail * 50, 1000) == plain.count(b"\xff\xda")


def test_counting_stops_when_there_are_enough() -> None:
    assert count_scans(hostile.progressive_bomb(500), 7) == 7


def test_counting_ends_on_any_bytes() -> None:
    dice = random.Random(11)
    for _ in range(300):
        noise = b"\xff\xd8\xff" + bytes(dice.choice(b"\xff\x00\xda\xc0\xd9\x01\xd0\x02") for _ in range(200))
        assert 0 <= count_scans(noise, 50) <= 50


@pytest.mark.parametrize(
    ("frame", "lossless"), [(0xC0, False), (0xC2, False), (0xC3, True), (0xCB, True), (0xC4, False)]
)
def test_a_lossless_jpeg_is_told_by_its_frame_whatever_stands_before_it(frame: int, lossless: bool) -> None:
    before = b"\xff\xd8\xff\xe1\x00\x06\xff\xc3\xff\xc3\xff\xc4\x00\x03\x00"
    assert is_lossless(before + bytes([0xFF, frame]) + b"\x00\x0b\x08\x00\x04\x00\x04\x01\x01\x11\x00") == lossless


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "nothing"),
        (b"\xef\xbb\xbf <HTML>", "HTML"),
        (b" [1]", "JSON"),
        (b"<svg/>", "XML"),
        (b"??", "something else"),
    ],
)
def test_what_is_no_picture_is_said_without_quoting_it(data: bytes, what: str) -> None:
    with pytest.raises(PhotoFailure) as refused:
        check_header(data, PictureLimits())
    assert refused.value.detail == f"{len(data)} bytes of {what}"


def test_limits_are_inclusive() -> None:
    out = io.BytesIO()
    Image.new("L", (200, 50)).save(out, "PNG")
    assert check_header(out.getvalue(), PictureLimits(max_pixels=10_000, max_side=200)) == "PNG"
    for limits in (PictureLimits(max_pixels=9_999), PictureLimits(max_side=199)):
        with pytest.raises(PhotoFailure, match="picture_too_large"):
            check_header(out.getvalue(), limits)
    bomb = hostile.progressive_bomb(20)
    scans = count_scans(bomb, 1000)
    assert check_header(bomb, PictureLimits(max_scans=scans)) == "JPEG"
    with pytest.raises(PhotoFailure, match="too_many_scans"):
        check_header(bomb, PictureLimits(max_scans=scans - 1))


def test_a_jpeg_cut_off_at_any_byte_is_judged_by_what_is_there() -> None:
    data = encoded(drawn(64, 48))
    assert {count_scans(data[:end], 100) for end in range(2, len(data))} == {0, 1}


def ftyp(*brands: bytes) -> bytes:
    body = b"ftyp" + brands[0] + b"\0\0\0\0" + b"".join(brands[1:])
    return (len(body) + 4).to_bytes(4, "big") + body + bytes(500)


@pytest.mark.parametrize(
    ("data", "kind", "name"),
    [
        (ftyp(b"heic", b"mif1", b"heic"), "HEIC", "HEIC (an iPhone's format)"),
        (ftyp(b"mif1", b"mif1", b"heix"), "HEIC", "HEIC (an iPhone's format)"),
        (ftyp(b"hevc", b"msf1"), "HEIC", "HEIC (an iPhone's format)"),
        (ftyp(b"heic", b"mif1", b"avif"), "HEIC", "HEIC (an iPhone's format)"),
        (ftyp(b"avif", b"mif1", b"miaf"), "AVIF", "AVIF"),
        (ftyp(b"mif1", b"miaf", b"avif"), "AVIF", "AVIF"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + ftyp(b"jxl "), "JXL", "JPEG XL"),
        (b"\xff\x0a" + bytes(50), "JXL", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + ftyp(b"jp2 "), "JP2", "JPEG 2000"),
        (b"\xff\x4f\xff\x51" + bytes(50), "JP2", "JPEG 2000"),
    ],
)
def test_formats_that_are_not_decoded_are_named_as_what_they_are(data: bytes, kind: str, name: str) -> None:
    assert sniff(data) == kind
    with pytest.raises(PhotoFailure) as refused:
        check_header(data, PictureLimits())
    assert refused.value.code == "format_refused"
    assert refused.value.detail.startswith(name)


def test_a_video_is_no_picture() -> None:
    assert sniff(ftyp(b"isom", b"iso2", b"avc1", b"mp41")) is None


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_scans_are_complete_until_one_of_them_is_left_out(progressive: bool, mode: str) -> None:
    data = encoded(drawn(200, 150).convert(mode), progressive=progressive, quality=90)
    assert scans_are_complete(data)
    assert not scans_are_complete(data[: data.rindex(b"\xff\xda")] + b"\xff\xd9")


def test_an_iphones_photo_is_cut_where_its_decoder_is_installed_and_allowed() -> None:
    heif = pytest.importorskip("pillow_heif", reason="cropline[heic] is not installed")
    out = io.BytesIO()
    heif.from_pillow(drawn(160, 120)).save(out, quality=90)
    photo = open_photo(out.getvalue(), PictureLimits(formats=("HEIC",)))
    photo.load()
    assert photo.upright_size == (160, 120)
    with pytest.raises(PhotoFailure, match="picture_too_large"):
        open_photo(out.getvalue(), PictureLimits(formats=("HEIC",), max_pixels=10_000))


def test_an_iphones_photo_without_its_decoder_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(PhotoFailure, match=r"format_refused: HEIC needs cropline\[heic\]"):
        open_photo(ftyp(b"heic"), PictureLimits(formats=("HEIC",)))
