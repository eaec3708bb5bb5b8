"""Pillow's decode of a JPEG, watched: the photo must end exactly where its last pixels end.

libjpeg warns when a photo ends early or late, but Pillow drops the warning. So the photo is fed in parts:
without its last byte the last row must be missing, with it the row must appear.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PIL import Image

from fugue_jobs.imaging.headers import first_scan
from fugue_jobs.imaging.jpeg_scan import read_scan

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_END = b"\xff\xd9"
# Bytes of libjpeg's bit buffer: it reads ahead, so zeros replace the bytes that would follow. A difference of
# up to eight bytes is not noticed; a lost or extra block mostly has more.
_AHEAD = 8
# Restarts hide damage from the end. Photos with restarts are walked if that takes at most half a second.
_WALKED_ANYWAY = 500_000
_UNLIKELY = {"L": (137,), "RGB": (137, 2, 251), "CMYK": (137, 2, 251, 66)}


def can_be_watched(data: bytes) -> bool:
    """Return whether a photo has one scan, only data and restarts before its end marker, and no hidden damage."""
    scan = read_scan(data)
    end = -1 if scan is None else data.find(_END, scan.begin)
    if scan is not None and scan.interval and end - scan.begin <= _WALKED_ANYWAY:
        return False
    if data.endswith(b"\0\0", 0, max(0, end)):
        return False  # padded, perhaps by less than would be noticed
    return scan is not None and end > scan.begin + _AHEAD and _has_data_only(data, scan.begin, end)


def load_watched(image: ImageFile, data: bytes) -> bool:
    """Decode an opened JPEG that can be watched into its memory, as Image.load() does. Return whether it ended well."""
    end = data.find(_END, first_scan(data))
    image.load_prepare()
    row = (0, image.height - 1, image.width, image.height)
    core: Any = image.im
    core.paste(_UNLIKELY[image.mode], row)
    undone = _row(core, row)
    undone_at_last = []
    tile = image.tile[0]
    decoder = Image._getdecoder(image.mode, tile[0], tile[3], image.decoderconfig)
    try:
        decoder.setimage(core, tile[1])
        waiting = b""
        for part in (data[: end - 1], data[end - 1 : end] + bytes(_AHEAD), data[end:]):
            waiting += part
            taken, code = decoder.decode(waiting)
            undone_at_last.append(_row(core, row) == undone)
            if taken < 0:
                break
            waiting = waiting[taken:]
    finally:
        decoder.cleanup()
    image.tile = []
    return code >= 0 and undone_at_last[:2] == [True, False]


def _row(core: Any, row: tuple[int, int, int, int]) -> bytes:
    found: bytes = Image.Image()._new(core.crop(row)).tobytes()
    return found


def _has_data_only(data: bytes, begin: int, end: int) -> bool:
    """Return whether only data and restarts are there: counting is ten times as fast as looking at each byte."""
    restarts = sum(data.count(bytes([0xFF, number]), begin, end) for number in range(0xD0, 0xD8))
    return data.count(b"\xff", begin, end) == data.count(b"\xff\0", begin, end) + restarts
