"""Turns one photo's bytes into crops: each box is cut, colour-converted, shrunk and encoded."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from PIL import Image

from cropline.core.failures import PhotoFailure
from fugue_jobs.imaging import measure
from fugue_jobs.imaging.canvas import Canvas
from fugue_jobs.imaging.colour import Coloured, to_rgb
from fugue_jobs.imaging.decode import UPRIGHT, Photo
from fugue_jobs.imaging.encode import Recipe, encode, read_recipe, sha256, shrunk_size
from fugue_jobs.imaging.geometry import Edges, Region, to_upright
from fugue_jobs.imaging.headers import Limits
from fugue_jobs.imaging.lossless import DECODER, REENCODED, Bits, open_bits
from fugue_jobs.imaging.meaning import Meaning
from fugue_jobs.imaging.passes import Placed, Places, Placing, passes
from fugue_jobs.work import CropOutcome, ImageWork, Order, failed


class CropLimits(Limits, Protocol):
    """The fields of settings.PictureLimits that cutting needs."""

    @property
    def max_boxes(self) -> int: ...
    @property
    def min_iou(self) -> float: ...
    @property
    def size_mismatch(self) -> str: ...


class Cut(NamedTuple):
    """One crop: its outcome, its file if it is to be stored, and then a sample of it (measure.py)."""

    outcome: CropOutcome
    data: bytes | None
    sample: measure.Sample | None = None
    unfinished: Unfinished | None = None


class Unfinished(NamedTuple):
    """A crop that is not encoded yet: it may have to go through its profile's steps. ``position``: order and box."""

    position: tuple[int, int]
    region: Region
    crop: Coloured
    recipe: Recipe
    notes: tuple[str, ...]


class _Piece(NamedTuple):
    """A box's upright pixels. ``within``: the part that is the box, when they come from a reduced decode."""

    coloured: Coloured
    within: Edges | None


# Pieces of the current box, shared by its profiles.
_Seen = dict[tuple[Region, bool], _Piece]


def cut(
    photo: Photo, work: ImageWork, limits: CropLimits, on_progress: Callable[[], None], canvas: Canvas | None = None
) -> Iterator[Cut]:
    """Decode the photo and yield a crop for each box and profile. Call on_progress before each crop.

    Profiles of one scale share a decode (passes.py); within it boxes are outermost. A box that cannot be cut
    becomes an outcome with its reason. Raise PhotoFailure corrupt_picture when the photo cannot be decoded.
    """
    recipes = [_recipe_or_failure(order.recipe) for order in work.orders]
    repeated = _repeated_ids(work)
    places = Places(photo, work, Placing(limits.min_iou, limits.size_mismatch))
    copied: set[tuple[int, int]] = set()
    for piece in _copies(photo, work, recipes, places, repeated, on_progress):
        copied.add((piece.outcome.order, piece.outcome.box_index))
        yield piece
    for scale, numbers in passes(photo, work, recipes, limits.size_mismatch):
        numbers = [number for number in numbers if _wants_more(work, number, copied)]
        if not numbers:
            continue
        on_progress()
        photo.load(canvas, scale, _wanted(photo, places, [recipes[number] for number in numbers], scale))
        once = photo.notes
        for index, box in enumerate(work.boxes):
            flags = (*once, "duplicate_box_id") if box.box_id in repeated else once
            seen: _Seen = {}
            for number in numbers:
                if not work.orders[number].wants(index) or (number, index) in copied:
                    continue
                on_progress()
                recipe = recipes[number]
                if isinstance(recipe, PhotoFailure):
                    yield Cut(failed(number, index, recipe), None)
                    continue
                try:
                    yield _cut_one(photo, places.of(recipe)[index], recipe, (number, index), flags, seen)
                except PhotoFailure as failure:
                    yield Cut(failed(number, index, failure), None)


def _copies(
    photo: Photo,
    work: ImageWork,
    recipes: list[Recipe | PhotoFailure],
    places: Places,
    repeated: set[str],
    on_progress: Callable[[], None],
) -> Iterator[Cut]:
    """Yield the crops of lossless profiles that can be cut out of the photo's bits."""
    lossless = [
        (number, recipe)
        for number, recipe in enumerate(recipes)
        if isinstance(recipe, Recipe) and recipe.copies_bits and _wants_more(work, number, set())
    ]
    if not lossless:
        return
    wanted = [
        placed.stored for _, recipe in lossless for placed in (places.wanted(recipe) if photo.kind == "JPEG" else ())
    ]
    bits = open_bits(photo, wanted)
    if bits is None:
        return
    photo.decoder = DECODER
    for number, recipe in lossless:
        bits.measure_ahead(_to_copy(work.orders[number], places.of(recipe), recipe), recipe)
    for index, box in enumerate(work.boxes):
        on_progress()
        flags = (*photo.flags, "duplicate_box_id") if box.box_id in repeated else photo.flags
        for number, recipe in lossless:
            if not work.orders[number].wants(index):
                continue
            piece = _copy_one(places.of(recipe)[index], recipe, (number, index), flags, bits)
            if piece is not None:
                yield piece


def _to_copy(order: Order, places: list[Placed | PhotoFailure], recipe: Recipe) -> Iterator[Region]:
    """Yield the regions of the stored picture that become crops for this order."""
    for index, placed in enumerate(places):
        if isinstance(placed, Placed) and order.wants(index) and not _is_small(placed.region, recipe):
            yield placed.stored


def _copy_one(
    placed: Placed | PhotoFailure, recipe: Recipe, position: tuple[int, int], flags: tuple[str, ...], bits: Bits
) -> Cut | None:
    if isinstance(placed, PhotoFailure):
        return Cut(failed(*position, placed), None)
    region, notes = placed.region, flags + placed.notes
    if _is_small(region, recipe):
        return _skipped(position, region, recipe, notes)
    copied = bits.copy(placed.stored, recipe)
    if copied is None:
        return None
    if copied.note:
        notes = (*notes, copied.note)
    outer, found = copied.region, copied.measures
    size, place = (outer.width, outer.height), (region.left - outer.left, region.top - outer.top)
    outcome = _written(position, region, recipe, copied.data, size, found, notes, place)
    return Cut(outcome, copied.data, found.sample)


def _wants_more(work: ImageWork, number: int, done: set[tuple[int, int]]) -> bool:
    """Return whether this order has boxes that are not done."""
    order = work.orders[number]
    return any(order.wants(index) and (number, index) not in done for index in range(len(work.boxes)))


def _cut_one(
    photo: Photo,
    placed: Placed | PhotoFailure,
    recipe: Recipe,
    position: tuple[int, int],
    flags: tuple[str, ...],
    seen: _Seen,
) -> Cut:
    if isinstance(placed, PhotoFailure):
        return Cut(failed(*position, placed), None)
    region, notes = placed.region, flags + placed.notes
    if _is_small(region, recipe):
        return _skipped(position, region, recipe, notes)
    if recipe.copies_bits:
        notes = (*notes, REENCODED)
    key = (region, recipe.keeps_icc)
    piece = seen.get(key)
    if piece is None:
        piece = seen[key] = _piece(photo, placed.stored, keep_icc=recipe.keeps_icc)
    crop = _shrunk(piece, shrunk_size(region.width, region.height, recipe.max_side))
    if crop.note:
        notes = (*notes, crop.note)
    unfinished = Unfinished(position, region, crop, recipe, notes)
    if recipe.steps:
        sample = measure.measures(crop.image).sample
        return Cut(CropOutcome(*position, "skipped", **region._asdict()), None, sample, unfinished)
    return _finished(unfinished)


def _is_small(region: Region, recipe: Recipe) -> bool:
    return min(region.width, region.height) < recipe.min_side


def _skipped(position: tuple[int, int], region: Region, recipe: Recipe, notes: tuple[str, ...]) -> Cut:
    detail = f"{region.width} x {region.height} px, the profile wants {recipe.min_side}"
    flags = _join(notes)
    return Cut(CropOutcome(*position, "skipped", "below_min_side", detail, flags=flags, **region._asdict()), None)


def finish(piece: Cut, image: Image.Image | None) -> Cut:
    """Encode a crop after its steps: ``image`` where they returned one. Raise PhotoFailure."""
    unfinished = piece.unfinished
    assert unfinished is not None
    if image is not None:
        # A user's image may have any mode and any metadata.
        coloured = to_rgb(image.copy(), Meaning(), keep_icc=False)
        unfinished = unfinished._replace(crop=unfinished.crop._replace(image=coloured.image))
    return _finished(unfinished)


def _finished(unfinished: Unfinished) -> Cut:
    position, region, crop, recipe, notes = unfinished
    data, image = encode(crop, recipe)
    found = measure.measures(image)
    return Cut(_written(position, region, recipe, data, image.size, found, notes), data, found.sample)


def _shrunk(piece: _Piece, size: tuple[int, int]) -> Coloured:
    crop = piece.coloured
    if piece.within is None and size == crop.image.size:
        return crop
    return crop._replace(image=crop.image.resize(size, Image.Resampling.LANCZOS, box=piece.within))


def _written(
    position: tuple[int, int],
    region: Region,
    recipe: Recipe,
    data: bytes,
    size: tuple[int, int],
    found: measure.Measures,
    notes: tuple[str, ...],
    place: tuple[int | None, int | None] = (None, None),
) -> CropOutcome:
    left, top, right, bottom = region
    return CropOutcome(
        *position,
        "written",
        bytes=len(data),
        sha256=sha256(data),
        width=size[0],
        height=size[1],
        format=recipe.format,
        left=left,
        top=top,
        right=right,
        bottom=bottom,
        box_left=place[0],
        box_top=place[1],
        luminance=found.luminance,
        sharpness=found.sharpness,
        flags=_join(notes),
    )


def _piece(photo: Photo, stored: Region, *, keep_icc: bool) -> _Piece:
    if photo.damage is not None and photo.damage.spoils(stored.top, stored.bottom, photo.scale):
        raise PhotoFailure("damaged_pixels", photo.damage.detail)
    whole = _outer(stored, photo.scale)
    crop = photo.crop(whole)
    coloured = to_rgb(crop, photo.meaning, keep_icc, photo.crop_low(whole))
    turn = UPRIGHT.get(photo.orientation)
    if turn is not None:
        # Turning the crop instead of the photo yields the same pixels for a fraction of the work.
        coloured = coloured._replace(image=coloured.image.transpose(turn))
    if photo.scale == 1:
        return _Piece(coloured, None)
    left, top, right, bottom = (edge / photo.scale for edge in stored)
    inner = left - whole[0], top - whole[1], right - whole[0], bottom - whole[1]
    return _Piece(coloured, to_upright(inner, *coloured.image.size, photo.orientation))


def _wanted(
    photo: Photo, places: Places, recipes: list[Recipe | PhotoFailure], scale: int
) -> list[tuple[int, int, int, int]]:
    """Return a JPEG's rectangles to crop, in stored pixels at 1/scale. Other formats have no known orientation yet."""
    if photo.kind != "JPEG":
        return []
    return [
        _outer(placed.stored, scale)
        for recipe in recipes
        if isinstance(recipe, Recipe)
        for placed in places.wanted(recipe)
    ]


def _outer(stored: Region, scale: int) -> tuple[int, int, int, int]:
    """Return the pixels of a decode at 1/scale that the region touches."""
    if scale == 1:
        return stored
    left, top, right, bottom = stored
    return left // scale, top // scale, math.ceil(right / scale), math.ceil(bottom / scale)


def _recipe_or_failure(text: str) -> Recipe | PhotoFailure:
    try:
        return read_recipe(text)
    except PhotoFailure as failure:
        return failure


def _repeated_ids(work: ImageWork) -> set[str]:
    """Return ids that several boxes have. A box without an id is identified by its position."""
    counted = Counter(box.box_id for box in work.boxes if box.box_id is not None)
    return {box_id for box_id, count in counted.items() if count > 1}


def _join(notes: tuple[str, ...]) -> str | None:
    return ",".join(notes) or None
