"""Paints a layout as a photo: cut-outs on shelves, then light, then the camera's noise.

The order: wall, products behind, products in front, rails and tags, the door's frame; then the light on all of
it (one small map, enlarged), the reflections on the glass, and the sensor's noise.
"""

from functools import lru_cache
from random import Random

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from demo.art import Colour, write
from demo.layout import Facing, Layout
from demo.packs import pack
from demo.products import Product

Floats = npt.NDArray[np.float32]

# Packs are drawn at one of these heights and resized, so that cameras share them.
_TIERS = (60, 120, 240, 480, 720)
_WALL: dict[str, Colour] = {"cooler": (104, 112, 122), "shelf": (204, 201, 194)}
_SEAM: dict[str, Colour] = {"cooler": (86, 93, 103), "shelf": (180, 177, 170)}
_BOARD: dict[str, Colour] = {"cooler": (150, 158, 168), "shelf": (236, 234, 228)}
_RAIL: dict[str, Colour] = {"cooler": (34, 36, 41), "shelf": (226, 225, 220)}
_HEADER: dict[str, tuple[str, Colour]] = {
    "drinks": ("ICE COLD", (222, 30, 38)),
    "dairy": ("fresh daily", (22, 112, 160)),
}
_TINT: dict[str, tuple[float, float, float]] = {"cooler": (0.95, 1.0, 1.0), "shelf": (1.0, 0.985, 0.94)}
# Sigma of the noise in levels; with it a photo of 9 MP at quality 92 has a realistic file size.
_GRAIN = 3.4
_GRAIN_SIDE = 1024
# Light changes slowly, so its map needs only one point per so many pixels.
_LIGHT_STEP = 16


def paint(layout: Layout, width: int, height: int, dice: Random) -> Image.Image:
    """Return the layout as an RGB photo of width x height px. The same dice give the same pixels."""
    canvas = Image.new("RGB", (width, height), _WALL[layout.fixture])
    brush = _Brush(canvas, height)
    brush.wall(layout)
    for index in range(len(layout.bays)):
        brush.row(layout, index)
    brush.rails(layout, dice)
    if layout.fixture == "cooler":
        brush.frame(layout)
    light = _light(layout, width, height, dice)
    glare = _glare(width, height, dice) if layout.fixture == "cooler" or dice.random() < 0.3 else None
    return _exposed(canvas, light, _TINT[layout.fixture], glare, _grain(width, height, dice))


def _exposed(
    canvas: Image.Image,
    light: Image.Image,
    tint: tuple[float, float, float],
    glare: Image.Image | None,
    grain: Image.Image,
) -> Image.Image:
    # Channel by channel: each of these steps is three times as fast in Pillow as on three channels at once.
    channels = []
    for channel, share in zip(canvas.split(), tint, strict=True):
        own_light = light if share == 1.0 else light.point([round(level * share) for level in range(256)])
        lit = ImageChops.multiply(channel, own_light)
        if glare is not None:
            lit.paste(251, (0, 0), glare)
        channels.append(ImageChops.add(lit, grain, 1, -128))
    return Image.merge("RGB", channels)


class _Brush:
    """Draws on one canvas in layout units."""

    def __init__(self, canvas: Image.Image, scale: int) -> None:
        self._canvas = canvas
        self._draw = ImageDraw.Draw(canvas)
        self._scale = scale

    def _bar(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        x0, y0, x1, y1 = (round(edge * self._scale) for edge in (left, top, right, bottom))
        if x0 < x1 and y0 < y1:
            self._draw.rectangle((x0, y0, x1 - 1, y1 - 1), colour)

    def wall(self, layout: Layout) -> None:
        for seam in range(1, int((layout.inner_right - layout.inner_left) / 0.05)):
            x = layout.inner_left + 0.05 * seam
            self._bar(x, 0, x + 0.004, 1, _SEAM[layout.fixture])
        for bay in layout.bays:
            self._bar(0, bay.foot - 0.014, layout.aspect, bay.foot, _BOARD[layout.fixture])

    def row(self, layout: Layout, index: int) -> None:
        """Draw one bay: products behind (darker, and complete only where a gap shows them), then the front."""
        for facing in (*layout.facings, *layout.gaps):
            if facing.bay == index:
                self._behind(facing, whole=facing in layout.gaps)
        for facing in layout.facings:
            if facing.bay == index:
                self._stand(facing)

    def _stand(self, facing: Facing) -> None:
        cut_out = _resized(facing.product, facing.turn, round((facing.bottom - facing.top) * self._scale))
        at = (round(facing.left * self._scale), round(facing.bottom * self._scale) - cut_out.height)
        self._canvas.paste(cut_out, at, cut_out)

    def _behind(self, facing: Facing, whole: bool) -> None:
        tall = (facing.bottom - facing.top) * 0.95
        cut_out = _in_shadow(facing.product, round(tall * self._scale))
        if not whole:
            cut_out = cut_out.crop((0, 0, cut_out.width, cut_out.height * 45 // 100))
        left = facing.left + (facing.right - facing.left) * 0.025
        self._canvas.paste(cut_out, (round(left * self._scale), round((facing.top + 0.001) * self._scale)), cut_out)

    def rails(self, layout: Layout, dice: Random) -> None:
        colour = _RAIL[layout.fixture]
        for index, bay in enumerate(layout.bays):
            self._bar(0, bay.foot, layout.aspect, bay.foot + bay.rail, colour)
            self._bar(0, bay.foot, layout.aspect, bay.foot + bay.rail * 0.12, _scaled(colour, 1.15))
            self._bar(0, bay.foot + bay.rail * 0.86, layout.aspect, bay.foot + bay.rail, _scaled(colour, 0.55))
            groups: dict[int, Facing] = {}
            for facing in (*layout.facings, *layout.gaps):
                if facing.bay == index:
                    groups.setdefault(facing.group, facing)
            for facing in groups.values():
                self._tag(facing, bay.foot, bay.rail, dice)

    def _tag(self, facing: Facing, foot: float, rail: float, dice: Random) -> None:
        s = self._scale
        tall, wide = rail * 0.8, rail * 1.75
        left = facing.left + (facing.right - facing.left) * 0.1
        top = foot + rail * 0.1
        promoted = dice.random() < 0.18
        paper: Colour = (255, 214, 10) if promoted else (250, 250, 248)
        self._bar(left, top, left + wide, top + tall, paper)
        price = f"{dice.randint(1, 6)}.{dice.choice((19, 29, 49, 79, 89, 99))}"
        centre = ((left + wide * 0.66) * s, (top + tall * 0.52) * s)
        write(
            self._draw,
            price,
            centre,
            (wide * 0.58 * s, tall * 0.6 * s),
            (190, 10, 20) if promoted else (15, 15, 18),
        )
        for line, share in enumerate((0.26, 0.2, 0.23)):
            y = top + tall * (0.2 + 0.16 * line)
            self._bar(left + wide * 0.06, y, left + wide * (0.06 + share), y + tall * 0.07, (90, 90, 95))
        self._bar(left + wide * 0.06, top + tall * 0.7, left + wide * 0.3, top + tall * 0.88, (40, 40, 44))

    def frame(self, layout: Layout) -> None:
        """Draw the cooler's door: header, kick plate, posts with a strip of light along their inner edges."""
        aspect, left, right = layout.aspect, layout.inner_left, layout.inner_right
        first, last = layout.bays[0], layout.bays[-1]
        dark: Colour = (17, 18, 21)
        title, colour = _HEADER.get(layout.aisle, _HEADER["drinks"])
        self._bar(0, 0, aspect, first.top, colour)
        self._bar(0, first.top - 0.008, aspect, first.top, dark)
        s = self._scale
        write(
            self._draw,
            title,
            (aspect / 2 * s, first.top * 0.46 * s),
            (aspect * 0.5 * s, 0.042 * s),
            (255,) * 3,
        )
        self._bar(0, last.foot + last.rail, aspect, 1, dark)
        for edge, post in ((left, (0.0, left)), (right, (right, aspect))):
            self._bar(post[0], first.top, post[1], 1, dark)
            self._bar(edge - 0.006, first.top, edge + 0.006, last.foot + last.rail, (236, 244, 255))


def _scaled(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(255, round(level * factor)) for level in colour)
    return red, green, blue


@lru_cache(maxsize=128)
def _resized(product: Product, turn: int, height: int) -> Image.Image:
    tier = next((tier for tier in _TIERS if tier >= height * 0.8), _TIERS[-1])
    drawn = pack(product, tier, turn)
    return drawn.resize((max(3, round(height * product.slim)), height), Image.Resampling.BILINEAR)


@lru_cache(maxsize=64)
def _in_shadow(product: Product, height: int) -> Image.Image:
    levels = [level * 2 // 5 for level in range(256)]
    return _resized(product, 0, height).point(levels * 3 + list(range(256)))


def _light(layout: Layout, width: int, height: int, dice: Random) -> Image.Image:
    """Return the reflected light at every place (L, 255 is all of it), enlarged from a small map."""
    columns, rows = -(-width // _LIGHT_STEP), -(-height // _LIGHT_STEP)
    if min(columns, rows) < 120:
        columns, rows = round(120 * max(1.0, layout.aspect)), round(120 / min(1.0, layout.aspect))
    x = np.linspace(0, layout.aspect, columns, dtype=np.float32)[None, :]
    y = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    light = np.ones((rows, columns), np.float32)
    depth = 0.42 if layout.fixture == "shelf" else 0.3
    for bay in layout.bays:
        inside = (y >= bay.top) & (y < bay.foot)
        fall = np.clip((y - bay.top) / ((bay.foot - bay.top) * 0.5), 0, 1)
        light *= np.where(inside, 1 - depth * (1 - fall) ** 2, 1)
        light *= 1 - 0.45 * np.exp(-(((y - bay.foot - bay.rail) / 0.006) ** 2))
    for facing in layout.facings:
        inside = (y >= facing.top) & (y < facing.bottom)
        for edge in (facing.left, facing.right):
            light *= np.where(inside, 1 - 0.2 * np.exp(-(((x - edge) / 0.006) ** 2)), 1)
    if layout.fixture == "cooler":
        near = np.minimum(np.abs(x - layout.inner_left), np.abs(x - layout.inner_right))
        light *= 0.86 + 0.14 * np.exp(-near / 0.09)
    centre_x = layout.aspect * dice.uniform(0.42, 0.58)
    light *= 1 - 0.2 * (((x - centre_x) / layout.aspect) ** 2 + (y - 0.48) ** 2) * 2
    light *= dice.uniform(0.93, 1.0)
    small = Image.fromarray(np.clip(light * 255, 0, 255).astype(np.uint8))
    return small.resize((width, height), Image.Resampling.BILINEAR)


def _glare(width: int, height: int, dice: Random) -> Image.Image:
    """Return slanted reflections of a lamp on glass, as a mask."""
    small = Image.new("L", (max(8, width // _LIGHT_STEP), max(8, height // _LIGHT_STEP)), 0)
    draw = ImageDraw.Draw(small)
    w, h = small.size
    for _ in range(dice.randint(2, 3)):
        x, thick, lean = (
            dice.uniform(-0.2, 1.0) * w,
            dice.uniform(0.03, 0.12) * w,
            dice.uniform(0.2, 0.45) * h,
        )
        draw.polygon([(x + lean, 0), (x + lean + thick, 0), (x + thick, h), (x, h)], fill=dice.randint(22, 58))
    return small.filter(ImageFilter.GaussianBlur(max(1.0, w / 90))).resize((width, height), Image.Resampling.BILINEAR)


@lru_cache(maxsize=1)
def _grain_tile() -> Image.Image:
    noise = np.random.default_rng(20).normal(0, 1, (_GRAIN_SIDE, _GRAIN_SIDE)).astype(np.float32)
    # A camera smooths its noise a little before it writes the JPEG.
    noise += 0.5 * (np.roll(noise, 1, 0) + np.roll(noise, 1, 1))
    return Image.fromarray(np.clip(128 + noise / noise.std() * _GRAIN, 0, 255).astype(np.uint8))


def _grain(width: int, height: int, dice: Random) -> Image.Image:
    """Return the sensor's noise around 128, from tiles at an offset of this photo."""
    frame = Image.new("L", (width, height))
    left, top = -dice.randrange(_GRAIN_SIDE), -dice.randrange(_GRAIN_SIDE)
    for y in range(top, height, _GRAIN_SIDE):
        for x in range(left, width, _GRAIN_SIDE):
            frame.paste(_grain_tile(), (x, y))
    return frame
