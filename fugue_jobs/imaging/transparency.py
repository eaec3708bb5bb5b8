"""Transparent colours, and 16-bit samples to 8 bits: on the samples as stored, before any conversion."""

from __future__ import annotations

from functools import reduce

from PIL import Image, ImageChops, ImageMath

_MOST_BITS = 8


def mask(crop: Image.Image, colour: tuple[int, ...], depth: int, low: Image.Image | None) -> Image.Image:
    """Return the alpha of a grey or RGB crop: 0 where all samples equal the colour (of ``depth`` bits), else 255."""
    if crop.mode.startswith("I;16"):
        others: Image.Image = ImageMath.lambda_eval(lambda args: args["crop"] != colour[0], crop=crop.convert("I"))
        return others.convert("L").point([0] + [255] * 255)
    if depth > _MOST_BITS and low is not None:
        parts = [*_equal(crop, [value >> 8 for value in colour]), *_equal(low, [value & 255 for value in colour])]
    else:
        # Pillow spreads samples of fewer bits over 0..255.
        parts = _equal(crop, [value * 255 // ((1 << min(depth, _MOST_BITS)) - 1) for value in colour])
    return ImageChops.invert(reduce(ImageChops.darker, parts))


def _equal(image: Image.Image, levels: list[int]) -> list[Image.Image]:
    """Return per channel: 255 where it has this level, else 0."""
    channels = [image.convert("L")] if image.mode == "1" else image.split()
    return [
        channel.point([255 if value == level else 0 for value in range(256)])
        for channel, level in zip(channels, levels, strict=True)
    ]


def rounded(high: Image.Image, low: Image.Image) -> Image.Image:
    """Return 16-bit samples as 8 bits: value / 257, rounded. ``high`` and ``low`` are their bytes.

    256 high + low = 257 high + (low - high): one level more or less where low - high exceeds half of 257.
    """
    steps = [1 if value > 128 else 0 for value in range(256)] * len(high.getbands())
    more, less = ImageChops.subtract(low, high).point(steps), ImageChops.subtract(high, low).point(steps)
    return ImageChops.subtract(ImageChops.add(high, more), less)
