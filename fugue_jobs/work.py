"""What travels between the transformer and its crop processes: an image's work in, the outcome of each crop out.

Belongs here: plain picklable tuples and nothing that is heavy to import, since every crop process loads this module.
Does not: Arrow rows (crop_images.py makes them) or any decision about a picture.
"""

from typing import NamedTuple

from cropline.core.failures import PhotoFailure

MAX_DETAIL = 200

# By another name: CropOutcome has a field bytes.
Encoded = bytes


class Box(NamedTuple):
    """A box as it came: 0..1 or pixels, see ImageWork.coordinates. None or NaN where it was unreadable."""

    box_id: str | None
    xmin: float | None
    ymin: float | None
    xmax: float | None
    ymax: float | None
    label: str | None = None


class Order(NamedTuple):
    """One profile to cut every box by, as it stood when the batch was claimed."""

    profile: str
    fingerprint: str
    recipe: str
    only: frozenset[int] | None = None  # boxes to cut; None: all

    def wants(self, box_index: int) -> bool:
        """Whether this box is to be cut."""
        return self.only is None or box_index in self.only


class ImageWork(NamedTuple):
    """One photo with all of its boxes and profiles: fetched once, decoded once.

    Of a frame's row ``source`` is empty; ``image_id`` then becomes the sha256 of the image's bytes.
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
    # What packs tell of the photo beside each crop.
    version: str | None = None
    captured_at: str | None = None
    store_id: str | None = None
    camera_id: str | None = None
    declared: tuple[int | None, int | None] = (None, None)  # width and height, px, as the API has it
    # An image that is not at a URL: its bytes, or a path below the folder that was named.
    data: bytes | None = None
    path: str | None = None
    rows: tuple[bytes, ...] = ()  # what a function is told of each box beside the rest, pickled
    singly: bool = False  # functions get one crop at a time: one of several ended its process

    @property
    def crops(self) -> int:
        """How many rows this image must end as."""
        return sum(len(self.boxes) if order.only is None else len(order.only) for order in self.orders)


class CropOutcome(NamedTuple):
    """How one box ended for one profile. The fields are the columns of schemas.CROPS with the same names."""

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
    luminance: float | None = None
    sharpness: float | None = None
    flags: str | None = None
    shard: str | None = None
    offset: int | None = None
    data: Encoded | None = None  # the crop itself, where it is handed back instead of stored
    values: dict[str, object] | None = None  # what functions gave, by column


class ImageOutcome(NamedTuple):
    """How one photo ended: a CropOutcome for each box and profile, and what is known of the photo (None: never seen)."""

    crops: list[CropOutcome]
    width: int | None = None
    height: int | None = None
    sha256: str | None = None
    bytes: int | None = None
    decoder: str | None = None
    phash: str | None = None


def failed(order: int, box_index: int, failure: PhotoFailure) -> CropOutcome:
    """The outcome of a crop that ends with this failure."""
    return CropOutcome(
        order,
        box_index,
        "failed",
        failure.code,
        failure.detail[:MAX_DETAIL],
        failure.retry_after_s,
    )


def failed_photo(work: ImageWork, failure: PhotoFailure) -> ImageOutcome:
    """A photo that cannot be used: each of its boxes fails, for each profile, with the photo's reason."""
    return ImageOutcome(
        [
            failed(number, box, failure)
            for number, order in enumerate(work.orders)
            for box in range(len(work.boxes))
            if order.wants(box)
        ]
    )
