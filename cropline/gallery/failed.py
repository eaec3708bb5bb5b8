"""Pictures of boxes that were not cut: the part of the photo around the box, where the photo is still there."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Mapping
from typing import Any

from cropline.core.errors import CroplineError
from cropline.gallery.thumbnails import SIDE, NoPicture, Thumbnails, open_picture

FIELDS = (
    "source", "image_id", "version", "manifest", "manifest_row", "left", "top", "right", "bottom", "image_width", "image_height",
)  # fmt: skip
"""What a reference to such a picture holds of the row."""

_AT_ONCE, _REMEMBERED, _MARGIN = 2, 500, 0.5
_FRAME = "#d9480f"


class FailedPictures:
    """Makes them when a page asks. Photos are fetched by the rules of a run, two at a time, and decoded in crop processes.

    What cannot be fetched is not asked for again by this process.
    """

    def __init__(self, thumbnails: Thumbnails, photo_view: Callable[[dict[str, Any]], bytes]) -> None:
        self._thumbnails, self._photo_view = thumbnails, photo_view
        self._slots = threading.Semaphore(_AT_ONCE)
        self._gone: dict[str, str] = {}
        self._lock = threading.Lock()

    def get(self, row: dict[str, Any]) -> bytes:
        """Return a JPEG for a row with FIELDS. Raises NoPicture."""
        photo = (row["source"], row["image_id"])
        name = repr([row[field] for field in FIELDS])
        with self._lock:
            if (why := self._gone.get(name)) is not None:
                raise NoPicture(why)
        return self._thumbnails.made(name, photo, lambda: self._make(name, row))

    def _make(self, name: str, row: dict[str, Any]) -> bytes:
        with self._slots:
            try:
                return around_box(self._photo_view(row), row)
            except CroplineError as error:
                why = str(error)
        with self._lock:
            if len(self._gone) >= _REMEMBERED:
                self._gone.clear()
            self._gone[name] = why
        raise NoPicture(why)


def around_box(photo: bytes, row: Mapping[str, Any]) -> bytes:
    """Return the photo around the box, with the box framed; the whole photo when the box has no place in it.

    photo: a JPEG of the whole upright photo, of any size. Raises NoPicture.
    """
    from PIL import ImageDraw

    picture = open_picture(photo, draft=False)
    if row["left"] is not None and row["image_width"] and row["image_height"]:
        wide, high = picture.width / row["image_width"], picture.height / row["image_height"]
        left, top, right, bottom = (
            min(max(row[edge] * scale, -most), 2 * most)
            for edge, scale, most in (
                ("left", wide, picture.width), ("top", high, picture.height),
                ("right", wide, picture.width), ("bottom", high, picture.height),
            )
        )  # fmt: skip
        ImageDraw.Draw(picture).rectangle(
            (min(left, right), min(top, bottom), max(left, right), max(top, bottom)), outline=_FRAME, width=4
        )
        across, down = _MARGIN * max(right - left, 40), _MARGIN * max(bottom - top, 40)
        part = (
            round(max(left - across, 0)), round(max(top - down, 0)),
            round(min(right + across, picture.width)), round(min(bottom + down, picture.height)),
        )  # fmt: skip
        if part[2] - part[0] >= 8 and part[3] - part[1] >= 8:
            picture = picture.crop(part)
    picture.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=82)
    return out.getvalue()
