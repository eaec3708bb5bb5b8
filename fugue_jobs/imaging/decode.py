"""Decodes photos: opens them by their header, then decodes on demand, whole or at a reduced scale.

Photos are decoded only here. Pillow's messages are never passed on: they may quote bytes of a photo.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from PIL import ExifTags, Image

from cropline.core.failures import PhotoFailure
from fugue_jobs.imaging.canvas import Canvas
from fugue_jobs.imaging.damage import Damage
from fugue_jobs.imaging.geometry import swaps_sides
from fugue_jobs.imaging.headers import Limits, check_header, check_size, is_lossless
from fugue_jobs.imaging.jpeg_damage import is_suspect, judge_jpeg
from fugue_jobs.imaging.meaning import Meaning, meaning_of
from fugue_jobs.imaging.png import Header, judge_png, read_png
from fugue_jobs.imaging.png_depth import pillow_going_on, read_low
from fugue_jobs.imaging.regions import Decoded, decode_regions
from fugue_jobs.imaging.watched_decode import can_be_watched, load_watched
from fugue_jobs.imaging.webp_damage import check_webp

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
_REFUSED = frozenset(["corrupt", "failed", "tables"])  # reasons of the optional decoder that need a walk
_TILE_WIDTH, _TILE_LENGTH = 322, 323
# EXIF orientation -> what turns the stored picture upright.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(slots=True)
class Photo:
    """A photo whose header was read and allowed. load() decodes its pixels, as often as it is called."""

    kind: str
    data: bytes = field(repr=False)
    image: ImageFile
    stored_width: int
    stored_height: int
    flags: tuple[str, ...]
    orientation: int = 1
    scale: int = 0  # the image's pixels are decoded at 1/scale; 0: not decoded yet
    decoder: str | None = None  # regions, or pillow; for a JPEG with the reason: "pillow: progressive"
    regions: Decoded = field(default_factory=Decoded)  # its bands, when only parts of the photo were decoded
    damage: Damage | None = None  # as far as the last load needed it
    meaning: Meaning = field(default_factory=Meaning)
    low: Image.Image | None = None  # the lower bytes of 16-bit samples; the image has the upper ones

    @property
    def pixels(self) -> int:
        return self.stored_width * self.stored_height

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) px of the upright photo at full scale."""
        if swaps_sides(self.orientation):
            return self.stored_height, self.stored_width
        return self.stored_width, self.stored_height

    @property
    def can_scale(self) -> bool:
        """Whether it decodes at 1/2, 1/4 and 1/8 too, with a known orientation: JPEGs in RGB or grey."""
        if self.kind != "JPEG" or self.image.mode not in ("RGB", "L") or len(self.image.tile) != 1:
            return False
        return not is_lossless(self.data)

    def load(
        self, canvas: Canvas | None = None, scale: int = 1, wanted: Sequence[tuple[int, int, int, int]] = ()
    ) -> None:
        """Decode at 1/scale, into the canvas if there is one. Raise PhotoFailure corrupt_picture.

        It discards the pixels of an earlier load. A scale beyond 1 needs ``can_scale``. ``wanted``: the
        rectangles to crop, in stored pixels at 1/scale; of a JPEG perhaps only these are decoded.
        """
        self.regions, self.damage = Decoded(), None
        if self.scale:
            self._open(self.data, scale)
        elif scale > 1:
            self._reduce(scale)
        if self.kind == "JPEG":
            self._load_jpeg(canvas, scale, wanted)
        elif self.kind == "PNG":
            self._load_png()
        else:
            self.decoder = "pillow"
            _guarded(self.image.load)
        if not self.scale:
            self._read_meaning()
        if not self.scale and self.kind != "JPEG":
            # A PNG may have its EXIF after its pixels.
            self.read_orientation()
            # The TIFF plugin turns the picture upright while it loads.
            self.stored_width, self.stored_height = self.image.size
        self.scale = scale

    def crop(self, edges: tuple[int, int, int, int]) -> Image.Image:
        """Return these stored pixels at the decoded scale. Valid until the next decode into the same canvas."""
        if self.regions.bands:
            return self.regions.crop(edges)
        # Not Image.crop: the memory may be a canvas, larger than the photo.
        return self.image._new(self.image.im.crop(edges))

    @property
    def notes(self) -> tuple[str, ...]:
        """The flags of its crops."""
        return self.flags if self.damage is None else (*self.flags, self.damage.flag)

    def _open(self, data: bytes, scale: int) -> None:
        self.image = _opened(self.kind, data)
        if scale > 1:
            self._reduce(scale)

    def _reduce(self, scale: int) -> None:
        self.image.draft(None, (self.stored_width // scale, self.stored_height // scale))

    def _load_jpeg(self, canvas: Canvas | None, scale: int, wanted: Sequence[tuple[int, int, int, int]]) -> None:
        """Decode by the optional decoder if possible, else by Pillow, which fills damaged pixels without an error."""
        below = scale * max((edges[3] for edges in wanted), default=0)
        suspect = is_suspect(self.data)
        if suspect:
            self.damage = judge_jpeg(self.data, self.stored_height, below)
        if self.damage is None and self._load_regions(canvas, scale, wanted):
            return
        reason = self.regions.reason
        self.decoder = f"pillow: {reason}"
        if not suspect and reason not in _REFUSED and can_be_watched(self.data):
            if self._load_whole(canvas, watched=True):
                return
            self._open(self.data, scale)
        if not suspect:
            self.damage = judge_jpeg(self.data, self.stored_height, below)
        if self.damage is not None:
            self.decoder = "pillow: damaged"
            if self.damage.covers(self.stored_height):
                return  # no row is usable
            self._open(self.damage.data, scale)
        self._load_whole(canvas, watched=False)

    def _load_png(self) -> None:
        """Decode after a check of the checksums. Missing rows become zeros, as in browsers."""
        self.decoder = "pillow"
        found = read_png(self.data)
        if found is None:
            _guarded(self.image.load)
            return
        self.damage = judge_png(self.data, found.header, pixels_too=False)
        failure = self._failure_of_png(found.header)
        if self.damage is None and (failure or _ends_blank(self.image)):
            self.damage = judge_png(self.data, found.header, pixels_too=True)
            if self.damage is not None and failure:
                self._open(self.data, 1)
                failure = self._failure_of_png(found.header)
        if failure:
            raise failure
        if found.header.depth == 16:
            self.low = _guarded(lambda: read_low(_opened("PNG", self.data), going_on=self.damage is not None))

    def _read_meaning(self) -> None:
        profile = self.image.info.get("icc_profile")
        icc = profile if isinstance(profile, bytes) else None
        png = read_png(self.data) if self.kind == "PNG" else None
        self.meaning = Meaning(icc) if png is None else meaning_of(png, icc)

    def _failure_of_png(self, header: Header) -> PhotoFailure | None:
        """Return why Pillow cannot decode it. Pillow is not tried when no row is usable."""
        if self.damage is not None and self.damage.covers(header.height):
            return None
        try:
            with pillow_going_on(self.damage is not None):
                _guarded(self.image.load)
        except PhotoFailure as failure:
            return failure
        return None

    def crop_low(self, edges: tuple[int, int, int, int]) -> Image.Image | None:
        """Return the lower bytes of these pixels' samples, for 16 bits and more than one channel."""
        return None if self.low is None else self.low.crop(edges)

    def _load_whole(self, canvas: Canvas | None, *, watched: bool) -> bool:
        """Decode the whole photo. Return whether it ended well; always True if not watched."""
        if canvas is not None:
            canvas.lend(self.image)
        if watched:
            return _guarded(lambda: load_watched(self.image, self.data))
        _guarded(self.image.load)
        return True

    def _load_regions(self, canvas: Canvas | None, scale: int, wanted: Sequence[tuple[int, int, int, int]]) -> bool:
        """Return whether the optional decoder decoded everything wanted."""
        memory = bytearray if canvas is None else canvas.room
        self.regions = decode_regions(self.image, self.data, wanted, scale, memory)
        self.decoder = "regions"
        return self.regions.reason is None

    def read_orientation(self) -> None:
        """Read the orientation from EXIF, as far as it is loaded."""
        self.orientation, readable = _orientation(self.image)
        if not readable:
            self.flags += ("exif_ignored",)


def open_photo(data: bytes, limits: Limits) -> Photo:
    """Read the header and check it against the limits; nothing is decoded.

    Raise PhotoFailure: not_a_picture, format_refused, picture_too_large, too_many_scans, corrupt_picture,
    damaged_pixels.
    """
    kind = check_header(data, limits)
    if kind == "WEBP":
        check_webp(data)
    with _pillow_bound_to(limits.max_pixels):
        image = _opened(kind, data)
    check_size(*image.size, limits)
    if kind == "TIFF":
        _check_tile(image, limits)
        # Its plugin turns the picture by getexif(), see _exif.
        image.info.pop("xmp", None)
    # Not n_frames: for a GIF it walks through all frames.
    animated = kind != "TIFF" and _guarded(lambda: getattr(image, "is_animated", False))
    photo = Photo(kind, data, image, *image.size, flags=("first_frame",) if animated else ())
    if kind == "JPEG":
        photo.read_orientation()
    return photo


@contextmanager
def _pillow_bound_to(pixels: int) -> Iterator[None]:
    """Limit the pixels that a plugin may allocate while it opens a file, as a GIF's does for a first frame larger than
    its screen. Pillow checks this limit first, and refuses more than twice as many pixels.
    """
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, -(-pixels // 2)
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _ends_blank(image: Image.Image) -> bool:
    """Return whether the last two rows are zeros: in an interlaced picture one of them may be of another pass."""
    row = image.crop((0, max(0, image.height - 2), image.width, image.height))
    return not any(row.tobytes())


def _check_tile(image: ImageFile, limits: Limits) -> None:
    """Check the size of a tile: a decoder allocates a whole tile, even if the picture is smaller."""
    tags = getattr(image, "tag_v2", {})
    width, height = _guarded(lambda: (int(tags.get(_TILE_WIDTH, 0)), int(tags.get(_TILE_LENGTH, 0))))
    check_size(width, height, limits)


def _opened(kind: str, data: bytes) -> ImageFile:
    # Not Image.open: it tries other formats and warns by its own limits.
    factory = _plugin(kind)
    image: ImageFile = _guarded(lambda: factory(io.BytesIO(data), ""))
    # One decoder call for the whole file blocks other threads once instead of forty times.
    image.decodermaxblock = max(len(data), image.decodermaxblock)
    return image


def _plugin(kind: str) -> Callable[..., Any]:
    if kind == "HEIC":
        try:
            plugin: Callable[..., Any] = import_module("pillow_heif").HeifImageFile
        except ImportError:
            raise PhotoFailure("format_refused", "HEIC needs cropline[heic] on the machine that decodes") from None
        return plugin
    import_module(f"PIL.{_PLUGINS[kind]}")
    return Image.OPEN[kind][0]


def _orientation(image: Image.Image) -> tuple[int, bool]:
    """Return (EXIF orientation 1..8, whether the EXIF block could be read). Unreadable EXIF turns nothing."""
    try:
        value = _exif(image).get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 - EXIF is hostile input; its parser raises anything
        return 1, False
    return (value, True) if value in UPRIGHT else (1, True)


def _exif(image: Image.Image) -> Image.Exif:
    """Return EXIF alone. Pillow's getexif() also reads XMP's orientation, which may be outdated."""
    exif = Image.Exif()
    block = image.info.get("exif")
    text = image.info.get("Raw profile type exif")
    if isinstance(block, bytes):
        exif.load(block)
    elif isinstance(text, str):
        exif.load(bytes.fromhex("".join(text.split("\n")[3:])))
    return exif


def _guarded(step: Callable[[], _T]) -> _T:
    """Run a step of Pillow on hostile bytes. Any exception means that the picture cannot be decoded."""
    try:
        return step()
    except MemoryError:
        raise
    except Image.DecompressionBombError:
        raise PhotoFailure("picture_too_large", "a part of it exceeds the limit of pixels") from None
    except Exception as error:  # noqa: BLE001 - decoders raise anything from SyntaxError to struct.error
        raise PhotoFailure("corrupt_picture", f"cannot be decoded: {type(error).__name__}") from None
