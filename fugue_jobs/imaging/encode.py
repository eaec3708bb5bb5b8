"""Encodes a crop's pixels as a file, by a recipe: size limits, matte, format, quality.

Recipes come from the claim's JSON, not from settings, so a changed setting never affects claimed work.
"""

import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from PIL import Image, ImageFile

from cropline.core.failures import PhotoFailure
from fugue_jobs.imaging.colour import Coloured, flatten
from fugue_jobs.imaging.encode_cost import encode_s

_PILLOW_FORMATS = {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "avif": "AVIF"}

# Bytes of an optimised JPEG, more than any has: its header takes 1,000, random pixels of quality 100 in 4:4:4 take 3.3 each,
# with those that fill up the last blocks.
_MOST_PER_PIXEL, _MOST_OF_HEADER = 6, 65_536
# What profiles that copy bits have: see cropline.config.profile.
_NOTHING_CHOSEN = (None, 90, "4:2:0", "#ffffff", None, ())


@dataclass(frozen=True, slots=True)
class Step:
    """A function that gets every crop before it is encoded. Its fields are those of cropline.config.steps.Step."""

    use: str
    version: str
    batch: int
    timeout_s: float
    memory_mb: int
    columns: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A profile as it was claimed. Its fields are those of settings.Profile."""

    format: str
    quality: int
    lossless: bool
    subsampling: str
    padding: float
    min_side: int
    max_side: int | None
    matte: str
    colour: str
    effort: int | None = None
    lossless_upright: bool = False
    steps: tuple[Step, ...] = ()

    @property
    def extension(self) -> str:
        return "jpg" if self.format == "jpeg" else self.format

    @property
    def copies_bits(self) -> bool:
        """Whether crops are to be cut out of the photo's bits, without decoding and encoding.

        Profiles with these choices too are refused now. Earlier they had no meaning, so work of them may still be queued.
        """
        chosen = (self.max_side, self.quality, self.subsampling, self.matte, self.effort, self.steps)
        return self.lossless and self.format == "jpeg" and chosen == _NOTHING_CHOSEN

    @property
    def keeps_icc(self) -> bool:
        return self.colour == "keep_icc"


@lru_cache(maxsize=256)
def read_recipe(text: str) -> Recipe:
    """Return the recipe of a claim's JSON. Raise PhotoFailure recipe_unreadable for another version's JSON."""
    try:
        fields = json.loads(text)
        steps = [Step(**step | {"columns": tuple(step["columns"].items())}) for step in fields.get("steps", ())]
        recipe = Recipe(**fields | {"steps": tuple(steps)})
        _ = _PILLOW_FORMATS[recipe.format]
    except (ValueError, TypeError, KeyError) as error:
        raise PhotoFailure("recipe_unreadable", f"the claimed recipe cannot be read: {type(error).__name__}") from None
    return recipe


def longest_s(recipe: Recipe, pixels: int) -> float:
    """Return the CPU seconds of encoding a crop of the whole of a photo of so many pixels."""
    if recipe.max_side is not None:
        pixels = min(pixels, recipe.max_side**2)
    return encode_s(recipe.format, recipe.effort, lossless=recipe.lossless, pixels=pixels)


def copies_bits(text: str) -> bool:
    """Return whether crops of this claim's JSON are copied bits. One that cannot be read has no crops."""
    try:
        return read_recipe(text).copies_bits
    except PhotoFailure:
        return False


def shrunk_size(width: int, height: int, max_side: int | None) -> tuple[int, int]:
    """Return (width, height) px with the longer side shrunk to max_side. At least one pixel, never enlarged."""
    longer = max(width, height)
    if max_side is None or longer <= max_side:
        return width, height
    scale = max_side / longer
    return max(1, round(width * scale)), max(1, round(height * scale))


def encode(crop: Coloured, recipe: Recipe) -> tuple[bytes, Image.Image]:
    """Return the crop's file and the encoded image. The file has no metadata except a kept ICC profile.

    Raise PhotoFailure crop_not_encodable when the format cannot hold the crop (WebP: 16,383 px per side).
    """
    image = flatten(crop.image, recipe.matte) if recipe.format == "jpeg" else crop.image
    out = io.BytesIO()
    try:
        with _pillow_with_room(_room(image, recipe, crop.icc)):
            image.save(out, _PILLOW_FORMATS[recipe.format], **_options(recipe, crop.icc))
    except (OSError, ValueError) as error:
        detail = f"{image.width} x {image.height} px as {recipe.format}: {type(error).__name__}"
        raise PhotoFailure("crop_not_encodable", detail) from None
    return out.getvalue(), image


def _room(image: Image.Image, recipe: Recipe, icc: bytes | None) -> int:
    """Return the bytes of a buffer that this crop's file certainly fits into; 0 where it may take several."""
    if recipe.format != "jpeg" or not recipe.effort:
        return 0
    pixels = (image.width + -image.width % 8) * (image.height + -image.height % 8)
    return _MOST_OF_HEADER + len(icc or b"") + _MOST_PER_PIXEL * pixels


@contextmanager
def _pillow_with_room(least: int) -> Iterator[None]:
    """Give Pillow's encoders a buffer of at least so many bytes.

    An optimised JPEG must fit into one. Pillow takes one or two bytes a pixel, and fails on noise in 4:4:4, which has more.
    """
    before, ImageFile.MAXBLOCK = ImageFile.MAXBLOCK, max(ImageFile.MAXBLOCK, least)
    try:
        yield
    finally:
        ImageFile.MAXBLOCK = before


def _options(recipe: Recipe, icc: bytes | None) -> dict[str, Any]:
    """Return Pillow's options. Efforts that no recipe names were chosen in docs/decisions/0030-effort.md."""
    options: dict[str, Any] = {} if icc is None else {"icc_profile": icc}
    if recipe.format == "jpeg":
        return options | {"quality": recipe.quality, "subsampling": recipe.subsampling, "optimize": recipe.effort == 1}
    if recipe.format == "png":
        return options | {"compress_level": _effort(recipe, 1)}
    if recipe.format == "webp":
        method = _effort(recipe, 1 if recipe.lossless else 4)
        return options | {"quality": recipe.quality, "lossless": recipe.lossless, "method": method}
    # One thread: the bytes must not depend on how many cores a worker has.
    return options | {"quality": recipe.quality, "speed": 10 - _effort(recipe, 4), "max_threads": 1}


def _effort(recipe: Recipe, default: int) -> int:
    return default if recipe.effort is None else recipe.effort


def sha256(data: bytes) -> str:
    """Return the SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()
