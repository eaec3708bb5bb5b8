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
from fugue_jobs.imaging.geometry import Edges, Region, to_stored, to_upright
from fugue_jobs.imaging.headers import Limits
from fugue_jobs.imaging.lossless import DECODER, REENCODED, Bits, open_bits
from fugue_jobs.imaging.meaning import Meaning
from fugue_jobs.imaging.passes import Places, Placing, passes
from fugue_jobs.work import CropOutcome, ImageWork, failed


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
    sample: Image.Image | None = None
    unfinished: Unfinished | None = None


class Unfinished(NamedTuple):
    """A crop that must go through its profile's steps before ``finish``."""

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
    """Decode the photo and yield a crop for each box and profile. Call on_progress before each box.

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
        for index in range(len(work.boxes)):
            on_progress()
            flags = (*photo.notes, "duplicate_box_id") if work.boxes[index].box_id in repeated else photo.notes
            seen: _Seen = {}
            for number in numbers:
                if not work.orders[number].wants(index) or (number, index) in copied:
                    continue
                recipe = recipes[number]
                if isinstance(recipe, PhotoFailure):
                    yield Cut(failed(number, index, recipe), None)
                    continue
                try:
                    yield _cut_one(photo, places, recipe, (number, index), flags, seen)
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
    width, height = photo.upright_size
    wanted = [
        to_stored(region, width, height, photo.orientation)
        for _, recipe in lossless
        for region in (places.regions(recipe) if photo.kind == "JPEG" else ())
    ]
    bits = open_bits(photo, wanted)
    if bits is None:
        return
    photo.decoder = DECODER
    for index in range(len(work.boxes)):
        on_progress()
        flags = (*photo.flags, "duplicate_box_id") if work.boxes[index].box_id in repeated else photo.flags
        for number, recipe in lossless:
            if not work.orders[number].wants(index):
                continue
            try:
                piece = _copy_one(places, recipe, (number, index), flags, bits)
            except PhotoFailure as failure:
                piece = Cut(failed(number, index, failure), None)
            if piece is not None:
                yield piece


def _copy_one(
    places: Places, recipe: Recipe, position: tuple[int, int], flags: tuple[str, ...], bits: Bits
) -> Cut | None:
    region, outcome, notes = _placed(places, recipe, position, flags)
    if outcome.reason is not None:
        return Cut(outcome, None)
    copied = bits.copy(region, recipe)
    if copied is None:
        return None
    place = copied.region
    outcome = outcome._replace(
        status="written",
        bytes=len(copied.data),
        sha256=sha256(copied.data),
        width=place.width,
        height=place.height,
        format=recipe.format,
        box_left=region.left - place.left,
        box_top=region.top - place.top,
        luminance=measure.luminance(copied.sample),
        sharpness=copied.sharpness,
        flags=_join((*notes, copied.note) if copied.note else notes),
    )
    return Cut(outcome, copied.data, copied.sample)


def _wants_more(work: ImageWork, number: int, done: set[tuple[int, int]]) -> bool:
    """Return whether this order has boxes that are not done."""
    order = work.orders[number]
    return any(order.wants(index) and (number, index) not in done for index in range(len(work.boxes)))


def _placed(
    places: Places, recipe: Recipe, position: tuple[int, int], flags: tuple[str, ...]
) -> tuple[Region, CropOutcome, tuple[str, ...]]:
    """Return a box's region, its outcome, and its flags. The outcome has a reason when the box is not cut."""
    placement, fitted = places.of(recipe, position[1])
    region = placement.region
    notes = (*flags, *([fitted] if fitted else []), *(["clipped"] if placement.clipped else []))
    outcome = CropOutcome(*position, "skipped", **region._asdict())
    if min(region.width, region.height) < recipe.min_side:
        detail = f"{region.width} x {region.height} px, the profile wants {recipe.min_side}"
        outcome = outcome._replace(reason="below_min_side", detail=detail, flags=_join(notes))
    return region, outcome, notes


def _cut_one(
    photo: Photo,
    places: Places,
    recipe: Recipe,
    position: tuple[int, int],
    flags: tuple[str, ...],
    seen: _Seen,
) -> Cut:
    region, outcome, notes = _placed(places, recipe, position, flags)
    if outcome.reason is not None:
        return Cut(outcome, None)
    if recipe.copies_bits:
        notes = (*notes, REENCODED)
    key = (region, recipe.keeps_icc)
    if key not in seen:
        seen[key] = _piece(photo, region, keep_icc=recipe.keeps_icc)
    crop = _shrunk(seen[key], shrunk_size(region.width, region.height, recipe.max_side))
    notes = (*notes, crop.note) if crop.note else notes
    if recipe.steps:
        return Cut(outcome, None, measure.sample(crop.image), Unfinished(crop, recipe, notes))
    return _finished(outcome, Unfinished(crop, recipe, notes))


def finish(piece: Cut, image: Image.Image | None) -> Cut:
    """Encode a crop after its steps: ``image`` where they returned one. Raise PhotoFailure."""
    unfinished, sample = piece.unfinished, piece.sample
    assert unfinished is not None
    if image is not None:
        sample = None
        # A user's image may have any mode and any metadata.
        coloured = to_rgb(image.copy(), Meaning(), keep_icc=False)
        unfinished = unfinished._replace(crop=unfinished.crop._replace(image=coloured.image))
    return _finished(piece.outcome, unfinished, sample)


def _finished(outcome: CropOutcome, unfinished: Unfinished, sample: Image.Image | None = None) -> Cut:
    """``sample``: of the crop's pixels, if there is one already."""
    crop, recipe, notes = unfinished
    data, image = encode(crop, recipe)
    if sample is None or image is not crop.image:
        sample = measure.sample(image)
    return Cut(_written(outcome, data, image, sample, recipe, notes), data, sample)


def _shrunk(piece: _Piece, size: tuple[int, int]) -> Coloured:
    crop = piece.coloured
    if piece.within is None and size == crop.image.size:
        return crop
    return crop._replace(image=crop.image.resize(size, Image.Resampling.LANCZOS, box=piece.within))


def _written(
    outcome: CropOutcome,
    data: bytes,
    image: Image.Image,
    sample: Image.Image,
    recipe: Recipe,
    notes: tuple[str, ...],
) -> CropOutcome:
    return outcome._replace(
        status="written",
        bytes=len(data),
        sha256=sha256(data),
        width=image.width,
        height=image.height,
        format=recipe.format,
        luminance=measure.luminance(sample),
        sharpness=measure.sharpness(image),
        flags=_join(notes),
    )


def _piece(photo: Photo, region: Region, *, keep_icc: bool) -> _Piece:
    width, height = photo.upright_size
    stored = to_stored(region, width, height, photo.orientation)
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
    width, height = photo.upright_size
    return [
        _outer(to_stored(region, width, height, photo.orientation), scale)
        for recipe in recipes
        if isinstance(recipe, Recipe)
        for region in places.regions(recipe)
    ]


def _outer(stored: Region, scale: int) -> tuple[int, int, int, int]:
    """Return the pixels of a decode at 1/scale that the region touches."""
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
