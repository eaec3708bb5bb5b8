"""Which rows of a photo are damaged. A decoder fills up what is missing and says nothing: these are the pixels not to be cut.

docs/decisions/0024-damage.md
"""

from __future__ import annotations

from typing import NamedTuple

DAMAGED_PHOTO = "damaged_photo"
"""The flag of a crop of a damaged photo, which lies where the photo is whole."""
END_DAMAGED = "end_damaged"
"""The flag of a crop of a photo all of whose pixels are there, and whose end is not as it should be."""
ZEROS = 32
"""Bytes of zeros in a row that coded data does not have by chance; an empty wall may."""


class Damage(NamedTuple):
    """What is wrong with a photo. Rows are those of the picture as stored, in pixels at full scale."""

    rows: tuple[tuple[int, int], ...]  # first, and one behind the last; in order
    data: bytes  # to be decoded instead of the photo: the same, ended as it must be
    detail: str
    reach: int = 0  # rows beside the damaged ones whose colours are interpolated from theirs, at any scale

    @property
    def flag(self) -> str:
        """Of the crops that are written."""
        return DAMAGED_PHOTO if self.rows else END_DAMAGED

    def spoils(self, top: int, bottom: int, scale: int) -> bool:
        """Whether a crop of the rows from top to bottom, decoded at 1/scale, has damaged pixels."""
        reach = self.reach * scale
        return any(first - reach < bottom and top < end + reach for first, end in self.rows)

    def covers(self, height: int) -> bool:
        """Whether nothing of the photo can be used."""
        return self.rows == ((0, height),)


def all_damaged(height: int, data: bytes, why: str) -> Damage:
    """Nobody can say where: all of it."""
    return Damage(((0, height),), data, why)
