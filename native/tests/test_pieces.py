"""Pieces writes rectangles of a JPEG as JPEGs whose pixels are the photo's; or it refuses the photo."""

from __future__ import annotations

import io
import random
import threading
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jpegs import SAMPLINGS, adobe, drawn, entropy, jpeg, sampled, whole
from PIL import Image, ImageChops, ImageOps, ImageStat

regions = pytest.importorskip("cropline_regions", reason="cropline-regions is not built: make native")
tests = pytest.importorskip("test_regions")

EDGE = 2  # px at an edge whose chroma is interpolated without its neighbours
# A turned block is transformed in another order, and rounded.
ROUNDING = 4
TURNS = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}
PILLOWS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=["JPEG"])
    image.load()
    return image


def inner(image: Image.Image) -> Image.Image:
    return image.crop((EDGE, EDGE, max(EDGE, image.width - EDGE), max(EDGE, image.height - EDGE)))


@settings(tests.PROPERTY, max_examples=100)
@given(order=tests.orders(), turned=st.integers(1, 8))
def test_a_pieces_pixels_are_the_photos(order: tuple[bytes, int, list[tuple[int, int, int, int]]], turned: int) -> None:
    data, scale, boxes = order
    photo = whole(data)
    pieces = regions.Pieces(data, photo.height)
    assert (pieces.width, pieces.height) == photo.size
    for number in boxes:
        box = (
            min(number[0] * scale, photo.width - 1),
            min(number[1] * scale, photo.height - 1),
            min(number[2] * scale, photo.width),
            min(number[3] * scale, photo.height),
        )
        outer = pieces.outer(box)
        assert box[0] - pieces.across < outer[0] <= box[0]
        assert box[1] - pieces.down < outer[1] <= box[1]
        assert outer[2:] == box[2:]
        found, wanted = opened(pieces.file(outer)), photo.crop(outer)
        assert (found.mode, found.size) == (wanted.mode, wanted.size)
        assert inner(found).tobytes() == inner(wanted).tobytes()
        assert pieces.grey(outer).size == wanted.size
        assert_turned(pieces, photo, box, turned)


def assert_turned(pieces: Any, photo: Image.Image, box: tuple[int, int, int, int], turned: int) -> None:
    turn = regions.Turn(*TURNS[turned])
    turning = pieces.turning(box, turn)
    if turning is None:
        # The photo ends within an MCU there.
        assert photo.width % pieces.across or photo.height % pieces.down
        return
    found = opened(pieces.turned(turning, turn))
    outer = turning.rectangle
    assert outer[:2] == pieces.outer(box)[:2]
    assert found.size == turning.size
    wanted = photo.crop(outer)
    if turned in PILLOWS:
        wanted = wanted.transpose(PILLOWS[turned])
    wanted = wanted.crop((0, 0, *found.size))
    if min(found.size) > 2 * EDGE:
        off = ImageChops.difference(inner(found), inner(wanted))
        assert max(ImageStat.Stat(off).rms) < ROUNDING


LONG = {
    "420": lambda: sampled(640, 480, 1, "420", quality=95),
    "422, optimised": lambda: sampled(640, 480, 2, "422", quality=95, optimize=True),
    "444": lambda: sampled(480, 480, 3, "444", quality=95),
    "grey": lambda: jpeg(drawn(900, 704, 4, "L"), quality=90),
    "with the same tables for all colours": lambda: jpeg(drawn(480, 480, 5), keep_rgb=True, quality=95),
    "with empty blocks": lambda: jpeg(ImageOps.expand(drawn(480, 480, 6), 160, "grey"), quality=95),
}
"""Photos with so many bits that they are walked from several places at once."""


@pytest.mark.parametrize("kind", LONG)
def test_a_long_photo_has_the_same_pixels_in_all_its_parts(kind: str) -> None:
    data = LONG[kind]()
    assert len(data) > 60_000
    photo = whole(data)
    for bottom in (photo.height, photo.height // 2 + 3, 20):
        pieces = regions.Pieces(data, bottom)
        for box in ((0, 0, photo.width, bottom), (photo.width // 3, bottom // 3, photo.width // 2, bottom)):
            outer = pieces.outer(box)
            found, wanted = opened(pieces.file(outer)), photo.crop(outer)
            assert inner(found).tobytes() == inner(wanted).tobytes()
    # The predictors of the last rows are sums of all differences before them.
    last = (0, photo.height - 16, photo.width, photo.height)
    pieces = regions.Pieces(data, photo.height)
    assert inner(opened(pieces.file(last))).tobytes() == inner(photo.crop(last)).tobytes()


def test_a_long_photo_with_a_wrong_bit_is_refused_or_has_the_pixels_that_pillow_finds() -> None:
    data, chance = LONG["420"](), random.Random(7)
    seen = Counter[str]()
    for _ in range(40):
        changed = bytearray(data)
        changed[chance.randrange(len(data) // 50, len(data) - 2)] ^= 1 << chance.randrange(8)
        try:
            pieces = regions.Pieces(bytes(changed), 480)
        except regions.Undecoded as refused:
            seen[refused.reason] += 1
            continue
        box = (0, 0, 640, 480)
        assert inner(opened(pieces.file(box))).tobytes() == inner(whole(bytes(changed))).tobytes()
        seen["cut"] += 1
    assert seen["corrupt"] >= 5
    assert seen["cut"] >= 5


def test_a_file_has_the_given_segments_and_no_others() -> None:
    exif = Image.Exif()
    exif[0x010F] = "secret maker"
    data = jpeg(drawn(90, 70, 1), exif=exif, comment=b"secret", icc_profile=b"secret" * 9, dpi=(300, 300))
    pieces = regions.Pieces(data, 70)
    mine = b"\xff\xfe\x00\x06mine"
    for file in (pieces.file((16, 16, 50, 60), mine), turned(pieces, mine)):
        assert b"secret" not in file
        assert b"Exif" not in file
        assert opened(file).info == {
            "jfif": 257, "jfif_version": (1, 1), "jfif_unit": 0, "jfif_density": (1, 1), "comment": b"mine"
        }  # fmt: skip


def turned(pieces: Any, segments: bytes) -> bytes:
    turn = regions.Turn(False, True, False)
    file: bytes = pieces.turned(pieces.turning((16, 16, 50, 60), turn), turn, segments)
    return file


def test_rgb_without_a_marker_stays_rgb() -> None:
    data = jpeg(drawn(64, 64, 1), keep_rgb=True)
    for changed in (data, data.replace(b"\xff\xee", b"\xff\xed", 1)):
        photo = whole(changed)
        pieces = regions.Pieces(changed, 64)
        assert opened(pieces.file((8, 8, 60, 50))).tobytes() == photo.crop((8, 8, 60, 50)).tobytes()
        levels = pieces.levels((0, 0, 64, 64))
        assert abs(ImageStat.Stat(levels).mean[0] - ImageStat.Stat(photo.convert("L")).mean[0]) < 1


@pytest.mark.parametrize("kind", SAMPLINGS)
def test_levels_are_the_mean_luma_of_mcus(kind: str) -> None:
    data = sampled(160, 128, 3, kind, restart=3, quality=95)
    pieces = regions.Pieces(data, 128)
    levels = pieces.levels((0, 0, 160, 128))
    wanted = luma(data).resize(levels.size, Image.Resampling.BOX)
    assert levels.size == (160 // pieces.across, 128 // pieces.down)
    # Clipped pixels make a decoded mean differ from a block's own.
    assert max(ImageStat.Stat(ImageChops.difference(levels, wanted)).mean) < 2
    box = (2 * pieces.across, 3 * pieces.down, 150, 120)
    assert pieces.grey(box).tobytes() == luma(data).crop(box).tobytes()


@pytest.mark.parametrize("kind", SAMPLINGS)
def test_edges_are_the_squares_of_the_laplacian_anywhere(kind: str) -> None:
    data = sampled(160, 128, 4, kind, quality=95)
    pieces, grey = regions.Pieces(data, 128), luma(data)
    for window in ((0, 0, 3, 3), (37, 41, 77, 81), (120, 88, 160, 128), (31, 33, 71, 36)):
        at = grey.crop(window).load()
        width, height = window[2] - window[0], window[3] - window[1]
        edges = [
            at[x - 1, y] + at[x + 1, y] + at[x, y - 1] + at[x, y + 1] - 4 * at[x, y]
            for y in range(1, height - 1)
            for x in range(1, width - 1)
        ]
        assert pieces.edges(window) == sum(max(-128, min(127, edge)) ** 2 for edge in edges)
    for wrong in ((0, 0, 2, 9), (9, 9, 3, 30), (0, 0, 3, 129), (159, 0, 162, 3), (2**31, 2**31, 3, 3)):
        with pytest.raises((ValueError, OverflowError)):
            pieces.edges(wrong)


def luma(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.draft("L", image.size)
    image.load()
    return image


def test_levels_leave_out_what_is_not_shown() -> None:
    pieces = regions.Pieces(sampled(40, 40, 1, "420"), 40)
    assert pieces.levels((0, 0, 40, 40)).size == (2, 2)
    assert pieces.levels((32, 32, 40, 40)).size == (1, 1)


def test_16_bit_quantisation_and_third_tables_are_written() -> None:
    data = sampled(64, 48, 1, "444")
    at = data.index(b"\xff\xdb")
    table = data[at + 5 : at + 69]
    wide = b"\xff\xdb\x00\x83\x10" + b"".join(bytes([0, value]) for value in table[:-1]) + b"\x01\x2c"
    extended = data[:at] + wide + data[at + 4 + 65 :].replace(b"\xff\xc0", b"\xff\xc1", 1)
    file = regions.Pieces(extended, 48).file((8, 8, 64, 48))
    assert b"\xff\xc1" in file
    assert b"\xff\xc0" not in file
    assert inner(opened(file)).tobytes() == inner(whole(extended).crop((8, 8, 64, 48))).tobytes()


@pytest.mark.parametrize("kind", [*tests.UNCUT, *tests.REFUSED])
def test_what_libjpeg_would_warn_of_becomes_no_file(kind: str) -> None:
    make = tests.UNCUT.get(kind) or tests.REFUSED[kind]
    data = make()
    with pytest.raises(regions.Undecoded):
        regions.Pieces(data, Image.open(io.BytesIO(data)).height if kind in tests.UNCUT else 8)


def test_tables_that_libjpeg_refuses_become_no_file() -> None:
    data = sampled(64, 64, 1, "420")
    at = data.index(b"\xff\xc4")
    # A DC code for 16 bits, which no MCU uses.
    broken = data[: at + 5 + 16 + 11] + b"\x10" + data[at + 5 + 16 + 12 :]
    with pytest.raises(OSError, match=r"."):
        whole(broken)
    with pytest.raises(regions.Undecoded):
        regions.Pieces(broken, 64)
    without = data[: data.index(b"\xff\xdb")] + data[data.index(b"\xff\xc0") :]
    with pytest.raises(regions.Undecoded):
        regions.Pieces(without, 64)


@pytest.mark.parametrize(
    "rectangle",
    [
        (0, 0, 161, 16),
        (0, 0, 16, 121),
        (1, 0, 16, 16),
        (0, 8, 16, 16),
        (16, 0, 16, 16),
        (0, 16, 16, 16),
        (2**31, 0, 1, 1),
    ],
)
def test_a_rectangle_outside_or_within_an_mcu_is_a_value_error(rectangle: Any) -> None:
    pieces = regions.Pieces(sampled(160, 120, 1, "420"), 120)
    for call in (pieces._pieces.grey, pieces._pieces.levels, lambda box: pieces._pieces.file(box, b"")):
        with pytest.raises((ValueError, OverflowError)):
            call(rectangle)
    with pytest.raises((ValueError, OverflowError)):
        pieces._pieces.turned(rectangle, (16, 16), (False, False, False), b"")


@pytest.mark.parametrize(
    ("rectangle", "size", "turn"),
    [
        ((0, 0, 24, 16), (24, 16), (False, True, False)),  # a mirrored side of half an MCU
        ((0, 0, 32, 16), (16, 16), (False, True, False)),  # a whole MCU less
        ((0, 0, 32, 16), (33, 16), (False, True, False)),
        ((0, 0, 32, 16), (31, 16), (False, False, False)),
        ((0, 0, 32, 16), (0, 16), (False, False, False)),
        ((0, 0, 32, 16), (32, 16), (True, False, False)),
    ],
)
def test_a_rectangle_that_cannot_be_turned_is_a_value_error(rectangle: Any, size: Any, turn: Any) -> None:
    with pytest.raises(ValueError, match="turned"):
        regions.Pieces(sampled(160, 120, 1, "420"), 120)._pieces.turned(rectangle, size, turn, b"")


@pytest.mark.parametrize("bottom", [0, 121, 2**31])
def test_a_last_row_outside_the_picture_is_a_value_error(bottom: int) -> None:
    with pytest.raises(ValueError, match="row"):
        regions.Pieces(sampled(160, 120, 1, "420"), bottom)


def test_rows_below_the_last_one_are_not_known() -> None:
    pieces = regions.Pieces(sampled(160, 120, 1, "420"), 20)
    pieces.file((0, 16, 16, 32))
    with pytest.raises(regions.Undecoded):
        pieces.file((0, 16, 16, 33))
    with pytest.raises(regions.Undecoded):
        pieces.grey((0, 32, 16, 40))
    with pytest.raises(ValueError, match="below"):
        pieces.levels((0, 32, 16, 48))
    pieces.file((0, 0, 16, 16))


def test_the_photos_bytes_are_not_needed_afterwards() -> None:
    data = bytearray(sampled(160, 120, 1, "420"))
    pieces = regions.Pieces(data, 120)
    expected = pieces.file((0, 0, 160, 120))
    data[:] = bytes(len(data))
    del data[100:]
    assert pieces.file((0, 0, 160, 120)) == expected


def test_two_threads_are_refused_and_do_not_disturb_each_other() -> None:
    pieces = regions.Pieces(sampled(1200, 900, 1, "420"), 900)
    expected, wrong = pieces.file((0, 0, 1200, 900)), []

    def read() -> None:
        for _ in range(40):
            try:
                if pieces.file((0, 0, 1200, 900)) != expected:
                    wrong.append("other bytes")
            except RuntimeError:
                pass

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_mcu_that_reaches_past_a_restart_is_refused_above_the_end_of_its_interval() -> None:
    # One MCU a row, a restart after every second one. Bytes are moved from before the first marker to behind it.
    data = sampled(8, 80, 1, "444", restart=2)
    begin, at = entropy(data), data.index(b"\xff\xd0", entropy(data))
    early = begin + (at - begin) // 4
    moved = data[:early] + b"\xff\xd0" + data[early:at] + data[at + 2 :]
    for bottom in (8, 16, 80):
        with pytest.raises(regions.Undecoded):
            regions.Pieces(moved, bottom)
    with pytest.raises(regions.Undecoded):
        regions.decode(moved, [(0, 0, 8, 4)], margin=0, way="cuts")


def test_a_truncated_photo_becomes_no_file() -> None:
    chance = random.Random(1)
    data = sampled(160, 120, 1, "420")
    for _ in range(200):
        at = chance.randrange(2, len(data))
        if data[at - 2 : at] == b"\xff\xd9":
            continue
        with pytest.raises((regions.Undecoded, ValueError)):
            regions.Pieces(data[:at], 120 if at > entropy(data) else 1)


def test_other_arguments_are_refused() -> None:
    for wrong in ((), (b"",), ("text", 1), (b"", 1, 2)):
        with pytest.raises((TypeError, regions._regions.Refusal)):
            regions._regions.Pieces(*wrong)
    with pytest.raises(TypeError):
        regions._regions.Pieces(data=b"", bottom=1)
    pieces = regions.Pieces(adobe(sampled(16, 16, 1, "444"), 1), 16)
    for call in (pieces._pieces.grey, pieces._pieces.levels):
        with pytest.raises(TypeError):
            call([0, 0, 8, 8])
