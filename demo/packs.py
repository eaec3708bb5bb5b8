"""Draws one product as a cut-out (RGBA): round packs as solids of revolution, flat ones folded, bags filled with air.

art.py draws the flat print; shelves.py adds place and light.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from demo.art import Colour, back, label, mix, rgb
from demo.products import Product, Shape

Floats = npt.NDArray[np.floating]
# Height as a share from the top, and the radius there as a share of the largest.
Profile = Sequence[tuple[float, float]]

TURNS = (-0.14, 0.02)

# The readable share of a round pack's front half.
_FACING = 0.58

_WHITE: Colour = (255, 255, 255)
_METAL: Colour = (200, 203, 208)
_ROUND: dict[Shape, Profile] = {
    "bottle": (
        *(
            (0.0, 0.36),
            (0.012, 0.40),
            (0.066, 0.40),
            (0.07, 0.45),
            (0.083, 0.45),
            (0.088, 0.34),
            (0.14, 0.36),
        ),
        *((0.2, 0.52), (0.27, 0.78), (0.33, 0.95), (0.38, 1.0), (0.41, 1.0), (0.415, 0.97), (0.70, 0.97)),
        *((0.705, 0.99), (0.75, 0.93), (0.80, 0.99), (0.95, 1.0), (0.985, 0.95), (1.0, 0.86)),
    ),
    "glass": (
        *((0.0, 0.36), (0.01, 0.4), (0.07, 0.4), (0.072, 0.36), (0.1, 0.34), (0.22, 0.36), (0.30, 0.5)),
        *((0.36, 0.84), (0.41, 0.97), (0.45, 1.0), (0.95, 1.0), (0.985, 0.96), (1.0, 0.88)),
    ),
    "can": ((0.0, 0.82), (0.018, 0.84), (0.022, 0.8), (0.075, 1.0), (0.95, 1.0), (0.985, 0.86), (1.0, 0.8)),
    "tin": ((0.0, 1.0), (0.028, 1.0), (0.032, 0.965), (0.968, 0.965), (0.972, 1.0), (1.0, 1.0)),
    "jar": (
        *((0.0, 0.88), (0.012, 0.92), (0.15, 0.92), (0.16, 0.86), (0.19, 0.86), (0.22, 0.95)),
        *((0.27, 1.0), (0.94, 1.0), (0.98, 0.97), (1.0, 0.9)),
    ),
    "tub": ((0.0, 0.98), (0.01, 1.0), (0.09, 1.0), (0.095, 0.95), (0.5, 0.89), (0.97, 0.81), (1.0, 0.76)),
}


@lru_cache(maxsize=512)
def pack(product: Product, height: int, turn: int = 0) -> Image.Image:
    """Return the product's front view, ``height`` px tall, RGBA with a soft edge.

    ``turn`` picks one of TURNS: how far a round pack is turned away from its front.
    """
    width = max(6, round(height * product.slim))
    if product.shape in _ROUND:
        wrap = _WRAPS.get(product.shape, _bottle_wrap)(product, round(width * 1.57), height)
        return _lathe(wrap, _ROUND[product.shape], width, TURNS[turn], _GLOSS.get(product.shape, 0.55))
    return _bag(product, width, height) if product.shape == "bag" else _fold(product, width, height)


def _lathe(wrap: Image.Image, profile: Profile, width: int, turn: float, gloss: float) -> Image.Image:
    """Shape a flat wrap (front and back side by side) into a solid of revolution, lit from the upper left."""
    texture = np.asarray(wrap)
    height, around = texture.shape[:2]
    levels, shares = zip(*profile, strict=True)
    radius = (np.interp((np.arange(height) + 0.5) / height, levels, shares) * width / 2).astype(np.float32)
    x = np.arange(width, dtype=np.float32) + 0.5 - width / 2
    u = np.clip(x[None, :] / radius[:, None], -1, 1)
    # The front half of the wrap is within a quarter of the middle of the texture's first half.
    column = ((np.arcsin(u) / (2 * np.pi) + 0.25 + turn / 2) * around).astype(np.int32) % around
    colour = texture[np.arange(height)[:, None], column].astype(np.float32)
    light = (0.34 + 0.66 * np.sqrt(1 - u * u * 0.96)) * (1.02 - 0.12 * u)
    gleam = np.exp(-(((u + 0.46) / 0.1) ** 2)) + 0.35 * np.exp(-(((u - 0.66) / 0.07) ** 2))
    colour = colour * light[..., None] + (gleam * gloss * 150)[..., None]
    alpha = np.clip(radius[:, None] - np.abs(x)[None, :] + 0.5, 0, 1) * 255
    return _cut_out(colour, alpha)


def _cut_out(colour: Floats, alpha: Floats) -> Image.Image:
    picture = Image.fromarray(np.clip(colour, 0, 255).astype(np.uint8))
    picture.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    return picture


def _wrap(product: Product, front: Image.Image) -> Image.Image:
    width, height = front.size
    both = Image.new("RGB", (2 * width, height))
    both.paste(front, (0, 0))
    both.paste(back(product, width, height), (width, 0))
    return both


def _bottle_wrap(product: Product, width: int, height: int) -> Image.Image:
    slender = product.shape == "glass"
    filling, cap = rgb(product.filling), rgb(product.accent if product.art != "wave" else product.base)
    picture = Image.new("RGB", (2 * width, height), filling)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, 2 * width, height * (0.2 if slender else 0.13)), mix(filling, (235, 240, 240), 0.62))
    draw.rectangle((0, 0, 2 * width, height * 0.083), cap)
    for ridge in range(0, 2 * width, max(3, width // 28)):
        draw.line((ridge, height * 0.014, ridge, height * 0.062), mix(cap, (0, 0, 0), 0.28), max(1, width // 160))
    draw.rectangle((0, height * 0.066, 2 * width, height * 0.07), mix(cap, (0, 0, 0), 0.4))
    for ring in (0.735, 0.765, 0.86, 0.885):
        if not slender:
            draw.rectangle((0, height * ring, 2 * width, height * (ring + 0.008)), mix(filling, (0, 0, 0), 0.22))
    top, foot = (0.47, 0.86) if slender else (0.413, 0.703)
    front = label(product, width, round(height * (foot - top)), _FACING)
    picture.paste(_wrap(product, front), (0, round(height * top)))
    return picture


def _can_wrap(product: Product, width: int, height: int) -> Image.Image:
    front = label(product, width, height, _FACING, upended=product.slim < 0.45)
    both = _wrap(product, front)
    draw = ImageDraw.Draw(both)
    draw.rectangle((0, 0, 2 * width, height * 0.06), _METAL)
    draw.rectangle((0, height * 0.02, 2 * width, height * 0.024), (120, 122, 126))
    draw.rectangle((0, height * 0.965, 2 * width, height), (168, 170, 176))
    return both


def _tin_wrap(product: Product, width: int, height: int) -> Image.Image:
    both = _wrap(product, label(product, width, height, _FACING))
    draw = ImageDraw.Draw(both)
    for top, foot in ((0.0, 0.05), (0.95, 1.0)):
        draw.rectangle((0, height * top, 2 * width, height * foot), _METAL)
    draw.rectangle((0, height * 0.03, 2 * width, height * 0.036), (110, 112, 116))
    draw.rectangle((0, height * 0.964, 2 * width, height * 0.97), (110, 112, 116))
    return both


def _jar_wrap(product: Product, width: int, height: int) -> Image.Image:
    picture = Image.new("RGB", (2 * width, height), rgb(product.filling))
    draw = ImageDraw.Draw(picture)
    lid = rgb(product.accent)
    draw.rectangle((0, 0, 2 * width, height * 0.155), lid)
    for ridge in range(0, 2 * width, max(3, width // 24)):
        draw.line((ridge, height * 0.03, ridge, height * 0.13), mix(lid, (0, 0, 0), 0.2), max(1, width // 140))
    draw.rectangle((0, height * 0.155, 2 * width, height * 0.2), mix(rgb(product.filling), _WHITE, 0.5))
    picture.paste(_wrap(product, label(product, width, round(height * 0.58), _FACING)), (0, round(height * 0.32)))
    return picture


def _tub_wrap(product: Product, width: int, height: int) -> Image.Image:
    both = _wrap(product, label(product, width, height, _FACING))
    lid = mix(rgb(product.accent), _WHITE, 0.15)
    ImageDraw.Draw(both).rectangle((0, 0, 2 * width, height * 0.092), lid)
    return both


def _fold(product: Product, width: int, height: int) -> Image.Image:
    """Draw a box, brick or gable-top carton: its front, and a narrow part of its side."""
    scale = 2
    w, h = width * scale, height * scale
    side, roof = round(w * 0.08), round(h * 0.2) if product.shape == "gable" else round(h * 0.012)
    picture = Image.new("RGB", (w, h), mix(rgb(product.base), (0, 0, 0), 0.42))
    picture.paste(label(product, w - side, h - roof), (0, roof))
    mask = Image.new("L", (w, h), 0)
    cut = ImageDraw.Draw(mask)
    cut.rectangle((0, roof, w, h), 255)
    if product.shape == "gable":
        _roof(picture, cut, product, roof, side)
    else:
        cut.polygon([(0, roof), (w - side, roof), (w, 0), (side, 0)], 255)
        ImageDraw.Draw(picture).polygon(
            [(0, roof), (w - side, roof), (w, 0), (side, 0)], mix(rgb(product.base), _WHITE, 0.3)
        )
    picture, mask = picture.reduce(scale), mask.reduce(scale)
    x = np.linspace(0, 1, width, dtype=np.float32)[None, :]
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    light = (1.0 - 0.16 * x) * (1.0 - 0.14 * y) + 0.07 * np.exp(-(((x - 0.3 - 0.25 * y) / 0.16) ** 2))
    return _cut_out(np.asarray(picture).astype(np.float32) * light[..., None], np.asarray(mask).astype(np.float32))


def _roof(picture: Image.Image, cut: ImageDraw.ImageDraw, product: Product, roof: int, side: int) -> None:
    w = picture.width
    ridge, inset = roof * 0.3, w * 0.05
    draw = ImageDraw.Draw(picture)
    base, accent = rgb(product.base), rgb(product.accent)
    draw.polygon([(0, roof), (w - side, roof), (w - side - inset, ridge), (inset, ridge)], mix(base, (0, 0, 0), 0.1))
    draw.rectangle((inset, 0, w - side - inset, ridge), mix(base, accent, 0.75))
    draw.line((inset, ridge, w - side - inset, ridge), mix(base, (0, 0, 0), 0.4), max(1, w // 80))
    x, y, reach = (w - side) * 0.5, roof * 0.66, w * 0.11
    draw.ellipse((x - reach, y - reach * 0.7, x + reach, y + reach * 0.9), mix(accent, (0, 0, 0), 0.3))
    draw.ellipse((x - reach, y - reach * 0.9, x + reach, y + reach * 0.6), accent)
    cut.polygon([(0, roof), (w, roof), (w - side - inset, ridge), (inset, ridge)], 255)
    cut.rectangle((inset, 0, w - side - inset, ridge), 255)


def _bag(product: Product, width: int, height: int) -> Image.Image:
    """Draw a pillow bag: crimped ends, creases towards them, and a foil reflection."""
    print_ = label(product, width, height)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    dice = np.random.default_rng(sum(product.code.encode()))
    fine = Image.fromarray(dice.random((14, 11), dtype=np.float32) * 2 - 1)
    crease: Floats = np.asarray(fine.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
    puff = np.sqrt(np.clip(1 - x * x * 0.92, 0, 1)) * np.clip(1.15 - y**4, 0, 1)
    light = 0.42 + 0.62 * puff - 0.1 * x - 0.08 * y + crease * (0.05 + 0.16 * y * y)
    gleam = np.clip(crease * 1.2 - 0.25 + 0.5 * np.exp(-(((x + 0.42) / 0.16) ** 2)), 0, 1) * puff
    seal = np.abs(y) > 0.9
    light = np.where(seal, 0.8 + 0.14 * np.sin(y * height * 0.35), light)
    colour = np.asarray(print_).astype(np.float32) * light[..., None] + (gleam * ~seal * 95)[..., None]
    waist = 0.955 + 0.045 * np.abs(y) ** 3 - 0.012 * np.sin(y * 7)
    teeth = 1 - 0.012 * (1 + np.sin(x * 60))
    alpha = np.clip((waist - np.abs(x)) * width / 2, 0, 1) * np.clip((teeth - np.abs(y)) * height / 2, 0, 1) * 255
    return _cut_out(colour, alpha)


_WRAPS: dict[Shape, Callable[[Product, int, int], Image.Image]] = {
    "can": _can_wrap,
    "tin": _tin_wrap,
    "jar": _jar_wrap,
    "tub": _tub_wrap,
}
_GLOSS: dict[Shape, float] = {"can": 0.75, "glass": 0.7, "tub": 0.25, "tin": 0.4, "jar": 0.6}
