"""Any picture mode to 8-bit RGB or RGBA: alpha, palettes, 16 bits, CMYK and ICC profiles. Crops, never whole photos.

Every conversion here is pixel by pixel, so converting the crop gives what cropping the converted photo would.
Belongs here: colour. Does not: geometry (geometry.py) or files (encode.py).
"""

import io
import struct
from functools import lru_cache
from typing import NamedTuple

from PIL import Image, ImageCms

from cropline.failures import PhotoFailure

_ALPHA_MODES = frozenset(["LA", "La", "PA", "RGBA", "RGBa"])
_SIXTEEN_BITS = frozenset(["I;16", "I;16L", "I;16B", "I;16N"])
# lcms's name of a profile's colour space -> the modes whose pixels it describes.
_SPACES = {"RGB ": ("RGB", "RGBA"), "CMYK": ("CMYK",), "GRAY": ("L",)}
# Profiles of presses come to 3 MB. With keep_icc a photo's goes into each of its crops, and the last ones are remembered.
_MOST_ICC = 4_000_000


class Coloured(NamedTuple):
    """A crop in RGB or RGBA; ``icc`` is the profile its numbers are in (None: sRGB); ``note`` a flag for its row."""

    image: Image.Image
    icc: bytes | None
    note: str | None


def to_rgb(crop: Image.Image, icc: bytes | None, keep_icc: bool) -> Coloured:
    """The crop as RGB, or RGBA where the photo has transparency, rid of all metadata. May change ``crop`` itself.

    With keep_icc an RGB photo keeps its numbers and its profile; else they are converted to sRGB.
    Raises PhotoFailure mode_unsupported for modes without a meaning in RGB (32-bit and floating-point TIFFs).
    """
    coloured = _coloured(_eight_bits(crop), icc, keep_icc)
    # Pillow would write comments, resolution and transparency from here into the crop's file.
    coloured.image.info = {}
    return coloured


def _coloured(plain: Image.Image, icc: bytes | None, keep_icc: bool) -> Coloured:
    if icc is None:
        return Coloured(_without_profile(plain), None, None)
    if len(icc) > _MOST_ICC:
        return Coloured(_without_profile(plain), None, "icc_ignored")
    try:
        space, is_srgb = _describe(icc)
        if (plain.mode == "CMYK") != (space == "CMYK"):
            raise ValueError("the profile describes other colours than the pixels are in")
        if space == "RGB " and (keep_icc or is_srgb):
            return Coloured(_without_profile(plain), icc if keep_icc else None, None)
        return Coloured(_through_profile(plain, icc, space), None, None)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, struct.error):
        # A broken profile says nothing about the pixels: they are taken as the numbers stand.
        return Coloured(_without_profile(plain), None, "icc_ignored")


def flatten(image: Image.Image, matte: str) -> Image.Image:
    """RGBA laid on the matte (``#rrggbb``), as RGB; RGB stays as it is."""
    if image.mode == "RGB":
        return image
    ground = Image.new("RGBA", image.size, matte)
    return Image.alpha_composite(ground, image).convert("RGB")


def _eight_bits(crop: Image.Image) -> Image.Image:
    if crop.mode in _SIXTEEN_BITS:
        # Scaled to 0..255, rounded: Pillow's own conversion clips everything above 255 to white.
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
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    return profile.profile.xcolor_space, "sRGB" in ImageCms.getProfileDescription(profile)


@lru_cache(maxsize=8)
def _transform(icc: bytes, source: str, target: str) -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(icc)), ImageCms.createProfile("sRGB"), source, target
    )
