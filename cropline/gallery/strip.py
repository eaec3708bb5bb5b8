"""The crops of a slot side by side: one picture, and how much each differs from the one before."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cropline.gallery.slots import Moment, Row, most_changed
from cropline.gallery.thumbnails import NoPicture, open_picture

if TYPE_CHECKING:
    from PIL.Image import Image

Picture = Callable[[Row], bytes]
"""Takes a row and returns its thumbnail (an encoded picture). Raises NoPicture."""

_AT_ONCE = 8
_HASH = 8  # bits of a perceptual hash per side
_CELL, _GAP, _CAPTION, _COLUMNS = 132, 8, 34, 12
_PAPER, _CARD, _INK, _QUIET, _ACCENT = "#f4f2ee", "#ffffff", "#23262b", "#6b6f76", "#d9480f"


@dataclass(frozen=True)
class _Look:
    """What two crops are compared by: ``bits``, a difference hash, and ``colours``, the mean colours of 16 parts."""

    bits: int
    colours: bytes

    def change(self, before: _Look) -> float:
        """Return 0 to 1: the greater of the share of other bits, and the mean difference of colours (a half is all)."""
        shape = (self.bits ^ before.bits).bit_count() / (_HASH * _HASH)
        apart = sum(abs(one - other) for one, other in zip(self.colours, before.colours, strict=True))
        return max(shape, min(1.0, 2 * apart / len(self.colours) / 255))


def with_changes(moments: Sequence[Moment], picture: Picture) -> list[Moment]:
    """Return the moments with ``change``, how much each crop differs from the one before.

    A moment without a picture is skipped: the next one is compared with the last picture before it.
    """
    before: _Look | None = None
    found = []
    # Stores answer slowly and Pillow decodes outside of the interpreter's lock.
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="strip") as threads:
        looks = list(threads.map(lambda moment: _look(moment, picture), moments))
    for moment, look in zip(moments, looks, strict=True):
        if look is not None and before is not None:
            found.append(replace(moment, change=look.change(before)))
        else:
            found.append(moment)
        before = look or before
    return found


def _look(moment: Moment, picture: Picture) -> _Look | None:
    shown = _opened(moment, picture)
    if shown is None:
        return None
    pixels = shown.convert("L").resize((_HASH + 1, _HASH)).tobytes()
    bits = 0
    for y in range(_HASH):
        for x in range(_HASH):
            at = y * (_HASH + 1) + x
            bits = bits << 1 | (pixels[at] + 4 < pixels[at + 1])  # 4: noise of a flat area is no edge
    return _Look(bits, shown.resize((4, 4)).tobytes())


def draw_strip(moments: Sequence[Moment], picture: Picture) -> bytes:
    """Return the strip as PNG, in reading order: crops with their times, gaps with the reason, changes framed."""
    from PIL import Image, ImageDraw, ImageFont

    columns = max(1, min(_COLUMNS, len(moments)))
    lines = -(-max(1, len(moments)) // columns)
    wide, high = _CELL + _GAP, _CELL + _CAPTION + _GAP
    sheet = Image.new("RGB", (columns * wide + _GAP, lines * high + _GAP), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    marked = most_changed(moments)
    for at, moment in enumerate(moments):
        left, top = _GAP + at % columns * wide, _GAP + at // columns * high
        frame = _ACCENT if at in marked else _CARD
        draw.rounded_rectangle((left - 2, top - 2, left + _CELL + 2, top + _CELL + 2), 6, fill=_CARD)
        shown = _fitted(moment, picture)
        if shown is not None:
            sheet.paste(shown, (left + (_CELL - shown.width) // 2, top + (_CELL - shown.height) // 2))
        else:
            draw.multiline_text((left + 8, top + 8), _wrapped(moment.why or "cannot be shown"), fill=_QUIET, font=font)
        draw.rounded_rectangle((left - 2, top - 2, left + _CELL + 2, top + _CELL + 2), 6, outline=frame, width=3)
        draw.text((left, top + _CELL + 5), f"{moment.captured_at:%m-%d %H:%M:%S}", fill=_INK, font=font)
        if moment.change is not None:
            draw.text((left, top + _CELL + 18), f"change {moment.change:.0%}", fill=_QUIET, font=font)
    out = io.BytesIO()
    sheet.save(out, "PNG", compress_level=3)
    return out.getvalue()


def _fitted(moment: Moment, picture: Picture) -> Image | None:
    shown = _opened(moment, picture)
    if shown is not None:
        shown.thumbnail((_CELL - 8, _CELL - 8))
    return shown


def _opened(moment: Moment, picture: Picture) -> Image | None:
    """Return the moment's crop; None in a gap, or when it cannot be shown."""
    if moment.row is None or moment.why:
        return None
    try:
        return open_picture(picture(moment.row))
    except NoPicture:
        return None


def _wrapped(text: str) -> str:
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + len(word) > 18:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return "\n".join([*lines, line][:7])
