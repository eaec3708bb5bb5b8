"""Draws the flat print of a product's label: colours, pattern, brand and variety. packs.py shapes it into a pack."""

import math
from functools import lru_cache

from PIL import Image, ImageColor, ImageDraw, ImageFont

from demo.products import Product

Colour = tuple[int, int, int]
Point = tuple[float, float]


def rgb(name: str) -> Colour:
    """Return ``#rrggbb`` as three numbers."""
    red, green, blue = ImageColor.getrgb(name)[:3]
    return red, green, blue


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """Return ``one`` mixed with this share of ``other``."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


@lru_cache(maxsize=256)
def font(size: int) -> ImageFont.FreeTypeFont:
    """Return Pillow's own font, so that a machine without fonts draws the same bytes."""
    found = ImageFont.load_default(max(4, size))
    assert isinstance(found, ImageFont.FreeTypeFont), "the demo needs a Pillow that was built with FreeType"
    return found


def write(
    draw: ImageDraw.ImageDraw, text: str, centre: Point, room: Point, ink: Colour | int, bold: float = 0.03
) -> None:
    """Write one line as large as the space (px, px) allows; ``bold`` is the stroke as a share of the size."""
    trial = font(100)
    left, top, right, bottom = trial.getbbox(text, stroke_width=round(100 * bold))
    size = int(100 * min(room[0] / (right - left), room[1] / (bottom - top)))
    if size < 5:
        return
    draw.text(centre, text, fill=ink, font=font(size), anchor="mm", stroke_width=int(size * bold), stroke_fill=ink)


def label(product: Product, width: int, height: int, room: float = 0.84, upended: bool = False) -> Image.Image:
    """Return the print on a product's front, RGB.

    ``room`` is the share of the width for the brand. ``upended`` writes from bottom to top, as on slim cans.
    """
    picture = Image.new("RGB", (width, height), rgb(product.base))
    draw = ImageDraw.Draw(picture)
    _PATTERNS[product.art](draw, width, height, rgb(product.accent), rgb(product.base))
    if upended:
        _write_upended(picture, product)
    else:
        _write_level(draw, product, width, height, room)
    return picture


def back(product: Product, width: int, height: int) -> Image.Image:
    """Return the back of a round label: small print and a bar code."""
    picture = Image.new("RGB", (width, height), mix(rgb(product.base), (255, 255, 255), 0.12))
    draw = ImageDraw.Draw(picture)
    ink = rgb(product.ink)
    for line in range(9):
        y = height * (0.14 + 0.045 * line)
        draw.line((width * 0.2, y, width * (0.5 + 0.3 * ((line * 7) % 5) / 5), y), ink, max(1, height // 160))
    draw.rectangle((width * 0.25, height * 0.64, width * 0.72, height * 0.86), (255, 255, 255))
    for bar in range(24):
        if (bar * 37) % 11 < 6:
            x = width * (0.28 + 0.0175 * bar)
            draw.rectangle((x, height * 0.67, x + width * 0.008, height * 0.83), (10, 10, 10))
    return picture


def _write_level(draw: ImageDraw.ImageDraw, product: Product, width: int, height: int, room: float) -> None:
    ink = rgb(product.base) if product.art == "block" else rgb(product.ink)
    write(draw, product.brand, (width / 2, height * 0.24), (width * room, height * 0.26), ink)
    below = rgb(product.ink)
    write(draw, product.variety, (width / 2, height * 0.47), (width * room * 0.7, height * 0.09), below, 0.01)
    draw.rectangle((width * 0.1, height * 0.93, width * 0.34, height * 0.95), below)


def _write_upended(picture: Image.Image, product: Product) -> None:
    width, height = picture.size
    ink = rgb(product.base) if product.art == "block" else rgb(product.ink)
    plate = Image.new("L", (height, width), 0)
    draw = ImageDraw.Draw(plate)
    write(draw, product.brand, (height * 0.68, width * 0.44), (height * 0.5, width * 0.4), 255)
    write(draw, product.variety, (height * 0.68, width * 0.72), (height * 0.34, width * 0.13), 255, 0.01)
    picture.paste(ink, (0, 0), plate.transpose(Image.Transpose.ROTATE_90))


def _band(draw: ImageDraw.ImageDraw, width: int, height: int, accent: Colour, base: Colour) -> None:
    draw.rectangle((0, height * 0.6, width, height * 0.86), accent)
    draw.rectangle((0, height * 0.57, width, height * 0.585), accent)
    draw.rectangle((0, height * 0.875, width, height * 0.89), accent)
    for seed in range(5):
        x, y = width * (0.14 + 0.18 * seed), height * (0.73 + 0.03 * (-1) ** seed)
        reach = min(width, height) * 0.075
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), mix(accent, base, 0.55))


def _wave(draw: ImageDraw.ImageDraw, width: int, height: int, accent: Colour, base: Colour) -> None:
    for level, thick, colour in ((0.66, 0.13, accent), (0.82, 0.03, mix(accent, base, 0.35))):
        upper = [(x, height * (level - 0.07 * math.sin(x / width * 5.2 + 0.6))) for x in _across(width)]
        lower = [(x, y + height * thick * (0.5 + x / width)) for x, y in reversed(upper)]
        draw.polygon(upper + lower, fill=colour)


def _burst(draw: ImageDraw.ImageDraw, width: int, height: int, accent: Colour, base: Colour) -> None:
    x, y, reach = width / 2, height * 0.72, min(width * 0.44, height * 0.25)
    star = [
        (
            x + reach * (1 if i % 2 else 0.78) * math.cos(i * math.pi / 14),
            y + reach * (1 if i % 2 else 0.78) * math.sin(i * math.pi / 14),
        )
        for i in range(28)
    ]
    draw.polygon(star, fill=accent)
    for dx, dy, size in ((-0.26, 0.1, 0.4), (0.3, 0.14, 0.34), (0.02, -0.2, 0.36)):
        cx, cy, r = x + dx * reach, y + dy * reach, size * reach
        draw.ellipse((cx - r, cy - r, cx + r, cy + r), mix(base, (60, 20, 0), 0.25))
        draw.ellipse((cx - r * 0.6, cy - r * 0.75, cx + r * 0.1, cy - r * 0.1), mix(base, (255, 255, 255), 0.45))


def _stripes(draw: ImageDraw.ImageDraw, width: int, height: int, accent: Colour, base: Colour) -> None:
    for index in range(-2, 9):
        x = width * (index * 0.2)
        foot, head = height * 0.95, height * 0.6
        lean = (foot - head) * 0.8
        draw.polygon([(x, foot), (x + width * 0.09, foot), (x + width * 0.09 + lean, head), (x + lean, head)], accent)
    draw.rectangle((0, height * 0.955, width, height * 0.975), accent)
    draw.rectangle((0, height * 0.565, width, height * 0.585), mix(accent, base, 0.3))


def _block(draw: ImageDraw.ImageDraw, width: int, height: int, accent: Colour, base: Colour) -> None:
    draw.rectangle((0, height * 0.06, width, height * 0.4), accent)
    draw.ellipse((width * 0.2, height * 0.58, width * 0.8, height * 0.92), accent)
    draw.ellipse((width * 0.27, height * 0.62, width * 0.73, height * 0.88), mix(accent, base, 0.75))
    draw.ellipse((width * 0.38, height * 0.67, width * 0.6, height * 0.8), mix(accent, (255, 255, 255), 0.35))


def _peaks(draw: ImageDraw.ImageDraw, width: int, height: int, accent: Colour, base: Colour) -> None:
    foot = height * 0.96
    for left, right, top, share in ((-0.1, 0.6, 0.64, 0.35), (0.35, 1.1, 0.6, 0.0), (0.15, 0.85, 0.76, 0.6)):
        peak = ((left + right) / 2 * width, top * height)
        draw.polygon([(left * width, foot), peak, (right * width, foot)], fill=mix(accent, base, share))
    draw.ellipse(
        (width * 0.7, height * 0.56, width * 0.82, height * 0.56 + width * 0.12),
        mix(accent, (255, 255, 255), 0.4),
    )


def _across(width: int) -> list[float]:
    return [width * step / 24 for step in range(25)]


_PATTERNS = {
    "band": _band,
    "wave": _wave,
    "burst": _burst,
    "stripes": _stripes,
    "block": _block,
    "peaks": _peaks,
}
