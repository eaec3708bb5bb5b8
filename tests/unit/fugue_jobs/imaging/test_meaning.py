"""What samples mean, by arithmetic in this file: gamma, primaries, transparent colours, 16 bits."""

import io
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from cropline.config.profile import Profile
from fugue_jobs.work import Box
from tests.photos import drawn, encoded, with_orientation
from tests.unit.fugue_jobs.imaging.cutting import cuts, work_for
from tests.unit.fugue_jobs.imaging.forged import chunk

Curve = Callable[[float], float]
SRGB = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
P3 = (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
ADOBE = (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
WIDE = (0.3457, 0.3585, 0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001)
REC2020 = (0.3127, 0.329, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046)
SAMPLES = [(level, level * 7 % 256, 255 - level) for level in range(256)]
Chunk = tuple[bytes, bytes]


def png(width: int, depth: int, colour: int, row: bytes, *chunks: Chunk) -> bytes:
    """Return a PNG of one row of these packed samples."""
    header = struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, body) for kind, body in parts)


def coloured(*chunks: Chunk) -> bytes:
    return png(256, 8, 2, bytes(level for sample in SAMPLES for level in sample), *chunks)


def written(photo: bytes, **profile: Any) -> tuple[Image.Image, str | None]:
    (cut,) = cuts(photo, work_for(profiles=(Profile(format="png", **profile),)))
    assert cut.data is not None
    return Image.open(io.BytesIO(cut.data)), cut.outcome.flags


def pixels(photo: bytes, mode: str = "RGB") -> list[Any]:
    image, flags = written(photo)
    assert (image.mode, flags) == (mode, None)
    return list(image.get_flattened_data())


def gamma(value: float) -> Chunk:
    return b"gAMA", struct.pack(">I", round(value * 100_000))


def primaries(values: Sequence[float]) -> Chunk:
    return b"cHRM", struct.pack(">8I", *(round(value * 100_000) for value in values))


def power(value: float) -> Curve:
    return lambda sample: sample ** (1 / value)


def linear(sample: float) -> float:
    return sample / 12.92 if sample <= 0.04045 else ((sample + 0.055) / 1.055) ** 2.4


def bt709(sample: float) -> float:
    return sample / 4.5 if sample < 0.081 else ((sample + 0.099) / 1.099) ** (1 / 0.45)


def srgb(light: float) -> float:
    light = min(1.0, max(0.0, light))
    return 255 * (12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055)


def to_xyz(values: Sequence[float]) -> tuple[Any, Any]:
    corners = np.array([[x / y, 1, (1 - x - y) / y] for x, y in zip(values[2::2], values[3::2], strict=True)]).T
    white = np.array([values[0] / values[1], 1, (1 - values[0] - values[1]) / values[1]])
    return corners * np.linalg.solve(corners, white), white


def expected(values: Sequence[float], curve: Curve) -> Any:
    """Return the samples as sRGB, as real numbers."""
    own, white = to_xyz(values)
    target, daylight = to_xyz(SRGB)
    cones = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    adapted = np.linalg.inv(cones) @ np.diag(cones @ daylight / (cones @ white)) @ cones
    turned = np.linalg.inv(target) @ adapted @ own
    light = [np.array([curve(level / 255) for level in sample]) for sample in SAMPLES]
    return np.array([[srgb(value) for value in turned @ each] for each in light])


MEANT: dict[str, tuple[tuple[Chunk, ...], Sequence[float], Curve]] = {
    "nothing": ((), SRGB, linear),
    "gamma 1": ((gamma(1),), SRGB, power(1)),
    "gamma 0.6": ((gamma(0.6),), SRGB, power(0.6)),
    "the gamma that stands for sRGB": ((gamma(0.45455),), SRGB, linear),
    "sRGB's primaries and gamma": ((primaries(SRGB), gamma(0.45455)), SRGB, linear),
    "other primaries": ((primaries(ADOBE), gamma(0.45455)), ADOBE, power(0.45455)),
    "wide primaries of another white": ((primaries(WIDE), gamma(0.5556)), WIDE, power(0.5556)),
    "primaries without a gamma": ((primaries(P3),), P3, linear),
    "sRGB before gAMA": (((b"sRGB", b"\0"), gamma(1)), SRGB, linear),
    "cICP before all": (((b"cICP", bytes([12, 13, 0, 1])), (b"sRGB", b"\0"), gamma(1)), P3, linear),
    "cICP of BT.2020": (((b"cICP", bytes([9, 14, 0, 1])), gamma(1)), REC2020, bt709),
    "cICP of sRGB": (((b"cICP", bytes([1, 13, 0, 1])), gamma(1)), SRGB, linear),
}


@pytest.mark.parametrize("kind", MEANT)
def test_a_png_is_converted_by_what_it_says_of_its_colours(kind: str) -> None:
    chunks, values, curve = MEANT[kind]
    assert np.abs(np.array(pixels(coloured(*chunks))) - expected(values, curve)).max() < 1


def icc(data: bytes) -> Chunk:
    return b"iCCP", b"any\0\0" + zlib.compress(data)


def test_a_profile_comes_before_srgb_and_gamma_and_a_broken_one_is_flagged() -> None:
    plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert pixels(coloured(icc(plain), gamma(1))) == SAMPLES
    image, flags = written(coloured((b"iCCP", b"any\0\0broken"), gamma(1)))
    assert (list(image.get_flattened_data()), flags) == (SAMPLES, "icc_ignored")


@pytest.mark.parametrize("code", [(9, 16, 0, 1), (9, 18, 0, 1), (1, 13, 0, 0), (1, 13, 1, 1), (2, 2, 0, 1)])
def test_code_points_that_cannot_be_followed_are_flagged_and_the_next_chunk_counts(code: tuple[int, ...]) -> None:
    image, flags = written(coloured((b"cICP", bytes(code)), gamma(1)))
    assert flags == "colour_ignored"
    assert np.abs(np.array(image.get_flattened_data()) - expected(SRGB, power(1))).max() < 1


@pytest.mark.parametrize("broken", [gamma(0), (b"gAMA", b"\0"), primaries((0,) * 8)])
def test_values_that_mean_nothing_are_flagged_and_change_nothing(broken: Chunk) -> None:
    try:
        image, flags = written(coloured(broken))
    except Exception as refused:  # noqa: BLE001 - Pillow refuses chunks that are cut off
        assert "corrupt_picture" in str(refused)  # noqa: PT017
        return
    assert (list(image.get_flattened_data()), flags) == (SAMPLES, "colour_ignored")


def test_what_chunks_say_is_converted_with_keep_icc_too() -> None:
    image, _ = written(coloured(primaries(P3), gamma(1)), colour="keep_icc")
    assert "icc_profile" not in image.info
    assert np.abs(np.array(image.get_flattened_data()) - expected(P3, power(1))).max() < 1


def renamed(profile: bytes, name: str) -> bytes:
    return profile.replace("sRGB".encode("utf-16-be"), name.encode("utf-16-be"))


def test_srgb_is_told_by_what_a_profile_does_and_not_by_its_name() -> None:
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert pixels(coloured(icc(renamed(own, "cams")))) == SAMPLES
    swapped = bytearray(own)
    entries = {own[at : at + 4]: at for at in range(132, 132 + 12 * own[131], 12)}
    swapped[entries[b"rXYZ"] : entries[b"rXYZ"] + 4], swapped[entries[b"bXYZ"] : entries[b"bXYZ"] + 4] = (
        b"bXYZ",
        b"rXYZ",
    )
    red, _, blue = pixels(coloured(icc(bytes(swapped))))[0]
    assert red > 200 > 50 > blue, "0, 0, 255 in a profile that calls itself sRGB and means red by its third number"


PROFILE = icc(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())


def packed(values: Sequence[int], depth: int) -> bytes:
    bits = "".join(format(value, f"0{depth}b") for value in values)
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))


@pytest.mark.parametrize("more", [(), (gamma(1),), (PROFILE,)], ids=["plain", "with gamma", "with a profile"])
@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_one_grey_is_transparent_at_every_depth(depth: int, more: tuple[Chunk, ...]) -> None:
    values = [100, 25_700, 101, 65_535, 0] if depth == 16 else list(range(1 << depth))
    clear = 100 if depth == 16 else 1
    # Bits beyond the depth are to be masked.
    said = struct.pack(">H", clear | (0 if depth == 16 else 1 << depth))
    found = pixels(png(len(values), depth, 0, packed(values, depth), *more, (b"tRNS", said)), "RGBA")
    assert [pixel[3] for pixel in found] == [0 if value == clear else 255 for value in values]
    if not more:
        most = (1 << depth) - 1
        assert [pixel[0] for pixel in found] == [(2 * 255 * value + most) // (2 * most) for value in values]


@pytest.mark.parametrize("more", [(), (gamma(1),), (PROFILE,)], ids=["plain", "with gamma", "with a profile"])
@pytest.mark.parametrize("depth", [8, 16])
def test_one_colour_is_transparent_and_its_neighbours_are_not(depth: int, more: tuple[Chunk, ...]) -> None:
    clear = (255, 0, 254) if depth == 8 else (0x1234, 5, 6)
    others = [(clear[0] - 1, *clear[1:]), (clear[0], clear[1] + 1, clear[2]), (clear[0], clear[1], clear[2] + 1)]
    row = struct.pack(">12" + ("B" if depth == 8 else "H"), *clear, *(value for other in others for value in other))
    found = pixels(png(4, depth, 2, row, *more, (b"tRNS", struct.pack(">3H", *clear))), "RGBA")
    assert [pixel[3] for pixel in found] == [0, 255, 255, 255]


def test_a_transparent_colour_is_laid_on_the_matte() -> None:
    photo = png(2, 8, 2, bytes([255, 0, 255, 64, 128, 192]), (b"tRNS", struct.pack(">3H", 255, 0, 255)))
    profile = Profile(format="jpeg", quality=100, subsampling="4:4:4", matte="#00ff00")
    (cut,) = cuts(photo, work_for(Box("left", 0.0, 0.0, 0.5, 1.0), profiles=(profile,)))
    assert cut.data is not None
    red, green, blue = Image.open(io.BytesIO(cut.data)).getpixel((0, 0))  # type: ignore[misc]
    assert green > 240 > 20 > max(red, blue)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_palette_has_an_alpha_for_each_entry_that_it_says(depth: int) -> None:
    photo = png(2, depth, 3, packed([0, 1], depth), (b"PLTE", bytes(range(6))), (b"tRNS", b"\x80"))
    assert pixels(photo, "RGBA") == [(0, 1, 2, 128), (3, 4, 5, 255)]


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_are_rounded_in_every_kind_of_png(colour: int, channels: int) -> None:
    values = list(range(0, 65_536, 97))
    row = struct.pack(f">{channels * len(values)}H", *(value for value in values for _ in range(channels)))
    found = pixels(png(len(values), 16, colour, row), "RGBA" if colour > 2 else "RGB")
    assert [pixel[0] for pixel in found] == [(2 * value + 257) // 514 for value in values]
    assert all(pixel[-1] == pixel[0] for pixel in found)


def test_greys_with_alpha_and_a_profile_of_greys_keep_both() -> None:
    """A handmade grey profile of gamma 1."""
    curve = b"curv" + struct.pack(">II", 0, 0)
    tags = [(b"wtpt", b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)), (b"kTRC", curve)]
    at, listed, body = 128 + 4 + 24, b"", b""
    for name, tag in tags:
        listed += name + struct.pack(">II", at + len(body), len(tag))
        body += tag
    header = struct.pack(">I4sI4s4s4s", at + len(body), bytes(4), 0x02400000, b"mntr", b"GRAY", b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    grey = header.ljust(128, b"\0") + struct.pack(">I", 2) + listed + body
    photo = png(3, 8, 4, bytes([0, 0, 128, 77, 255, 255]), icc(grey))
    found = pixels(photo, "RGBA")
    assert [pixel[3] for pixel in found] == [0, 77, 255]
    assert abs(found[1][0] - srgb(128 / 255)) <= 1


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


def with_xmp(kind: str, exif: Image.Exif | None) -> bytes:
    more: dict[str, Any] = {} if exif is None else {"exif": exif}
    if kind == "PNG":
        from PIL.PngImagePlugin import PngInfo

        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", XMP.decode())
        return encoded(drawn(160, 120), kind, pnginfo=text, **more)
    if kind == "TIFF":
        from PIL.TiffImagePlugin import ImageFileDirectory_v2

        tags = ImageFileDirectory_v2()
        tags[700] = XMP
        return encoded(drawn(160, 120), kind, tiffinfo=tags)
    return encoded(drawn(160, 120), kind, xmp=XMP, **more)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_an_orientation_in_xmp_turns_nothing(kind: str) -> None:
    other = Image.Exif()
    other[0x010E] = "a description"  # EXIF without an orientation
    for exif in (None, other, with_orientation(1)):
        (cut,) = cuts(with_xmp(kind, exif), formats=(kind,))
        assert (cut.outcome.width, cut.outcome.height) == (160, 120)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_exif_turns_whatever_xmp_says(kind: str) -> None:
    (cut,) = cuts(with_xmp(kind, with_orientation(8)), formats=(kind,))
    assert (cut.outcome.width, cut.outcome.height) == (120, 160)
