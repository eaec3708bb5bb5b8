"""The image that a function gets: a copy of the crop, made when the function first reads or changes its pixels."""

from __future__ import annotations

import sys
from typing import Any

from PIL import Image

# References to an image that only settle() holds: its list, its loop variable, the argument of getrefcount.
_OURS = 3


class Lent(Image.Image):
    """A copy of an image. The pixels are copied when they are first asked for.

    A function may draw on it: other profiles may share the crop.
    """

    _shared = False

    def __init__(self, image: Image.Image) -> None:
        super().__init__()
        self.im = image.im
        self._mode, self._size, self.info = image.mode, image.size, dict(image.info)
        self._shared = True

    @property
    def im(self) -> Any:
        """All of Pillow reaches the pixels through here."""
        if self._shared:
            self.im = super().im.copy()
        return super().im

    @im.setter
    def im(self, pixels: Any) -> None:
        self._im = pixels
        self._shared = False

    def close(self) -> None:
        """Return the pixels."""
        super().close()
        self._shared = False

    def settle(self) -> None:
        """Copy the pixels now, unless they are copied already."""
        if self._shared:
            self.load()

    def __eq__(self, other: object) -> bool:
        # Pillow compares the classes first.
        return self.copy() == (other.copy() if isinstance(other, Lent) else other)


def settle(images: list[Lent]) -> None:
    """Copy the pixels of each image that the function still holds: the next photo will overwrite the shared ones."""
    for image in images:
        if sys.getrefcount(image) > _OURS:
            image.settle()
