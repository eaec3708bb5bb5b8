"""Cuts boxes out of a JPEG's bits, for profiles with ``lossless``: the crop is neither decoded nor encoded.

What cannot be cut so is decoded and encoded like any crop, with the flag ``reencoded``. docs/decisions/0031-lossless-crops.md
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from cropline.core.errors import EngineError
from fugue_jobs.imaging import measure
from fugue_jobs.imaging.colour import Untouched, untouched
from fugue_jobs.imaging.decode import UPRIGHT, Photo
from fugue_jobs.imaging.geometry import Region, to_upright, turn_of
from fugue_jobs.imaging.jpeg_damage import is_suspect
from fugue_jobs.imaging.regions import extension, why_no_extension

if TYPE_CHECKING:
    from fugue_jobs.imaging.encode import Recipe

REENCODED = "reencoded"
"""The flag of a crop of a lossless profile that was decoded and encoded all the same."""
DECODER = "bits"
"""Says in the column ``decoder`` that nothing was decoded."""
_SEGMENT = 65_533  # bytes of a segment, without marker and length
_ICC = b"ICC_PROFILE\0"
_ORIENTATION = 0x0112


class Copied(NamedTuple):
    """A crop with the photo's bits. ``region``: its place in the upright photo. The sample is of its box."""

    data: bytes
    region: Region
    measures: measure.Measures
    note: str | None


class _Outer(NamedTuple):
    """What is cut for a box: ``region`` of the stored picture begins with whole MCUs. ``turning``: where its blocks are turned."""

    region: Region
    turning: Any = None


class Bits:
    """A JPEG whose MCUs are known. For one thread."""

    def __init__(self, photo: Photo, pieces: Any) -> None:
        self._photo, self._pieces = photo, pieces
        self._icc = photo.image.info.get("icc_profile")
        self._segments: dict[tuple[bytes | None, int], bytes] = {}
        self._measured: dict[tuple[Region, Region], measure.Measures] = {}

    def measure_ahead(self, boxes: Iterable[Region], recipe: Recipe) -> None:
        """Measure these regions of the stored picture before the first of them is copied.

        So it takes half as long: hashing and storing a crop leaves little of a decoder in the processor's caches.
        """
        if self._colours(recipe) is None:
            return
        for box in boxes:
            found = self._outer(box, recipe)
            # A region that cannot be measured is left to copy().
            with suppress(extension().Undecoded):
                if found is not None:
                    self._measured[found.region, box] = self._measures(found.region, box)

    def copy(self, box: Region, recipe: Recipe) -> Copied | None:
        """Return the crop of this region of the stored picture; None where it must be decoded.

        Left and top edges move out to whole MCUs, in the stored picture or, when it is turned, in the upright one.
        """
        colours = self._colours(recipe)
        outer = self._outer(box, recipe)
        if colours is None or outer is None:
            return None
        try:
            data = self._file(outer, colours.icc)
            measures = self._measured.get((outer.region, box)) or self._measures(outer.region, box)
        except extension().Undecoded:
            return None
        return Copied(data, self._place(outer), measures, colours.note)

    def _colours(self, recipe: Recipe) -> Untouched | None:
        return untouched(self._photo.image.mode, self._icc, recipe.keeps_icc)

    def _outer(self, box: Region, recipe: Recipe) -> _Outer | None:
        if self._photo.orientation == 1 or not recipe.lossless_upright:
            return _Outer(Region(*self._pieces.outer(box)))
        turning = self._pieces.turning(box, self._turn())
        return None if turning is None else _Outer(Region(*turning.rectangle), turning)

    def _file(self, outer: _Outer, icc: bytes | None) -> bytes:
        turned = self._photo.orientation if outer.turning is None else 1
        segments = self._segments.get((icc, turned))
        if segments is None:
            told = b"" if turned == 1 else _orientation_segment(turned)
            segments = self._segments[icc, turned] = told + (_icc_segments(icc) if icc else b"")
        if outer.turning is None:
            file: bytes = self._pieces.file(outer.region, segments)
        else:
            file = self._pieces.turned(outer.turning, self._turn(), segments)
        return file

    def _turn(self) -> Any:
        return extension().Turn(*turn_of(self._photo.orientation))

    def _place(self, outer: _Outer) -> Region:
        """Return the crop's place in the upright photo."""
        if self._photo.orientation == 1:
            return outer.region
        upright = to_upright(outer.region, *self._photo.upright_size, self._photo.orientation)
        place = Region(*map(int, upright))
        if outer.turning is None:
            return place
        across, down = outer.turning.size
        return Region(place.left, place.top, place.left + across, place.top + down)

    def _measures(self, outer: Region, box: Region) -> measure.Measures:
        return measure.Measures(*measure.sampled(self._sample(outer, box)), self._sharpness(outer))

    def _sample(self, outer: Region, box: Region) -> Any:
        """Return the mean luma of parts of the box, upright, from a pixel for each MCU of ``outer``, as a core image."""
        levels = self._pieces.levels(outer)
        width, height = levels.size
        across, down = self._pieces.across, self._pieces.down
        # The last MCUs may be partly outside of the photo: then their level is missing.
        edges = (
            min((box.left - outer.left) / across, width - 1),
            min((box.top - outer.top) / down, height - 1),
            min((box.right - outer.left) / across, width),
            min((box.bottom - outer.top) / down, height),
        )
        size = min(width, measure.GRID), min(height, measure.GRID)
        sample = levels.im.resize(size, Image.Resampling.BOX, edges)
        turn = UPRIGHT.get(self._photo.orientation)
        return sample if turn is None else sample.transpose(turn)

    def _sharpness(self, outer: Region) -> float:
        width, height = outer.width, outer.height
        if min(width, height) < 3:
            return 0.0
        left, top, right, bottom = measure.middle(width, height)
        squares = self._pieces.edges((outer.left + left, outer.top + top, outer.left + right, outer.top + bottom))
        return measure.sharpness(squares, width, height)


def cannot_copy() -> str | None:
    """Return why bits cannot be copied on this machine, and what to install; None where they can."""
    if hasattr(getattr(extension(), "Pieces", None), "edges"):
        return None
    why = {"not_installed": "is not installed", "not_usable": "does not fit this Pillow"}
    return (
        "a lossless jpeg needs cropline-regions (native/README.md) on every machine that cuts, and here it "
        f"{why.get(why_no_extension() or '', 'is of an earlier version')}: pip install --upgrade 'cropline[regions]'"
    )


def open_bits(photo: Photo, wanted: Sequence[Region]) -> Bits | None:
    """Return the photo's bits for these regions of the stored picture; None when it must be decoded.

    Raise EngineError on a machine without cropline-regions: a lossless profile there would mean something else.
    """
    refusal = cannot_copy()
    if refusal is not None:
        raise EngineError(refusal)
    found = extension()
    if not wanted or photo.kind != "JPEG" or not photo.can_scale or is_suspect(photo.data):
        return None
    try:
        return Bits(photo, found.Pieces(photo.data, max(region.bottom for region in wanted)))
    except found.Undecoded:
        return None


def _icc_segments(icc: bytes) -> bytes:
    room = _SEGMENT - len(_ICC) - 2
    parts = [icc[at : at + room] for at in range(0, len(icc), room)]
    return b"".join(
        _segment(0xE2, _ICC + bytes([number, len(parts)]) + part) for number, part in enumerate(parts, start=1)
    )


def _orientation_segment(orientation: int) -> bytes:
    """Return EXIF that says the orientation and nothing else."""
    entry = struct.pack("<HHIHxx", _ORIENTATION, 3, 1, orientation)
    return _segment(0xE1, b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4))


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content
