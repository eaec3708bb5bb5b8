"""The damaged rows of a photo, which must not be cut. Decoders fill missing pixels without an error.

docs/decisions/0024-damage.md
"""

from __future__ import annotations

from typing import NamedTuple

DAMAGED_PHOTO = "damaged_photo"
"""The flag of a crop from an undamaged part of a damaged photo."""
END_DAMAGED = "end_damaged"
"""The flag of a crop of a photo with all of its pixels, but with a wrong end."""
ZEROS = 32
"""A run of zero bytes that coded data does not have by chance; a blank wall may have it."""


class Damage(NamedTuple):
    """The damage of a photo. Rows are in pixels of the stored picture at full scale."""

    rows: tuple[tuple[int, int], ...]  # (first, end), end exclusive; in order
    data: bytes  # to decode instead of the photo: the same bytes with a proper end
    detail: str
    reach: int = 0  # rows next to damaged ones whose colours are interpolated from them, at any scale

    @property
    def flag(self) -> str:
        """The flag of written crops."""
        return DAMAGED_PHOTO if self.rows else END_DAMAGED

    def spoils(self, top: int, bottom: int, scale: int) -> bool:
        """Return whether a crop of rows top to bottom, decoded at 1/scale, has damaged pixels."""
        reach = self.reach * scale
        return any(first - reach < bottom and top < end + reach for first, end in self.rows)

    def covers(self, height: int) -> bool:
        """Return whether no row of the photo is usable."""
        return self.rows == ((0, height),)


def all_damaged(height: int, data: bytes, why: str) -> Damage:
    """Return damage of all rows, for damage without a known place."""
    return Damage(((0, height),), data, why)
