"""Draws a contact sheet of pairs: the current crop, the tried one, and where they differ."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cropline.core.scrub import visible
from fugue_jobs.trial.compare import cut_of, differing

if TYPE_CHECKING:
    from fugue_jobs.trial.compare import Worst
    from fugue_jobs.work import CropOutcome

_PAPER, _CARD, _INK, _QUIET, _ACCENT = "#f4f2ee", "#ffffff", "#23262b", "#7b7f86", "#d9480f"
_SIDE, _GAP, _CAPTION, _HEAD = 168, 12, 58, 44
_CARD_WIDTH = 3 * _SIDE + 4 * _GAP
_CARD_HEIGHT = _SIDE + 20 + _CAPTION + _GAP


def trial_sheet(worst: Sequence[Worst], title: str, names: tuple[str, str], columns: int = 2) -> bytes:
    """Return a PNG of the pairs in reading order. ``names``: of the current and of the tried profile."""
    columns = max(1, min(columns, len(worst)))
    rows = math.ceil(len(worst) / columns)
    size = columns * (_CARD_WIDTH + _GAP) + _GAP, _HEAD + max(1, rows) * (_CARD_HEIGHT + _GAP) + _GAP
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, 12), visible(title), fill=_INK, font=_font(17))
    if not worst:
        draw.text((_GAP, _HEAD + _GAP), "no crop differs", fill=_QUIET, font=_font(13))
    for index, pair in enumerate(worst):
        left = _GAP + index % columns * (_CARD_WIDTH + _GAP)
        top = _HEAD + index // columns * (_CARD_HEIGHT + _GAP)
        _card(sheet, draw, pair, names, left, top)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _card(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, pair: Worst, names: tuple[str, str], left: int, top: int
) -> None:
    draw.rounded_rectangle((left, top, left + _CARD_WIDTH, top + _CARD_HEIGHT), 8, fill=_CARD)
    before = cut_of(pair.current) if pair.current.data else None
    after = cut_of(pair.tried) if pair.tried.data else None
    panels = ((names[0], before, pair.current), (names[1], after, pair.tried))
    for place, (name, picture, crop) in enumerate(panels):
        x = left + _GAP + place * (_SIDE + _GAP)
        draw.text((x, top + 5), _fit(name, 24), fill=_QUIET, font=_font(11))
        _panel(sheet, draw, picture, crop.reason or crop.status, x, top + 20)
    x = left + _GAP + 2 * (_SIDE + _GAP)
    draw.text((x, top + 5), "difference", fill=_QUIET, font=_font(11))
    both = before is not None and after is not None
    _panel(
        sheet, draw, _heat(before, after) if before and after else None, "" if both else "only one crop", x, top + 20
    )
    found = pair.difference
    share = "" if found.pixels is None else f"{found.pixels:.1%} of the pixels differ"
    lines = (
        " ".join(part for part in (found.label or "no label", share) if part),
        f"{found.image_id}, box {found.box_index}",
        f"{_facts(pair.current)}  to  {_facts(pair.tried)}",
    )
    for line, text in enumerate(lines):
        colour = _INK if line == 0 else _QUIET
        draw.text(
            (left + _GAP, top + _SIDE + 24 + line * 18), _fit(text, 84), fill=colour, font=_font(13 if not line else 11)
        )


def _panel(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, picture: Image.Image | None, instead: str, x: int, y: int
) -> None:
    if picture is None:
        draw.rectangle((x, y, x + _SIDE, y + _SIDE), outline="#e3e0da")
        draw.text((x + 8, y + 8), _fit(instead, 24), fill=_ACCENT, font=_font(12))
        return
    shown = picture.copy()
    shown.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    sheet.paste(shown, (x + (_SIDE - shown.width) // 2, y + (_SIDE - shown.height) // 2))


def _heat(before: Image.Image, after: Image.Image) -> Image.Image:
    """Return a picture that is white where both are equal, and red where they differ."""
    if after.size != before.size:
        after = after.resize(before.size, Image.Resampling.LANCZOS)
    strength = np.clip(differing(before, after) * 4, 0, 255).astype(np.uint8)
    full = np.full_like(strength, 255)
    return Image.fromarray(np.dstack([full, full - strength, full - strength]))


def _facts(crop: CropOutcome) -> str:
    if crop.status != "written":
        return crop.reason or crop.status
    values = "".join(
        f" {name}={value}" for name, value in (crop.values or {}).items() if not isinstance(value, list | bytes)
    )
    return f"{crop.width} x {crop.height} px {(crop.bytes or 0) / 1000:.1f} KB{values}"


def _fit(text: str, most: int) -> str:
    text = visible(text)
    return text if len(text) <= most else text[: most - 1] + "…"


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
