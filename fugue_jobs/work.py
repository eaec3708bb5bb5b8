"""The data between the transformer and its crop processes: image work in, crop outcomes out.

Every crop process imports this module: it holds plain picklable tuples and imports nothing heavy.
"""

from typing import NamedTuple

from cropline.core.failures import PhotoFailure

MAX_DETAIL = 200

# An alias, because CropOutcome has a field named bytes.
Encoded = bytes


class Box(NamedTuple):
    """A box as received: 0..1 or pixels, see ImageWork.coordinates. None or NaN where it was unreadable."""

    box_id: str | None
    xmin: float | None
    ymin: float | None
    xmax: float | None
    ymax: float | None
    label: str | None = None


class Order(NamedTuple):
    """One profile to cut every box by, as it was when the batch was claimed."""

    profile: str
    fingerprint: str
    recipe: str
    only: frozenset[int] | None = None  # boxes to cut; None: all

    def wants(self, box_index: int) -> bool:
        """Return whether this box is to be cut."""
        return self.only is None or box_index in self.only


class ImageWork(NamedTuple):
    """One photo with all of its boxes and profiles: fetched once, decoded once.

    For a row of a user's frame ``source`` is empty, and ``image_id`` becomes the sha256 of the bytes.
    """

    source: str
    image_id: str
    url: str
    expected_bytes: int | None
    expected_sha256: str | None
    coordinates: str
    orientation: str
    boxes: tuple[Box, ...]
    orders: tuple[Order, ...]
    # Facts about the photo that packs store beside each crop.
    version: str | None = None
    captured_at: str | None = None
    store_id: str | None = None
    camera_id: str | None = None
    declared: tuple[int | None, int | None] = (None, None)  # width and height, px, declared by the API
    # An image without a URL: its bytes, or a path below the configured folder.
    data: bytes | None = None
    path: str | None = None
    rows: tuple[dict[str, object] | bytes, ...] = ()  # the frame's row of each box for functions: see applying.sent_row
    singly: bool = False  # call functions with one crop at a time: a call with several ended its process

    @property
    def crops(self) -> int:
        """The number of rows that this image must yield."""
        return sum(len(self.boxes) if order.only is None else len(order.only) for order in self.orders)


class CropOutcome(NamedTuple):
    """The outcome of one box for one profile. Fields have the names of the columns of schemas.CROPS."""

    order: int
    box_index: int
    status: str
    reason: str | None = None
    detail: str | None = None
    retry_after_s: int | None = None
    key: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    format: str | None = None
    left: int | None = None
    top: int | None = None
    right: int | None = None
    bottom: int | None = None
    box_left: int | None = None
    box_top: int | None = None
    luminance: float | None = None
    sharpness: float | None = None
    flags: str | None = None
    shard: str | None = None
    offset: int | None = None
    data: Encoded | None = None  # the crop's bytes, when they are returned instead of stored
    values: dict[str, object] | None = None  # what functions returned, by column


class ImageOutcome(NamedTuple):
    """The outcome of one photo: a CropOutcome per box and profile, and facts about it (None: not available)."""

    crops: list[CropOutcome]
    width: int | None = None
    height: int | None = None
    sha256: str | None = None
    bytes: int | None = None
    decoder: str | None = None
    phash: str | None = None


def failed(order: int, box_index: int, failure: PhotoFailure) -> CropOutcome:
    """Return the outcome of a crop that fails with this failure."""
    return CropOutcome(
        order,
        box_index,
        "failed",
        failure.code,
        failure.detail[:MAX_DETAIL],
        failure.retry_after_s,
    )


def failed_photo(work: ImageWork, failure: PhotoFailure) -> ImageOutcome:
    """Return the outcome of an unusable photo: every box fails for every profile, with the photo's reason."""
    return ImageOutcome(
        [
            failed(number, box, failure)
            for number, order in enumerate(work.orders)
            for box in range(len(work.boxes))
            if order.wants(box)
        ]
    )
