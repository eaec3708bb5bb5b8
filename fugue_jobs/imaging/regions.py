"""Decodes only the parts of a JPEG that boxes need, by the optional cropline-regions (native/).

Both decoders return the same pixels and fail on the same photos: any warning hands the photo to Pillow. See
docs/decisions/0009-regions.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

Edges = tuple[int, int, int, int]


class Decoded(NamedTuple):
    """The band of each wanted rectangle, or the reason why there are none."""

    bands: Mapping[Edges, Any] = MappingProxyType({})
    reason: str | None = None

    def crop(self, edges: Edges) -> Image.Image:
        """Return the pixels of a wanted rectangle: a view of the band, not a copy."""
        crop: Image.Image = self.bands[edges].image(edges)
        return crop


def decode_regions(
    image: ImageFile, data: bytes, wanted: Sequence[Edges], scale: int, memory: Callable[[int], bytearray]
) -> Decoded:
    """Decode the wanted pixels of a JPEG that Pillow has opened but not loaded. Edges are in the picture at 1/scale."""
    found, reason = _extension()
    if found is None:
        return Decoded(reason=reason)
    if image.mode not in ("RGB", "L") or len(image.tile) != 1:
        return Decoded(reason="colour_space")
    if not wanted:
        return Decoded(reason="no_boxes")
    try:
        return Decoded(dict(zip(wanted, found.decode(data, wanted, scale=scale, memory=memory), strict=True)))
    except found.Undecoded as refused:
        return Decoded(reason=str(refused.reason))


def extension() -> Any:
    """Return cropline-regions; None where it cannot be used."""
    return _extension()[0]


def why_no_extension() -> str | None:
    """Return why cropline-regions cannot be used here: not_installed, not_usable; None where it can."""
    return _extension()[1]


@cache
def _extension() -> tuple[Any, str | None]:
    """Return (the extension, None) or (None, why it is missing). Checked once per process."""
    try:
        import cropline_regions
    except ModuleNotFoundError:
        return None, "not_installed"
    except ImportError:
        # Built for another libjpeg than this Pillow's, or for another machine.
        return None, "not_usable"
    return cropline_regions, None
