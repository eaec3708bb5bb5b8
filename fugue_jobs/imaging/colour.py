"""Converts crops of any mode to 8-bit RGB or RGBA: alpha, palettes, 16 bits, CMYK and ICC profiles.

Every conversion works per pixel, so converting the crop equals cropping the converted photo.
"""

import io
import struct
from functools import lru_cache
from typing import NamedTuple

from PIL import Image, ImageChops, ImageCms

from cropline.core.failures import PhotoFailure
from fugue_jobs.imaging import transparency
from fugue_jobs.imaging.meaning import Meaning

_ALPHA_MODES = frozenset(["LA", "La", "PA", "RGBA", "RGBa"])
_SIXTEEN_BITS = frozenset(["I;16", "I;16L", "I;16B", "I;16N"])
# lcms's name of a profile's colour space -> the modes whose pixels it describes.
_SPACES = {"RGB ": ("RGB", "RGBA"), "CMYK": ("CMYK",), "GRAY": ("L",)}
# Profiles of printing presses reach 3 MB. With keep_icc the profile is in every crop, and recent ones are cached.
_MOST_ICC = 4_000_000


# All greys, where a curve shows, and a coarse cube of all colours.
_GRID = [(level, level, level) for level in range(256)] + [
    (red, green, blue) for red in range(0, 256, 51) for green in range(0, 256, 51) for blue in range(0, 256, 51)
]


class Coloured(NamedTuple):
    """A crop in RGB or RGBA. ``icc``: the profile of its values (None: sRGB). ``note``: a flag for its row."""

    image: Image.Image
    icc: bytes | None
    note: str | None


def to_rgb(crop: Image.Image, meaning: Meaning, keep_icc: bool, low: Image.Image | None = None) -> Coloured:
    """Return the crop as RGB, or as RGBA where the photo has transparency, without metadata. May change ``crop``.

    With keep_icc an RGB photo keeps its values and its profile; otherwise they are converted to sRGB.
    ``low``: the lower bytes of 16-bit samples; ``crop`` has the upper ones.
    Raise PhotoFailure mode_unsupported for modes without a meaning in RGB (32-bit and floating-point TIFFs).
    """
    alpha = None
    if meaning.transparent is not None:
        alpha = transparency.mask(crop, meaning.transparent, meaning.depth, low)
        # Pillow handles it for 8 bits only.
        crop.info.pop("transparency", None)
    plain = _eight_bits(crop, low)
    if plain.mode == "LA":
        # A grey profile has no alpha.
        plain, alpha = plain.getchannel("L"), plain.getchannel("A")
    coloured = _coloured(plain, meaning, keep_icc)
    if alpha is not None:
        coloured.image.putalpha(alpha)
    # Pillow would write comments, resolution and transparency from here into the crop's file.
    coloured.image.info = {}
    return coloured if coloured.note or meaning.flag is None else coloured._replace(note=meaning.flag)


def _coloured(plain: Image.Image, meaning: Meaning, keep_icc: bool) -> Coloured:
    icc = meaning.icc
    if icc is None:
        opaque = _without_profile(plain)
        return Coloured(opaque if meaning.lut is None else _by_levels(opaque, meaning.lut), None, None)
    if len(icc) > _MOST_ICC:
        return Coloured(_without_profile(plain), None, "icc_ignored")
    try:
        space, is_srgb = _describe(icc)
        if (plain.mode == "CMYK") != (space == "CMYK"):
            raise ValueError("the profile describes other colours than the pixels are in")
        if space == "RGB " and ((keep_icc and meaning.kept) or is_srgb):
            return Coloured(_without_profile(plain), icc if keep_icc and meaning.kept else None, None)
        return Coloured(_through_profile(plain, icc, space), None, None)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, struct.error):
        # A broken profile says nothing about the pixels: use their values unchanged.
        return Coloured(_without_profile(plain), None, "icc_ignored")


class Untouched(NamedTuple):
    """How a crop that keeps the photo's values says its colours: by this profile (None: sRGB)."""

    icc: bytes | None
    note: str | None = None


def untouched(mode: str, icc: bytes | None, keep_icc: bool) -> Untouched | None:
    """Return how crops of a photo of this mode (RGB or L) keep its values; None when they must be converted."""
    if icc is None:
        return Untouched(None)
    ignored = Untouched(None, "icc_ignored")
    if len(icc) > _MOST_ICC:
        return ignored
    try:
        space, is_srgb = _describe(icc)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, struct.error):
        return ignored
    if mode in _SPACES.get(space, ()):
        return Untouched(icc) if keep_icc else Untouched(None) if is_srgb else None
    # Greys can be converted by an RGB profile, but a grey file cannot carry it.
    if mode == "L" and space == "RGB ":
        return Untouched(None) if is_srgb else None
    return ignored


def flatten(image: Image.Image, matte: str) -> Image.Image:
    """Return RGBA on the matte (``#rrggbb``), as RGB; RGB is returned unchanged."""
    if image.mode == "RGB":
        return image
    ground = Image.new("RGBA", image.size, matte)
    return Image.alpha_composite(ground, image).convert("RGB")


def _by_levels(image: Image.Image, lut: tuple[int, ...]) -> Image.Image:
    """Map each of the three colour channels by this table; alpha is unchanged."""
    return image.point([*lut * 3, *(range(256) if image.mode == "RGBA" else ())])


def _eight_bits(crop: Image.Image, low: Image.Image | None) -> Image.Image:
    if low is not None:
        return transparency.rounded(crop, low)
    if crop.mode in _SIXTEEN_BITS:
        # Scaled to 0..255 and rounded: Pillow's own conversion clips everything above 255 to white.
        return crop.convert("I").point(lambda value: value * (255 / 65535) + 0.5).convert("L")
    if crop.mode in ("I", "F", "LAB", "HSV"):
        raise PhotoFailure("mode_unsupported", f"pixels of mode {crop.mode}")
    return crop


def _without_profile(crop: Image.Image) -> Image.Image:
    if crop.mode in ("RGB", "RGBA"):
        return crop
    return crop.convert("RGBA" if _has_alpha(crop) else "RGB")


def _has_alpha(crop: Image.Image) -> bool:
    return crop.mode in _ALPHA_MODES or "transparency" in crop.info


def _through_profile(crop: Image.Image, icc: bytes, space: str) -> Image.Image:
    modes = _SPACES.get(space, ())
    source = crop if crop.mode in modes else _without_profile(crop)
    if source.mode not in modes:
        raise ValueError(f"the profile describes {space!r}, the pixels are {crop.mode}")
    target = "RGBA" if source.mode == "RGBA" else "RGB"
    return _transform(icc, source.mode, target).apply(source)


@lru_cache(maxsize=8)
def _describe(icc: bytes) -> tuple[str, bool]:
    space = ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile.xcolor_space
    return space, space == "RGB " and _changes_nothing(icc)


def _changes_nothing(icc: bytes) -> bool:
    """Return whether the profile acts as sRGB: each colour of a grid changes by at most one level."""
    grid = Image.new("RGB", (len(_GRID), 1))
    grid.putdata(_GRID)
    found = _transform(icc, "RGB", "RGB").apply(grid)
    return max(ImageChops.difference(grid, found).tobytes()) <= 1


@lru_cache(maxsize=8)
def _transform(icc: bytes, source: str, target: str) -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(icc)), ImageCms.createProfile("sRGB"), source, target
    )
