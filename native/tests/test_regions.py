"""cropline_regions returns Pillow's pixels or refuses a JPEG; nothing else."""

from __future__ import annotations

import ctypes
import random
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jpegs import LOSSLESS, SAMPLINGS, adobe, drawn, entropy, jpeg, layered, sampled, whole
from PIL import Image

regions = pytest.importorskip("cropline_regions", reason="cropline-regions is not built: make native")
_plan = pytest.importorskip("cropline_regions._plan")

# Hypothesis prints a failing example. derandomize fixes its seed, so that a failure repeats.
PROPERTY = settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

# What no camera writes: chroma finer than luma, two different chromas, a luma with a unique sampling.
UNEVEN = [
    ((1, 1), (2, 2), (1, 1)),
    ((1, 1), (1, 4), (1, 2)),
    ((2, 1), (1, 1), (2, 1)),
    ((2, 2), (2, 1), (1, 2)),
    ((2, 4), (1, 1), (1, 1)),
    ((1, 3), (1, 1), (1, 1)),
    ((2, 2), (2, 2), (1, 1)),
]


@st.composite
def orders(draw: st.DrawFn) -> tuple[bytes, int, list[tuple[int, int, int, int]]]:
    """Draw (JPEG, scale, boxes at that scale): odd sizes, all samplings, RGB; boxes at edges, of 1 px, overlapping."""
    width, height = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    scale = draw(st.sampled_from([1, 1, 1, 2, 4, 8]))
    kind = draw(st.sampled_from([*SAMPLINGS, "grey", "uneven"]))
    options: dict[str, Any] = {"quality": draw(st.integers(20, 100)), "optimize": draw(st.booleans())}
    restart = draw(st.sampled_from([0, 0, 1, 3, 17]))
    seed = draw(st.integers(0, 2**32))
    if kind == "grey":
        data = layered(
            width, height, seed, [draw(st.sampled_from([(1, 1), (2, 2), (4, 1)]))], restart=restart, **options
        )
    elif kind == "uneven":
        data = layered(width, height, seed, draw(st.sampled_from(UNEVEN)), restart=restart, **options)
    else:
        data = sampled(width, height, seed, kind, restart=restart, **options)
    if kind != "grey" and draw(st.integers(0, 3)) == 0:
        data = adobe(data, draw(st.sampled_from([0, 1])))
    across, down = -(-width // scale), -(-height // scale)
    box = st.tuples(_side(across), _side(down)).map(lambda sides: (sides[0][0], sides[1][0], sides[0][1], sides[1][1]))
    return data, scale, draw(st.lists(box, min_size=1, max_size=6))


def _side(size: int) -> st.SearchStrategy[tuple[int, int]]:
    edges = st.tuples(st.integers(0, size - 1), st.integers(1, min(size, 60)))
    return edges.map(lambda edge: (edge[0], min(size, edge[0] + edge[1])))


WAYS = ["cuts", "bands", None]


def cropped(bands: Any, box: tuple[int, int, int, int]) -> Image.Image:
    """Return the box out of what was decoded for it."""
    (band,) = bands
    crop: Image.Image = band.image(box)
    return crop


@PROPERTY
@given(order=orders(), way=st.sampled_from(["cuts", "cuts", "bands", None]))
def test_every_box_has_the_pixels_of_pillows_whole_decode(
    order: tuple[bytes, int, list[tuple[int, int, int, int]]], way: str | None
) -> None:
    data, scale, boxes = order
    expected = whole(data, scale)
    bands = regions.decode(data, boxes, scale=scale, way=way)
    assert regions.size(data, scale=scale) == expected.size
    for box, band in zip(boxes, bands, strict=True):
        assert band.image(box).tobytes() == expected.crop(box).tobytes(), box


def test_only_the_bands_and_columns_of_the_boxes_are_in_memory() -> None:
    data = sampled(1600, 1200, 1, "420")
    boxes = [(800, 100, 900, 150), (700, 900, 750, 1000), (720, 1000, 760, 1010)]
    bands = regions.decode(data, boxes, way="bands")
    assert [(band.top, band.height) for band in bands] == [(96, 58), (896, 118), (896, 118)]
    assert all(band.left <= 696 and 696 - band.left < 16 and band.left + band.width == 904 for band in bands)
    assert all(len(band.data) == band.width * band.height * 4 for band in bands)
    assert bands[1] is bands[2]


def test_only_the_mcus_of_the_boxes_are_in_memory_where_they_are_cut_out() -> None:
    data = sampled(1600, 1200, 1, "420")
    boxes = [(800, 100, 900, 150), (5, 900, 55, 1100), (20, 910, 60, 1010), (1590, 0, 1600, 1)]
    cuts = regions.decode(data, boxes)
    # From whole MCUs of 16 px on, with 4 px more where the picture has them; the second and third are merged.
    assert [(cut.left, cut.top, cut.left + cut.width, cut.top + cut.height) for cut in cuts] == [
        (784, 96, 904, 154),
        (0, 896, 64, 1104),
        (0, 896, 64, 1104),
        (1584, 0, 1600, 5),
    ]
    assert sum(len(cut.data) for cut in {cut.offset: cut for cut in cuts}.values()) == max(
        cut.offset + len(cut.data) for cut in cuts
    )


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("restart", [0, 1, 7])
@pytest.mark.parametrize("kind", SAMPLINGS)
def test_boxes_are_cut_out_of_every_kind_where_that_costs_less(kind: str, restart: int, optimize: bool) -> None:
    """Without this test, all others would pass if every JPEG were left to bands."""
    data = sampled(640, 480, 1, kind, restart=restart, optimize=optimize)
    boxes = [(20, 30, 60, 70), (500, 400, 530, 420)]
    cuts = regions.decode(data, boxes)
    assert [cut.left + cut.width for cut in cuts] == [64, 534]


def test_boxes_that_cover_the_picture_are_bands() -> None:
    (band,) = regions.decode(sampled(640, 480, 1, "420"), [(0, 0, 640, 480)])
    assert (band.width, band.height) == (640, 480)
    across = [(x, 0, x + 300, 480) for x in range(0, 340, 20)]
    assert len({band.offset for band in regions.decode(sampled(640, 480, 1, "420"), across)}) == 1


def test_a_bands_picture_is_its_memory_and_not_a_copy() -> None:
    band = regions.decode(sampled(64, 64, 1, "420"), [(0, 0, 64, 64)])[0]
    whole, corner = band.image(), band.image((60, 60, 64, 64))
    assert (whole.mode, whole.convert("RGBX").tobytes()) == ("RGB", bytes(band.data))
    band.memory[band.offset : band.offset + len(band.data)] = bytes(len(band.data))
    assert (whole.getextrema(), corner.getextrema()) == (((0, 0),) * 3,) * 2


def test_given_memory_is_used_and_does_not_grow() -> None:
    memory = bytearray(2_000_000)
    boxes = [(0, 0, 64, 64), (5, 300, 90, 340)]
    for way in WAYS:
        bands = regions.decode(sampled(640, 480, 1, "420"), boxes, memory=lambda size: memory, way=way)
        assert all(band.memory is memory for band in bands)
        assert [band.offset for band in bands] == [0, bands[0].stride * bands[0].height]


@pytest.mark.parametrize("way", WAYS)
def test_memory_that_is_too_small_is_refused_and_not_written_beyond(way: str | None) -> None:
    with pytest.raises(ValueError, match="too small"):
        regions.decode(sampled(640, 480, 1, "420"), [(0, 0, 64, 64)], memory=lambda size: bytearray(64), way=way)


def test_a_box_in_the_last_row_of_a_small_last_band_is_decoded() -> None:
    """Pillow maps whole strides, so the memory must not end before the stride does."""
    data = sampled(300, 20, 1, "444")
    boxes = [(0, 16, 199, 20), (297, 0, 298, 1)]
    right = (198, 19, 199, 20)
    assert regions.decode(data, boxes, way="cuts")[0].image(right).tobytes() == whole(data).crop(right).tobytes()


@pytest.mark.parametrize("box", [(0, 0, 33, 32), (-1, 0, 8, 8), (8, 8, 8, 9), (0, 31, 8, 33), (9, 8, 8, 9)])
def test_a_box_that_extends_beyond_its_band_is_refused(box: tuple[int, int, int, int]) -> None:
    band = regions.decode(sampled(32, 32, 1, "444"), [(0, 0, 32, 32)])[0]
    with pytest.raises(ValueError, match="sticks out"):
        band.image(box)


def with_frame_byte(data: bytes, offset: int, value: int) -> bytes:
    at = data.index(b"\xff\xc0") + offset
    return data[:at] + bytes([value]) + data[at + 1 :]


def plain() -> bytes:
    return sampled(160, 120, 1, "420")


def without_end(data: bytes) -> bytes:
    return data[: entropy(data) + (len(data) - entropy(data)) // 2]


REFUSED = {
    "progressive": lambda: jpeg(drawn(64, 64, 1), progressive=True),
    "components": lambda: jpeg(drawn(64, 64, 1, "CMYK")),
    "precision": lambda: with_frame_byte(plain(), 4, 12),
    "arithmetic": lambda: plain().replace(b"\xff\xc0", b"\xff\xc9", 1),
    "several_scans": lambda: two_scans(),
    "tables": lambda: plain().replace(b"\xff\xc4", b"\xff\xfe"),
}


def two_scans() -> bytes:
    """Return a JPEG whose header has luma alone in a first scan: that is enough to be refused."""
    data = plain()
    at = data.index(b"\xff\xda")
    return data[:at] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + data[entropy(data) :]


@pytest.mark.parametrize("reason", list(REFUSED))
def test_what_is_not_supported_is_refused_with_its_reason(reason: str) -> None:
    with pytest.raises(regions.Undecoded) as refused:
        regions.decode(REFUSED[reason](), [(0, 0, 8, 8)])
    assert refused.value.reason == reason


def restarting() -> tuple[bytes, int]:
    """Return a JPEG and the position of its second restart marker."""
    data = sampled(160, 120, 1, "420", restart=4)
    return data, data.index(b"\xff\xd1", entropy(data))


def restart_lost() -> bytes:
    data, at = restarting()
    return data[:at] + data[at + 2 :]


def restart_renamed() -> bytes:
    data, at = restarting()
    return data[:at] + b"\xff\xd5" + data[at + 2 :]


def restart_moved(by: int) -> bytes:
    """Return a JPEG with a byte lost or added before a restart."""
    data, at = restarting()
    return data[: at - 1] + data[at:] if by < 0 else data[:at] + bytes(by) + data[at:]


def restarts_unannounced() -> bytes:
    data = restarting()[0]
    at = data.index(b"\xff\xdd")
    return data[:at] + data[at + 6 :]


def inserted(more: bytes, before_end: int = 2) -> bytes:
    return plain()[:-before_end] + more + plain()[-before_end:]


# libjpeg warns of these, or may: cuts leave them to bands.
UNCUT = {
    "a restart with another's number": restart_renamed,
    "the last restart lost": lambda: blocks(GOOD, GOOD, GOOD, GOOD, interval=3),
    "a restart early": lambda: restart_moved(-1),
    "a restart late": lambda: restart_moved(1),
    "restarts that no header announces": restarts_unannounced,
    "a restart that does not belong there": lambda: inserted(b"\xff\xd0", 300),
    "bytes too many before the end": lambda: inserted(bytes(2)),
    "a stuffed byte too many before the end": lambda: inserted(b"\xff\0"),
    "a fill byte": lambda: inserted(b"\xff"),
    "a byte too few": lambda: plain()[:-3] + plain()[-2:],
    "another marker": lambda: inserted(b"\xff\xc4\0\2", 300),
    "one more row than it has": lambda: tall(plain(), 136),
    "one row less than it has": lambda: tall(plain(), 96),
    "a code of ones, which is invalid": lambda: inserted(b"\xff\0" * 4, 300),
    "a scan that says it is of another kind": lambda: (
        plain()[: entropy(plain()) - 2] + b"\x3e" + plain()[entropy(plain()) - 1 :]
    ),
    "coefficients too many": lambda: blocks(GOOD, GOOD, GOOD, "0" + "101" * 48 + "011"),
    "an invalid DC code": lambda: blocks(GOOD, GOOD, GOOD, "10000"),
    "an AC code that is none": lambda: blocks(GOOD, GOOD, GOOD, "011"),
}


@pytest.mark.parametrize("kind", UNCUT)
def test_nothing_is_cut_out_of_what_libjpeg_would_warn_of(kind: str) -> None:
    data = UNCUT[kind]()
    _, height = regions.size(data)
    with pytest.raises(regions.Undecoded):
        regions.decode(data, [(0, height - 1, 1, height)], way="cuts")


# Bits of a block of blocks() that fill three bytes.
GOOD = "0" + "101" * 7 + "00"


def blocks(*each: str, interval: int = 0) -> bytes:
    """Return a row of grey blocks of these bits. DC: 0, no difference. AC: 00, end; 01, 1 after 15 zeros; 10, a value."""
    tables = segment(0xC4, bytes([0, 1, *[0] * 15, 0])) + segment(0xC4, bytes([0x10, 0, 3, *[0] * 14, 0, 0xF1, 1]))
    tables += segment(0xDB, bytes([0, *[1] * 64])) + segment(0xDD, interval.to_bytes(2, "big"))
    frame = segment(0xC0, bytes([8, 0, 8, 0, 8 * len(each), 1, 1, 0x11, 0]))
    bits = "".join(each)
    bits += "1" * (-len(bits) % 8)
    coded = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)).replace(b"\xff", b"\xff\0")
    scan = segment(0xDA, bytes([1, 1, 0, 0, 63, 0]))
    return b"\xff\xd8" + tables + frame + scan + coded + b"\xff\xd9"


def test_a_block_with_an_explicit_last_coefficient_is_cut_out() -> None:
    for data in (blocks("0" + "101" * 63), blocks("0" + "101" * 47 + "011"), blocks("0" + "101" * 62 + "00")):
        assert (
            cropped(regions.decode(data, [(0, 0, 8, 8)], way="cuts"), (0, 0, 8, 8)).tobytes() == whole(data).tobytes()
        )


CORRUPT = {
    "cut off": lambda: without_end(plain()),
    "without its end marker": lambda: plain()[:-2],
    "another marker in it": lambda: without_end(plain()) + b"\xff\xc4\x00\x02\xff\xd9",
    "another picture's scan after it": lambda: plain()[:-2] + plain()[plain().index(b"\xff\xda") :],
    "a restart lost": restart_lost,
    "bytes of nothing": lambda: plain()[: entropy(plain())] + bytes(200) + b"\xff\xd9",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", CORRUPT)
def test_corrupt_data_is_left_to_pillow(kind: str, way: str | None) -> None:
    with pytest.raises(regions.Undecoded) as refused:
        regions.decode(CORRUPT[kind](), [(0, 0, 160, 120)], way=way)
    assert refused.value.reason == "corrupt"


@pytest.mark.parametrize("way", WAYS)
def test_a_picture_cut_off_below_the_last_box_is_left_to_pillow_too(way: str | None) -> None:
    """The missing part is not decoded, but Pillow would fail on the whole picture."""
    data = sampled(160, 800, 1, "420")
    assert regions.decode(data, [(0, 0, 8, 8)], way=way)
    for end in (len(data) - 1, len(data) - 2, len(data) - 400):
        with pytest.raises(regions.Undecoded) as refused:
            regions.decode(data[:end], [(0, 0, 8, 8)], way=way)
        assert refused.value.reason == "corrupt"
        with pytest.raises(OSError, match="truncated"):
            whole(data[:end])


def test_bytes_after_the_end_marker_are_ignored() -> None:
    data = plain() + b"\xff\xd8\xff\xe1more of it"
    assert (
        cropped(regions.decode(data, [(0, 0, 9, 9)]), (0, 0, 9, 9)).tobytes()
        == whole(data).crop((0, 0, 9, 9)).tobytes()
    )


def at_once(*segments: bytes) -> bytes:
    """Return these segments after the start of a picture."""
    return b"\xff\xd8" + b"".join(segments) + plain()[2:]


def segment(marker: int, body: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + (2 + len(body)).to_bytes(2, "big") + body


def tall(data: bytes, height: int) -> bytes:
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + height.to_bytes(2, "big") + data[at + 2 :]


DNL = segment(0xDC, (120).to_bytes(2, "big"))
# (file, whether it is decoded here). The others must be refused; Pillow may still accept them.
ODD: dict[str, tuple[Callable[[], bytes], bool]] = {
    "a thumbnail in EXIF": (lambda: at_once(segment(0xE1, b"Exif\0\0" + jpeg(drawn(40, 30, 2)))), True),
    "a picture in a comment": (lambda: at_once(segment(0xFE, plain())), True),
    "another picture behind it": (lambda: plain() + jpeg(drawn(99, 99, 2)), True),
    "extended Huffman": (lambda: plain().replace(b"\xff\xc0", b"\xff\xc1", 1), True),
    "fill bytes before a marker": (lambda: b"\xff\xd8\xff\xff\xff" + plain()[3:], True),
    "RGB by the names of its components": (lambda: jpeg(drawn(160, 120, 1), keep_rgb=True), True),
    "RGB by Adobe's marker": (lambda: adobe(plain(), 0), True),
    "Adobe's marker with a transform of four components": (lambda: adobe(plain(), 2), False),
    "more rows than it has": (lambda: tall(plain(), 4000), True),
    "fewer rows than it has": (lambda: tall(plain(), 40), False),
    "height zero": (lambda: tall(plain(), 0), False),
    "height zero, given after the scan": (lambda: tall(plain(), 0)[:-2] + DNL + b"\xff\xd9", False),
    "height given twice": (lambda: plain()[:-2] + DNL + b"\xff\xd9", False),
    "started twice": (lambda: b"\xff\xd8" + plain(), False),
    "a frame within its frame": (lambda: at_once(plain()[2 : entropy(plain())]), False),
    "lossless by its frame": (lambda: plain().replace(b"\xff\xc0", b"\xff\xc3", 1), False),
    "two components": (lambda: layered(160, 120, 1, [(1, 1), (1, 1)]), False),
    "four components": (lambda: layered(160, 120, 1, [(1, 1)] * 4), False),
    "chroma that does not divide": (lambda: layered(160, 120, 1, [(3, 1), (2, 1), (1, 1)]), False),
    "without Huffman tables, as in Motion JPEG": (lambda: plain().replace(b"\xff\xc4", b"\xff\xfe"), False),
    "without quantisation tables": (lambda: plain().replace(b"\xff\xdb", b"\xff\xfe"), False),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_file_is_decoded_as_pillow_does_or_refused(kind: str) -> None:
    make, taken = ODD[kind]
    data, box = make(), (3, 5, 31, 33)
    if not taken:
        for way in WAYS:
            with pytest.raises(regions.Undecoded):
                regions.decode(data, [box], way=way)
        return
    assert cropped(regions.decode(data, [box]), box).tobytes() == whole(data).crop(box).tobytes()


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_a_lossless_jpeg_is_refused(scale: int) -> None:
    """libjpeg-turbo neither skips, crops nor scales it: at 1/2 it gave pixels of the full scale, where Pillow fails."""
    with pytest.raises(regions.Undecoded) as refused:
        regions.decode(LOSSLESS, [(0, 0, 1, 1)], scale=scale)
    assert refused.value.reason == "lossless"


@pytest.mark.parametrize("way", WAYS[:2])
def test_a_picture_cut_off_anywhere_is_refused_or_has_the_pixels_that_pillow_finds(way: str) -> None:
    data = layered(40, 90, 1, ((2, 2), (1, 1), (1, 1)), restart=3)
    for end in range(2, len(data)):
        for cut in (data[:end], data[:end] + b"\xff\xd9"):
            try:
                crop = cropped(regions.decode(cut, [(0, 0, 9, 9)], way=way), (0, 0, 9, 9))
            except regions.Undecoded:
                continue
            assert crop.tobytes() == whole(cut).crop((0, 0, 9, 9)).tobytes(), end


@pytest.mark.parametrize("data", [b"", b"\xff", b"\xff\xd8", b"no picture", plain()[:200]])
def test_bytes_that_are_not_a_jpeg_are_refused(data: bytes) -> None:
    with pytest.raises(regions.Undecoded) as refused:
        regions.decode(data, [(0, 0, 1, 1)])
    assert refused.value.reason in ("failed", "corrupt")


@pytest.mark.parametrize(
    "box", [(0, 0, 161, 1), (0, 0, 1, 121), (-1, 0, 1, 1), (0, -1, 1, 1), (5, 5, 5, 6), (5, 5, 6, 5), (9, 0, 3, 1)]
)
def test_a_box_outside_the_picture_is_a_value_error(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="sticks out of 160 x 120 px"):
        regions.decode(plain(), [box])


@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        ((0, 161), ((0, 1),)),
        ((5, 5), ((0, 1),)),
        ((7, 5), ((0, 1),)),
        ((0, 1), ()),
        ((0, 1), ((0, 121),)),
        ((0, 1), ((5, 5),)),
        ((0, 1), ((5, 9), (8, 12))),
        ((0, 1), ((5, 9), (1, 3))),
        ((0, 2**32 - 1), ((0, 1),)),
        ((0, 1), ((0, 2**32 - 1),)),
    ],
)
def test_the_extension_checks_sizes_against_the_header_by_itself(columns: Any, rows: Any) -> None:
    from cropline_regions import _regions

    with pytest.raises(ValueError, match="within the picture|no band"):
        _regions.decode(plain(), 1, columns, rows, bytearray(1_000_000))


@pytest.mark.parametrize(
    "rectangle",
    [
        (0, 0, 161, 1),
        (0, 0, 1, 121),
        (16, 0, 16, 1),
        (32, 0, 16, 1),
        (0, 16, 1, 16),
        (8, 0, 16, 16),
        (0, 8, 16, 16),
        (-16, 0, 16, 16),
        (0, 0, 2**32 - 1, 1),
        (2**32 - 16, 0, 2**32 - 1, 1),
        (0, 0, 2**32 + 1, 121),
    ],
)
def test_the_extension_checks_rectangles_against_the_header_by_itself(rectangle: Any) -> None:
    from cropline_regions import _regions

    for rectangles in ((rectangle,), ((0, 0, 8, 8), rectangle)):
        with pytest.raises(ValueError, match="within the picture"):
            _regions.cut(plain(), 1, rectangles, bytearray(1_000_000))
    with pytest.raises(ValueError, match="no band"):
        _regions.cut(plain(), 1, (), bytearray(1_000_000))
    with pytest.raises(TypeError):
        _regions.cut(plain(), 1, ([0, 0, 8, 8],), bytearray(1_000_000))


@pytest.mark.parametrize("scale", [0, 3, 16, 2**31])
def test_only_the_four_scales_are_taken(scale: int) -> None:
    with pytest.raises(ValueError, match="scale is 1, 2, 4 or 8"):
        regions.decode(plain(), [(0, 0, 1, 1)], scale=scale)


def test_a_header_that_promises_the_largest_picture_costs_only_its_band() -> None:
    data = plain()
    at = data.index(b"\xff\xc0") + 5
    data = data[:at] + (65_500).to_bytes(2, "big") * 2 + data[at + 4 :]
    with pytest.raises(regions.Undecoded) as refused:
        regions.decode(data, [(0, 0, 10, 10)])
    assert refused.value.reason == "corrupt"


class _Mallinfo(ctypes.Structure):
    _fields_ = tuple((f"field{number}", ctypes.c_size_t) for number in range(10))


def _in_use() -> int:
    """Return the bytes that glibc's malloc has allocated, mapped ones included."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2") or hasattr(libc, "__asan_version_mismatch_check_v8"):
        pytest.skip("needs glibc without the sanitizer, which checks for leaks itself")
    libc.mallinfo2.restype = _Mallinfo
    info = libc.mallinfo2()
    return int(info.field7) + int(info.field4)


def test_failing_in_the_middle_leaks_nothing() -> None:
    data = sampled(1200, 900, 1, "420")
    cut = without_end(data)
    small, most = (0, 0, 8, 8), (10, 10, 1100, 890)
    progressive = jpeg(drawn(64, 64, 1), progressive=True)
    broken = [(cut, small), (cut, most), (cut + b"\xff\xd9", most), (data[:500], small), (progressive, small)]

    def fail() -> None:
        for each, box in broken:
            for way in WAYS[:2]:
                with pytest.raises(regions.Undecoded):
                    regions.decode(each, [box], way=way)

    for _ in range(5):
        fail()
    before = _in_use()
    for _ in range(100):
        fail()
    # One leaked row buffer per failure would be a hundred times 30 KB.
    assert _in_use() - before < 500_000


def test_other_threads_run_while_it_decodes() -> None:
    """The decoder is never interrupted: the other thread makes progress only if the GIL is released."""
    data = sampled(2400, 1800, 1, "420", quality=95)
    steps = [0]
    begun, stop = threading.Event(), threading.Event()

    def step() -> None:
        begun.wait()
        while not stop.is_set():
            steps[0] += 1
            time.sleep(0)

    thread = threading.Thread(target=step)
    thread.start()
    held = sys.getswitchinterval()
    sys.setswitchinterval(60)
    try:
        begun.set()
        regions.decode(data, [(0, 0, 2400, 1800)])
        assert steps[0] > 0
    finally:
        stop.set()
        sys.setswitchinterval(held)
        thread.join()


def test_threads_do_not_disturb_each_other() -> None:
    pictures = [sampled(300 + 10 * number, 200, number, "420") for number in range(4)]
    expected = [whole(data).crop((20, 30, 200, 150)).tobytes() for data in pictures]
    wrong: list[int] = []

    def run(number: int) -> None:
        for _ in range(30):
            bands = regions.decode(pictures[number], [(20, 30, 200, 150)])
            if cropped(bands, (20, 30, 200, 150)).tobytes() != expected[number]:
                wrong.append(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_bands_nearer_than_the_cost_of_a_band_are_merged() -> None:
    chance = random.Random(3)
    boxes = [(x, y, x + 5, y + 9) for x, y in ((chance.randrange(100), chance.randrange(900)) for _ in range(9))]
    columns, rows = _plan.bands(boxes, _plan.Picture(2000, 1000, 16, 16), 8)
    assert all(below[0] - above[1] >= _plan.MERGED for above, below in pairwise(rows))
    assert all(rows[_plan.band_of(box, rows)][0] <= box[1] for box in boxes)
    assert all(box[3] <= rows[_plan.band_of(box, rows)][1] for box in boxes)
    assert columns == (max(0, min(box[0] for box in boxes) - 8), max(box[2] for box in boxes) + 8)


def test_cuts_contain_their_boxes_and_have_no_more_pixels_than_one_cut_per_box() -> None:
    chance = random.Random(4)
    picture = _plan.Picture(2000, 1000, 16, 8)
    for _ in range(50):
        corners = [(chance.randrange(1900), chance.randrange(900)) for _ in range(chance.randrange(1, 40))]
        boxes = [(x, y, x + chance.randrange(1, 100), y + chance.randrange(1, 100)) for x, y in corners]
        # A second profile wants more around each box.
        boxes += [(max(0, x - 9), max(0, y - 9), u + 9, v + 9) for x, y, u, v in boxes if u < 1990 and v < 990]
        cuts = _plan.cuts(boxes, picture, 4)
        for box, number in zip(boxes, cuts.holds, strict=True):
            left, top, right, bottom = cuts.rectangles[number]
            assert (left % 16, top % 8) == (0, 0)
            assert left <= max(0, box[0] - 4) and top <= max(0, box[1] - 4)
            assert right >= min(2000, box[2] + 4) and bottom >= min(1000, box[3] + 4)
        alone = [_plan.cuts([box], picture, 4).rectangles[0] for box in boxes]
        assert area(cuts.rectangles) <= area(alone)
        assert len(cuts.rectangles) <= len(corners)


def area(rectangles: Any) -> int:
    return sum((right - left) * (bottom - top) for left, top, right, bottom in rectangles)


def test_rows_are_never_skipped_within_one_row_of_mcus() -> None:
    """There jpeg_skip_scanlines can give wrong rows (libjpeg-turbo issue 915); an MCU has at most 4 x 8 rows."""
    assert _plan.MERGED >= 4 * 8


def test_the_walk_returns_where_bits_end_and_refuses_invalid_tables() -> None:
    empty = (bytes(16), b"")
    one = (b"\1" + bytes(15), b"\0")  # one code of one bit: no difference, end of block
    assert regions.walk(b"\0", ((one, one),), 4) == (4, 8, "whole")
    assert regions.walk(b"\0", ((one, one),), 5) == (4, 8, "short")
    assert regions.walk(bytes(9) + b"\xff" * 9, ((one, one),), 99) == (36, 72, "bad")
    assert regions.walk(bytes(9), ((empty, one),), 1) == (0, 0, "bad")
    for wrong in ((), ((one,),), ((one, one),) * 11, ((one, (b"\1", b"\0")),), ((one, (b"\xff" * 16, b"")),)):
        with pytest.raises((TypeError, ValueError)):
            regions.walk(b"\0", wrong, 1)
    with pytest.raises(TypeError):
        regions.walk(b"\0", (((one, one), 3),), 1)


def test_bands_refuse_what_libjpeg_does_not_warn_of() -> None:
    """More coefficients than a block has: libjpeg drops them."""
    data, box = plain(), (0, 0, 160, 120)
    refused = 0
    for at in range(entropy(data) + 10, len(data) - 40, 40):
        spoilt = data[:at] + bytes([data[at] ^ 0x20]) + data[at + 1 :]
        try:
            bands = regions.decode(spoilt, [box], way="bands")
        except regions.Undecoded as why:
            refused += why.reason == "corrupt"
        else:
            assert cropped(bands, box).tobytes() == whole(spoilt).crop(box).tobytes()
    assert refused > 10


def test_damage_in_any_scan_is_found_and_a_missing_end_marker_alone_is_none() -> None:
    data = jpeg(drawn(320, 240, 3), progressive=True)
    last = data.rindex(b"\xff\xda")
    middle = (last + len(data)) // 2
    assert regions.scan_damage(data) == 0
    assert regions.scan_damage(data[:-2]) == 0
    for broken in (data[:middle] + b"\xff\xd9", data[:middle] + data[middle + 300 :], data[:middle]):
        assert regions.scan_damage(broken) > 0
    assert regions.scan_damage(b"\xff\xd8 no JPEG") == -1
