"""Crops are those of the plain way, pixel by pixel: every orientation, mode, profile and convention."""

import io
import math
import random
import struct
import zlib
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageCms, ImageOps

from cropline.config.profile import Profile
from fugue_jobs.work import Box
from tests.photos import drawn, encoded, with_orientation
from tests.unit.fugue_jobs.imaging.cutting import cuts, work_for
from tests.unit.fugue_jobs.imaging.forged import chunk

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

BOXES = [Box("a", 0.1, 0.2, 0.43, 0.61), Box("b", 0.0, 0.0, 1.0, 1.0), Box("c", 0.7001, 0.3333, 0.71, 0.9999)]
PNG = Profile(format="png")


def opened(data: bytes | None) -> Image.Image:
    assert data is not None
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def plain(photo: bytes, box: Box) -> Image.Image:
    """The plain way: open, turn, convert, crop the rounded box."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(photo))).convert("RGB")
    edges: list[Any] = [box.xmin, box.ymin, box.xmax, box.ymax]
    sides = (image.width, image.height) * 2
    return image.crop(tuple(math.floor(edge * side + 0.5) for edge, side in zip(edges, sides, strict=True)))


def assert_same(found: Image.Image, wanted: Image.Image) -> None:
    assert (found.mode, found.size) == (wanted.mode, wanted.size)
    assert found.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_crops_are_those_of_the_plain_way_in_every_orientation(orientation: int, kind: str) -> None:
    photo = encoded(drawn(301, 203), kind, exif=with_orientation(orientation))
    for box, cut in zip(BOXES, cuts(photo, work_for(*BOXES), formats=(kind,)), strict=True):
        assert_same(opened(cut.data), plain(photo, box))


@pytest.mark.parametrize("orientation", range(2, 9))
def test_all_orientations_of_one_photo_give_the_same_crops(orientation: int) -> None:
    upright = drawn(300, 200)
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    upright.info["exif"] = with_orientation(inverse).tobytes()
    stored = ImageOps.exif_transpose(upright)
    turned = encoded(stored, "PNG", exif=with_orientation(orientation))
    wanted = [cut.data for cut in cuts(encoded(drawn(300, 200), "PNG"), work_for(*BOXES))]
    assert [cut.data for cut in cuts(turned, work_for(*BOXES))] == wanted


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_of_the_stored_picture_and_in_pixels_mean_the_same_crop(orientation: int) -> None:
    photo = encoded(drawn(300, 200), "PNG", exif=with_orientation(orientation))
    stored = Box("a", 30.0, 40.0, 120.0, 140.0)
    shown = opened(photo).crop((30, 40, 120, 140))
    shown.info["exif"] = with_orientation(orientation).tobytes()
    wanted = ImageOps.exif_transpose(shown)
    in_pixels = work_for(stored, coordinates="pixels", orientation="stored")
    normalised = work_for(Box("a", 0.1, 0.2, 0.4, 0.7), orientation="stored")
    for work in (in_pixels, normalised):
        assert_same(opened(cuts(photo, work)[0].data), wanted)


def of_mode(mode: str) -> tuple[Image.Image, str]:
    """Return a picture of this mode and a format that holds it."""
    picture = drawn(200, 150)
    if mode in ("LA", "RGBA"):
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    if mode == "P with transparency":
        paletted = picture.quantize(64)
        paletted.info["transparency"] = 3
        return paletted, "PNG"
    return picture.convert(mode), {"CMYK": "JPEG", "YCbCr": "TIFF"}.get(mode, "PNG")


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr"])
def test_opaque_modes_become_the_rgb_of_the_plain_way(mode: str) -> None:
    picture, kind = of_mode(mode)
    photo = encoded(picture, kind)
    for box, cut in zip(BOXES, cuts(photo, work_for(*BOXES), formats=(kind,)), strict=True):
        assert_same(opened(cut.data), plain(photo, box))


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P with transparency"])
def test_transparency_is_kept_where_the_format_has_it_else_laid_on_the_matte(mode: str) -> None:
    picture, kind = of_mode(mode)
    photo = encoded(picture, kind)
    profiles = (PNG, Profile(format="jpeg", quality=100, subsampling="4:4:4", matte="#ff0000"))
    kept, laid = cuts(photo, work_for(profiles=profiles))
    whole = Image.open(io.BytesIO(photo)).convert("RGBA")
    assert_same(opened(kept.data), whole)
    ground = Image.new("RGBA", whole.size, "#ff0000")
    ground.alpha_composite(whole)
    difference = ImageChops.difference(opened(laid.data), ground.convert("RGB"))
    assert sum(sum(band) for band in difference.getextrema()) < 120, "no more than JPEG itself loses"


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    ramp = Image.new("I;16", (256, 2))
    ramp.putdata([value * 257 for value in range(256)] * 2)
    found = opened(cuts(encoded(ramp, "PNG"))[0].data)
    assert [found.getpixel((x, 0)) for x in range(256)] == [(x, x, x) for x in range(256)]


def test_sixteen_bits_of_any_byte_order_and_colour_are_scaled() -> None:
    """Handmade files: Pillow writes 16 bits in one byte order and in grey only."""
    header, pixel = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0), b"\0" + struct.pack(">HHH", 0x00FF, 0x80FF, 0xFFFF)
    coloured = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixel)) + chunk(b"IEND", b"")
    )
    assert opened(cuts(coloured)[0].data).getpixel((0, 0)) == (1, 128, 255)
    grey = Image.new("I;16B", (2, 1))
    grey.putdata([0x4040, 0xFFFF])
    found = opened(cuts(encoded(grey, "TIFF"), formats=("TIFF",))[0].data)
    assert [found.getpixel((x, 0)) for x in range(2)] == [(64, 64, 64), (255, 255, 255)]


def cmyk_profile() -> bytes:
    """Return a made-up printer's CMYK profile whose cyan is red: an ICC 2 file with one 2 x 2 x 2 x 2 table to Lab."""
    corners = [(255, 128, 128)] + [(0, 128, 128)] * 7 + [(136, 208, 195)] + [(0, 128, 128)] * 7
    ramp = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + struct.pack(">9i", *[65536, 0, 0, 0, 65536, 0, 0, 0, 65536])
    table += ramp * 4 + bytes(value for corner in corners for value in corner) + ramp * 3
    name = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"inks\0" + bytes(78)
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    tags, body, at = b"", b"", 128 + 4 + 3 * 12
    for sign, data in ((b"A2B0", table), (b"desc", name), (b"wtpt", white)):
        padded = data + bytes(-len(data) % 4)
        tags += sign + struct.pack(">II", at + len(body), len(data))
        body += padded
    header = struct.pack(">I4sI4s4s4s", at + len(body), b"\0\0\0\0", 0x02100000, b"prtr", b"CMYK", b"Lab ")
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + struct.pack(">I", 3) + tags + body


def test_cmyk_goes_through_its_profile_when_it_has_one() -> None:
    inks = Image.new("CMYK", (64, 48), (255, 0, 0, 0))
    bare, profiled = (encoded(inks, "JPEG", quality=100, **more) for more in ({}, {"icc_profile": cmyk_profile()}))
    assert opened(cuts(bare)[0].data).getpixel((5, 5)) == (0, 255, 255)
    cut = cuts(profiled, work_for(profiles=(Profile(format="png", colour="keep_icc"),)))[0]
    found = opened(cut.data)
    red, green, blue = found.getpixel((5, 5))  # type: ignore[misc]
    assert red > 240
    assert green < 20
    assert blue < 20
    assert cut.outcome.flags is None
    assert "icc_profile" not in found.info, "a CMYK profile would lie about RGB pixels"


def test_a_profile_of_other_colours_than_the_pixels_is_ignored() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo = encoded(drawn(64, 48).convert("CMYK"), "JPEG", icc_profile=srgb)
    cut = cuts(photo)[0]
    assert cut.outcome.flags == "icc_ignored"
    assert_same(opened(cut.data), plain(photo, Box("w", 0.0, 0.0, 1.0, 1.0)))


def swapped_profile() -> bytes:
    """Return sRGB with red and blue primaries swapped, so that its effect is obvious."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    entries = {bytes(data[at : at + 4]): at for at in range(132, 132 + 12 * data[131], 12)}
    red, blue = entries[b"rXYZ"], entries[b"bXYZ"]
    data[red : red + 4], data[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(data).replace("sRGB".encode("utf-16-be"), "BGRs".encode("utf-16-be"))


def test_srgb_converts_pixels_and_drops_the_profile() -> None:
    photo = encoded(Image.new("RGB", (64, 48), (200, 30, 10)), "PNG", icc_profile=swapped_profile())
    found = opened(cuts(photo)[0].data)
    assert "icc_profile" not in found.info
    red, _, blue = found.getpixel((5, 5))  # type: ignore[misc]
    assert blue > 150 > 60 > red


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "avif"])
def test_keep_icc_leaves_the_numbers_and_keeps_the_profile(kind: Any) -> None:
    profile = swapped_profile()
    photo = encoded(Image.new("RGB", (64, 48), (200, 30, 10)), "PNG", icc_profile=profile)
    found = opened(cuts(photo, work_for(profiles=(Profile(format=kind, quality=100, colour="keep_icc"),)))[0].data)
    assert found.info["icc_profile"] == profile
    assert all(abs(a - b) <= 4 for a, b in zip(found.getpixel((5, 5)), (200, 30, 10), strict=True))  # type: ignore[arg-type]


def test_a_broken_profile_is_ignored_and_flagged() -> None:
    photo = encoded(drawn(64, 48), "PNG", icc_profile=b"not a profile")
    cut = cuts(photo)[0]
    assert cut.outcome.flags == "icc_ignored"
    assert_same(opened(cut.data), drawn(64, 48))


def test_padding_min_side_and_max_side() -> None:
    photo = encoded(drawn(400, 300), "PNG")
    box = Box("a", 0.25, 0.25, 0.5, 0.5)
    profiles = (
        Profile(format="png", padding=0.2),
        Profile(format="png", min_side=76),
        Profile(format="png", max_side=50),
    )
    padded, skipped, shrunk = cuts(photo, work_for(box, profiles=profiles))
    assert_same(opened(padded.data), drawn(400, 300).crop((80, 60, 220, 165)))
    assert (skipped.outcome.status, skipped.outcome.reason, skipped.data) == ("skipped", "below_min_side", None)
    wanted = drawn(400, 300).crop((100, 75, 200, 150)).resize((50, 38), Image.Resampling.LANCZOS)
    assert_same(opened(shrunk.data), wanted)
    assert (shrunk.outcome.width, shrunk.outcome.height) == (50, 38)


@pytest.mark.parametrize(
    ("profile", "kind"),
    [
        (Profile(format="jpeg", quality=30), "JPEG"),
        (Profile(format="webp", lossless=True), "WEBP"),
        (Profile(format="avif", quality=50), "AVIF"),
        (PNG, "PNG"),
    ],
)
def test_the_profiles_format_is_written_and_said(profile: Profile, kind: str) -> None:
    cut = cuts(encoded(drawn(120, 90), "PNG"), work_for(profiles=(profile,)))[0]
    found = opened(cut.data)
    assert found.format == kind
    assert (cut.outcome.format, cut.outcome.bytes) == (profile.format, len(cut.data or b""))
    if profile.lossless:
        assert_same(found, drawn(120, 90))


def test_quality_and_subsampling_are_those_of_the_profile() -> None:
    photo = encoded(drawn(200, 150), "PNG")
    fine, coarse = Profile(quality=95, subsampling="4:4:4"), Profile(quality=40, subsampling="4:2:0")
    found = [opened(cut.data) for cut in cuts(photo, work_for(profiles=(fine, coarse)))]
    for image, profile in zip(found, (fine, coarse), strict=True):
        wanted = opened(encoded(drawn(200, 150), quality=profile.quality, subsampling=profile.subsampling))
        assert image.quantization == wanted.quantization  # type: ignore[attr-defined]
        assert image.layer == wanted.layer  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fields", "kind", "options"),
    [
        ({}, "JPEG", {"quality": 90, "subsampling": "4:2:0"}),
        ({"effort": 1}, "JPEG", {"quality": 90, "subsampling": "4:2:0", "optimize": True}),
        ({"format": "png"}, "PNG", {"compress_level": 1}),
        ({"format": "png", "effort": 9}, "PNG", {"compress_level": 9}),
        ({"format": "webp"}, "WEBP", {"quality": 90}),
        ({"format": "webp", "effort": 0}, "WEBP", {"quality": 90, "method": 0}),
        ({"format": "webp", "lossless": True}, "WEBP", {"quality": 90, "lossless": True, "method": 1}),
        ({"format": "avif"}, "AVIF", {"quality": 90, "max_threads": 1}),
        ({"format": "avif", "effort": 1}, "AVIF", {"quality": 90, "max_threads": 1, "speed": 9}),
    ],
    ids=str,
)
def test_effort_is_passed_to_the_encoder(fields: dict[str, Any], kind: str, options: dict[str, Any]) -> None:
    cut = cuts(encoded(drawn(120, 90), "PNG"), work_for(profiles=(Profile(**fields),)))[0]
    assert cut.data == encoded(drawn(120, 90), kind, **options)


@pytest.mark.parametrize(
    ("size", "icc"),
    [((200, 200), None), ((2, 16_000), None), ((3, 3), bytes(70_000)), ((60, 60), bytes(70_000))],
    ids=["square", "narrow", "tiny with a large profile", "small with a large profile"],
)
@pytest.mark.parametrize("quality", [90, 100])
def test_effort_of_a_jpeg_changes_no_pixel_of_noise_either(
    size: tuple[int, int], icc: bytes | None, quality: int
) -> None:
    # Pillow expects at most one or two bytes for a pixel of such a file.
    noise = Image.frombytes("RGB", size, random.Random(1).randbytes(3 * size[0] * size[1]))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo = encoded(noise, "PNG", icc_profile=None if icc is None else srgb + icc)
    profiles = [Profile(colour="keep_icc", quality=quality, subsampling="4:4:4", effort=effort) for effort in (0, 1)]
    small, smaller = cuts(photo, work_for(profiles=(profiles[0], profiles[1])))
    assert (smaller.outcome.status, smaller.outcome.reason) == ("written", None)
    assert_same(opened(smaller.data), opened(small.data))
    assert opened(smaller.data).info.get("icc_profile") == (None if icc is None else srgb + icc)


def test_several_profiles_share_one_decode_and_give_what_each_gives_alone() -> None:
    photo = encoded(drawn(300, 200), "JPEG", quality=92)
    profiles = (PNG, Profile(max_side=40), Profile(format="webp", padding=0.1), Profile(colour="keep_icc"))
    together = cuts(photo, work_for(*BOXES, profiles=profiles))
    assert [cut.outcome[:2] for cut in together] == [(p, b) for b in range(3) for p in range(4)]
    for number, profile in enumerate(profiles):
        alone = [cut.data for cut in cuts(photo, work_for(*BOXES, profiles=(profile,)))]
        assert [cut.data for cut in together if cut.outcome.order == number] == alone
