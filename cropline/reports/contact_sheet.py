"""Draws contact sheets: many crops in one picture, or one photo with its boxes and crops."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

_PAPER, _CARD, _INK, _QUIET, _ACCENT = "#f4f2ee", "#ffffff", "#23262b", "#7b7f86", "#d9480f"
_CELL_WIDTH, _CELL_HEIGHT, _CAPTION, _GAP = 168, 200, 40, 12
_WIDE, _TALL = 1400, 2800


@dataclass(frozen=True)
class Tile:
    """One crop: its encoded bytes, a bold line and a plain line."""

    data: bytes
    title: str
    note: str


def contact_sheet(tiles: Sequence[Tile], *, columns: int = 8) -> bytes:
    """A JPEG of the tiles in reading order. A tile whose bytes cannot be read says so; the sheet does not fail."""
    from PIL import Image, ImageDraw

    columns = max(1, min(columns, len(tiles)))
    rows = max(1, math.ceil(len(tiles) / columns))
    step_x, step_y = _CELL_WIDTH + _GAP, _CELL_HEIGHT + _CAPTION + _GAP
    sheet = Image.new("RGB", (columns * step_x + _GAP, rows * step_y + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, tile in enumerate(tiles):
        left, top = _GAP + index % columns * step_x, _GAP + index // columns * step_y
        draw.rounded_rectangle((left, top, left + _CELL_WIDTH, top + _CELL_HEIGHT + _CAPTION), 8, fill=_CARD)
        _place(sheet, draw, tile, left, top)
    return _jpeg(sheet)


def _place(sheet: Image, draw: ImageDraw, tile: Tile, left: int, top: int) -> None:
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(tile.data)) as opened:
            # A lossless crop may have a tag that turns it.
            picture = ImageOps.exif_transpose(opened).convert("RGB")
        picture.thumbnail((_CELL_WIDTH - 16, _CELL_HEIGHT - 16), Image.Resampling.LANCZOS)
    except Exception:  # noqa: BLE001 - of bytes that are damaged Pillow raises nearly anything
        draw.text((left + 10, top + 10), "cannot be shown", fill=_ACCENT, font=_font(13))
    else:
        x, y = left + (_CELL_WIDTH - picture.width) // 2, top + (_CELL_HEIGHT - picture.height) // 2
        sheet.paste(picture, (x, y))
    draw.text((left + 10, top + _CELL_HEIGHT + 2), _fit(tile.title), fill=_INK, font=_font(13))
    draw.text((left + 10, top + _CELL_HEIGHT + 20), _fit(tile.note), fill=_QUIET, font=_font(11))


def boxes_on_photo(photo: Image, boxes: Sequence[tuple[int, int, int, int, str, bool]], tiles: Sequence[Tile]) -> bytes:
    """A JPEG of a photo with its boxes drawn in, and its crops below.

    ``photo`` is upright. ``boxes`` are left, top, right, bottom in its pixels, a label, and whether the crop
    was written.
    """
    from PIL import Image, ImageDraw

    scale = min(_WIDE / photo.width, _TALL / photo.height)
    width, height = max(1, round(photo.width * scale)), max(1, round(photo.height * scale))
    view = photo.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(view)
    for left, top, right, bottom, label, written in boxes:
        colour = "#2b8a3e" if written else _ACCENT
        draw.rectangle((left * scale, top * scale, right * scale, bottom * scale), outline=colour, width=4)
        draw.text(
            (left * scale + 6, top * scale + 4), label, fill="white", font=_font(16), stroke_width=2, stroke_fill=colour
        )
    if not tiles:
        return _jpeg(view)
    with Image.open(io.BytesIO(contact_sheet(tiles, columns=7))) as below:
        sheet = Image.new("RGB", (max(width, below.width), view.height + below.height), _PAPER)
        sheet.paste(view, ((sheet.width - width) // 2, 0))
        sheet.paste(below, ((sheet.width - below.width) // 2, view.height))
    return _jpeg(sheet)


def _fit(text: str) -> str:
    return text if len(text) <= 24 else text[:23] + "…"


def _font(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _jpeg(picture: Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=82, optimize=True)
    return buffer.getvalue()
