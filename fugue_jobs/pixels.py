"""One photo's bytes to its crops: opened once, decoded once, each box cut, coloured, encoded. The engine's heart.

Belongs here: the order of these steps for one photo. Does not: what is allowed (headers.py), where a box lies
(geometry.py), colour (colour.py), files (encode.py), or anything about processes, networks and stores.
Pillow's own messages never leave: they may quote the bytes of a photo.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from PIL import ExifTags, Image

from cropline.failures import PhotoFailure
from fugue_jobs import measure
from fugue_jobs.canvas import Canvas
from fugue_jobs.colour import Coloured, to_rgb
from fugue_jobs.encode import Recipe, encode, read_recipe, sha256, shrunk_size
from fugue_jobs.geometry import Placement, Region, place, swaps_sides, to_stored
from fugue_jobs.headers import Limits, check_header, check_size
from fugue_jobs.work import CropOutcome, ImageWork, failed

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_T = TypeVar("_T")
_PLUGINS = {
    "JPEG": "JpegImagePlugin",
    "PNG": "PngImagePlugin",
    "WEBP": "WebPImagePlugin",
    "TIFF": "TiffImagePlugin",
    "BMP": "BmpImagePlugin",
    "GIF": "GifImagePlugin",
    "AVIF": "AvifImagePlugin",
}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class CropLimits(Limits, Protocol):
    """What settings.PictureLimits says, as far as cutting needs it."""

    @property
    def max_boxes(self) -> int: ...
    @property
    def min_iou(self) -> float: ...


@dataclass(slots=True)
class Photo:
    """A photo whose header was read and found allowed; its pixels are decoded by load()."""

    image: ImageFile
    stored_width: int
    stored_height: int
    flags: tuple[str, ...]
    orientation: int = 1

    @property
    def pixels(self) -> int:
        return self.stored_width * self.stored_height

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) px once turned upright."""
        if swaps_sides(self.orientation):
            return self.stored_height, self.stored_width
        return self.stored_width, self.stored_height

    def load(self, canvas: Canvas | None = None) -> None:
        """Decode, into the canvas when there is one. Raises PhotoFailure corrupt_picture."""
        if canvas is not None:
            canvas.lend(self.image)
        _guarded(self.image.load)
        self.orientation, readable = _orientation(self.image)
        if not readable:
            self.flags += ("exif_ignored",)
        # TIFF's plugin turns the picture upright by itself while it loads.
        self.stored_width, self.stored_height = self.image.size


class Cut(NamedTuple):
    """One crop: its outcome, and its file when there is one to be stored."""

    outcome: CropOutcome
    data: bytes | None


def open_photo(data: bytes, limits: Limits) -> Photo:
    """Read the header and check it against the limits; nothing is decoded.

    Raises PhotoFailure: not_a_picture, format_refused, picture_too_large, too_many_scans, corrupt_picture.
    """
    kind = check_header(data, limits)
    import_module(f"PIL.{_PLUGINS[kind]}")
    # Not Image.open: it tries other formats and warns by limits of its own.
    factory = Image.OPEN[kind][0]
    image: ImageFile = _guarded(lambda: factory(io.BytesIO(data), ""))
    check_size(*image.size, limits)
    # One call into the decoder for the whole file, so that other threads are held up once and not forty times.
    image.decodermaxblock = max(len(data), image.decodermaxblock)
    # Not n_frames: a GIF's is found by walking through all of them.
    animated = kind != "TIFF" and _guarded(lambda: getattr(image, "is_animated", False))
    return Photo(image, *image.size, flags=("first_frame",) if animated else ())


def cut(photo: Photo, work: ImageWork, limits: CropLimits, on_progress: Callable[[], None]) -> Iterator[Cut]:
    """Every crop of a loaded photo, one for each box and profile, boxes outermost. Calls on_progress before each box.

    A box that cannot be cut is an outcome with its reason, never an exception.
    """
    recipes = [_recipe_or_failure(order.recipe) for order in work.orders]
    repeated = _repeated_ids(work)
    for index in range(len(work.boxes)):
        on_progress()
        flags = (*photo.flags, "duplicate_box_id") if work.boxes[index].box_id in repeated else photo.flags
        seen: dict[tuple[Region, bool], Coloured] = {}
        for number, recipe in enumerate(recipes):
            if isinstance(recipe, PhotoFailure):
                yield Cut(failed(number, index, recipe), None)
                continue
            try:
                yield _cut_one(photo, work, limits, recipe, (number, index), flags, seen)
            except PhotoFailure as failure:
                yield Cut(failed(number, index, failure), None)


def _cut_one(
    photo: Photo,
    work: ImageWork,
    limits: CropLimits,
    recipe: Recipe,
    position: tuple[int, int],
    flags: tuple[str, ...],
    seen: dict[tuple[Region, bool], Coloured],
) -> Cut:
    placement = _place(photo, work, limits, recipe, position[1])
    region = placement.region
    notes = (*flags, "clipped") if placement.clipped else flags
    outcome = CropOutcome(*position, "skipped", **region._asdict())
    if min(region.width, region.height) < recipe.min_side:
        detail = f"{region.width} x {region.height} px, the profile wants {recipe.min_side}"
        return Cut(outcome._replace(reason="below_min_side", detail=detail, flags=_join(notes)), None)
    key = (region, recipe.keeps_icc)
    if key not in seen:
        seen[key] = _coloured(photo, region, keep_icc=recipe.keeps_icc)
    crop = seen[key]
    size = shrunk_size(region.width, region.height, recipe.max_side)
    if size != crop.image.size:
        crop = crop._replace(image=crop.image.resize(size, Image.Resampling.LANCZOS))
    data, image = encode(crop, recipe)
    return Cut(_written(outcome, data, image, recipe, (*notes, crop.note) if crop.note else notes), data)


def _written(
    outcome: CropOutcome, data: bytes, image: Image.Image, recipe: Recipe, notes: tuple[str, ...]
) -> CropOutcome:
    return outcome._replace(
        status="written",
        bytes=len(data),
        sha256=sha256(data),
        width=image.width,
        height=image.height,
        format=recipe.format,
        luminance=measure.luminance(image),
        sharpness=measure.sharpness(image),
        flags=_join(notes),
    )


def _place(photo: Photo, work: ImageWork, limits: CropLimits, recipe: Recipe, index: int) -> Placement:
    width, height = photo.upright_size
    return place(
        work.boxes[index],
        width,
        height,
        coordinates=work.coordinates,
        turned=photo.orientation if work.orientation == "stored" else 1,
        padding=recipe.padding,
        min_iou=limits.min_iou,
    )


def _coloured(photo: Photo, region: Region, *, keep_icc: bool) -> Coloured:
    width, height = photo.upright_size
    stored = to_stored(region, width, height, photo.orientation)
    # Not Image.crop: the memory may be a canvas, larger than the photo.
    crop = photo.image._new(photo.image.im.crop(stored))
    icc = photo.image.info.get("icc_profile")
    coloured = to_rgb(crop, icc if isinstance(icc, bytes) else None, keep_icc)
    turn = _UPRIGHT.get(photo.orientation)
    # Turning the crop and not the photo: the same pixels for a fraction of the work.
    return coloured if turn is None else coloured._replace(image=coloured.image.transpose(turn))


def _orientation(image: Image.Image) -> tuple[int, bool]:
    """(EXIF orientation 1..8, whether the EXIF block could be read). What cannot be read turns nothing."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 - EXIF is hostile input; its parser raises whatever the bytes lead it to
        return 1, False
    return (value, True) if value in _UPRIGHT else (1, True)


def _guarded(step: Callable[[], _T]) -> _T:
    """Run one of Pillow's steps over hostile bytes: whatever it raises means that the picture cannot be decoded."""
    try:
        return step()
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise anything from SyntaxError to struct.error
        raise PhotoFailure("corrupt_picture", f"cannot be decoded: {type(error).__name__}") from None


def _recipe_or_failure(text: str) -> Recipe | PhotoFailure:
    try:
        return read_recipe(text)
    except PhotoFailure as failure:
        return failure


def _repeated_ids(work: ImageWork) -> set[str | None]:
    counted = Counter(box.box_id for box in work.boxes)
    return {box_id for box_id, count in counted.items() if count > 1}


def _join(notes: tuple[str, ...]) -> str | None:
    return ",".join(notes) or None
