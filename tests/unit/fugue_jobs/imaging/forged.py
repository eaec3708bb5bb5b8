"""Pictures built byte by byte, as no camera makes them."""

import functools
import io
import struct
import zlib

from PIL import Image, ImageCms

from tests.photos import drawn, encoded

PHOTO = drawn(320, 240, seed=3)
JPEG = encoded(PHOTO, quality=90)
PNG = encoded(PHOTO, "PNG")
WEBP = encoded(PHOTO, "WEBP")
GIF = encoded(PHOTO, "GIF")
BMP = encoded(PHOTO, "BMP")
TIFF = encoded(PHOTO, "TIFF", compression="tiff_lzw")
AVIF = encoded(PHOTO, "AVIF", speed=10)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@functools.cache
def zeros(count: int) -> bytes:
    """Return that many zero bytes, compressed without holding them in memory."""
    million, sum_of_all = bytes(1_000_000), 1
    whole, rest = divmod(count, len(million))
    for part in [million] * whole + [million[:rest]]:
        sum_of_all = zlib.adler32(part, sum_of_all)
    # Behind a full flush a block refers to nothing before it: the same bytes serve for each million.
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(million) + packer.flush(zlib.Z_FULL_FLUSH)
    last = zlib.compressobj(9, wbits=-15)
    end = last.compress(million[:rest]) + last.flush()
    return b"\x78\xda" + block * whole + end + struct.pack(">I", sum_of_all)


def png(width: int, height: int, *chunks: bytes, rows: int = 0) -> bytes:
    """Return an 8-bit grey PNG that declares this size and holds ``rows`` bytes of black pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", zeros(rows)) + chunk(b"IEND", b"")


def jpeg_declaring(width: int, height: int) -> bytes:
    """Return a real JPEG whose frame header declares another size."""
    at = JPEG.index(b"\xff\xc0")
    return JPEG[: at + 5] + struct.pack(">HH", height, width) + JPEG[at + 9 :]


def progressive_bomb(scans: int, picture: Image.Image | None = None) -> bytes:
    """Return a progressive JPEG with its last scan repeated: each costs a pass over the whole picture."""
    data = encoded(picture or drawn(256, 256), quality=50, progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + b"\xff\xd9"


def flat_bomb(scans: int) -> bytes:
    """Return the same for 15 megapixels of grey: a scan takes a few bytes and milliseconds."""
    return progressive_bomb(scans, Image.new("L", (3900, 3900), 128))


def with_segments(*segments: bytes) -> bytes:
    """Return a real JPEG with these bytes after its first marker."""
    return JPEG[:2] + b"".join(segments) + JPEG[2:]


def segment(marker: int, body: bytes = b"") -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def behind_component_ids(scans: int) -> bytes:
    """Return a progressive JPEG; names in its further scans look like a segment of 65,024 bytes: FF E0 FE 00."""
    data = bytearray(encoded(PHOTO, quality=50, progressive=True))
    frame, scan = data.index(b"\xff\xc2"), -1
    names = {data[frame + 10 + 3 * part]: 0xFF - part for part in range(3)}
    for part in range(3):
        data[frame + 10 + 3 * part] = 0xFF - part
    while (scan := data.find(b"\xff\xda", scan + 1)) > 0:
        for part in range(data[scan + 4]):
            data[scan + 5 + 2 * part] = names[data[scan + 5 + 2 * part]]
    return bytes(data[:-2]) + b"\xff\xda\0\x0a\x02\xff\xe0\xfe\0\0\0\x10" * scans + b"\xff\xd9"


def behind_reserved_markers(scans: int) -> bytes:
    """Return a progressive JPEG with a reserved marker in each further scan: decoders drop it or see a segment."""
    scan = segment(0xDA, b"\x01\x01\0\0\0\x10")
    restarts = segment(0xDD, b"\0\x01")
    return encoded(PHOTO, progressive=True)[:-2] + restarts + scan + (b"\xff\x02\xfe\0" + scan) * scans + b"\xff\xd9"


def webp_declaring(width: int, height: int) -> bytes:
    body = (
        b"VP8X"
        + struct.pack("<I", 10)
        + b"\x02\0\0\0"
        + struct.pack("<I", width - 1)[:3]
        + struct.pack("<I", height - 1)[:3]
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def gif_declaring(width: int, height: int) -> bytes:
    return GIF[:6] + struct.pack("<HH", width, height) + GIF[10:]


def endless_gif(frames: int) -> bytes:
    """Return an animation of many tiny frames."""
    frame = (
        b"\x21\xf9\x04\x08\x00\x00\x00\x00" + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    )
    head = b"GIF89a" + struct.pack("<HHBBB", 320, 240, 0xF0, 0, 0) + b"\0\0\0\xff\xff\xff"
    return head + frame * frames + b";"


def gif_frame_declaring(width: int, height: int) -> bytes:
    """Return a GIF with a screen of one pixel and, after a meaningless byte, a first frame of this size.

    The frame is to be cleared after it was shown.
    """
    extensions = b"\x21\xfe\x02hi\x01!\0\x99" + b"\x21\xf9\x04\x08\0\0\0\0"
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x44\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + extensions + frame + b";"


def tags(*entries: tuple[int, int, int, int]) -> bytes:
    """Return a little-endian TIFF header with one directory of (tag, type, count, value or offset)."""
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", *entry) for entry in entries
    ) + bytes(4)  # fmt: skip


def tiff_tile_declaring(width: int, height: int, rows: int = 0) -> bytes:
    """Return a grey TIFF of 100 x 100 in one compressed tile of this size with ``rows`` bytes of black pixels."""
    black = zeros(rows)
    entries = ((256, 100), (257, 100), (258, 8), (259, 8), (262, 1), (277, 1), (322, width), (323, height))
    place = 8 + 2 + 12 * (len(entries) + 2) + 4
    return tags(*[(tag, 4, 1, value) for tag, value in (*entries, (324, place), (325, len(black)))]) + black


def overlapping_tags(count: int, size: int) -> bytes:
    """Return EXIF whose tags all point to the same bytes: reading each tag makes as many copies."""
    place = 8 + 2 + 12 * count + 4
    return tags(*[(1000 + number, 7, size, place) for number in range(count)]) + bytes(size)


def with_profile(size: int) -> bytes:
    """Return a JPEG with sRGB's ICC profile, padded to that many bytes."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().ljust(size, b"\0")
    pieces = [profile[at : at + 65_000] for at in range(0, size, 65_000)]
    parts = [b"ICC_PROFILE\0" + bytes([n, len(pieces)]) + piece for n, piece in enumerate(pieces, 1)]
    return with_segments(*[segment(0xE2, part) for part in parts])


def tiff_declaring(width: int, height: int) -> bytes:
    """Return a real little-endian TIFF with a changed ImageWidth and ImageLength."""
    data = bytearray(TIFF)
    (at,) = struct.unpack_from("<I", data, 4)
    for entry in range(at + 2, at + 2 + 12 * struct.unpack_from("<H", data, at)[0], 12):
        tag = struct.unpack_from("<H", data, entry)[0]
        if tag in (256, 257):
            struct.pack_into("<HII", data, entry + 2, 4, 1, width if tag == 256 else height)
    return bytes(data)


@functools.cache
@functools.cache
def animated(kind: str) -> bytes:
    frames = [drawn(320, 240, seed=seed) for seed in (1, 2, 3)]
    fast = {"speed": 10} if kind == "AVIF" else {}
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100, **fast)


def with_exif(exif: bytes) -> bytes:
    out = io.BytesIO()
    PHOTO.save(out, "JPEG", quality=90, exif=b"Exif\0\0" + exif)
    return out.getvalue()


def multi_picture() -> bytes:
    out = io.BytesIO()
    PHOTO.save(out, "MPO", save_all=True, append_images=[drawn(320, 240, seed=9)])
    return out.getvalue()
