"""Stores, cameras and captures: what is listed, and how it changes. Nothing is drawn or served here.

Everything depends on the seed and on the calls since, in order. The world has its own clock, so a run in
another year lists the same times.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from random import Random

from demo.layout import Fixture, Layout, capture, planogram
from demo.products import Aisle

_DAWN = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)

_STORES = (
    ("Marktplatz", "Basel", "north", "city"),
    ("Seefeld", "Zurich", "north", "city"),
    ("Rhonepark", "Geneva", "west", "hyper"),
    ("Bahnhof", "Bern", "centre", "express"),
    ("Altstadt", "Lucerne", "centre", "super"),
    ("Lido", "Lugano", "south", "super"),
    ("Rosenberg", "St Gallen", "east", "super"),
    ("Kornhaus", "Winterthur", "north", "hyper"),
    ("Ouchy", "Lausanne", "west", "city"),
    ("Castello", "Bellinzona", "south", "express"),
    ("Aarepark", "Thun", "centre", "hyper"),
    ("Plessur", "Chur", "east", "express"),
)


@dataclass(frozen=True, slots=True)
class Model:
    """A camera model: its sensor, its mounting, and the EXIF orientation that results."""

    make: str
    name: str
    firmware: str
    aspect: float
    megapixels: float
    orientation: int


# Door cameras are mounted on their side and hung ones upside down, as their EXIF says. The aspect is the upright one.
_DOOR_LEFT = Model("Larkvision", "C4 Door", "4.2.1", 3 / 4, 1.0, 6)
_DOOR_RIGHT = Model("Larkvision", "C4 Door R", "4.2.1", 3 / 4, 1.0, 8)
_RAIL = Model("Larkvision", "S2 Rail", "2.0.7", 3 / 2, 1.12, 1)
_HUNG = Model("Petrel", "Eye 9", "11.3", 4 / 3, 0.92, 3)

_PLACES: tuple[tuple[Fixture, Aisle, Model], ...] = (
    ("cooler", "drinks", _DOOR_LEFT),
    ("shelf", "pantry", _RAIL),
    ("cooler", "dairy", _DOOR_RIGHT),
    ("shelf", "snacks", _HUNG),
    ("cooler", "drinks", _DOOR_RIGHT),
    ("shelf", "dairy", _RAIL),
)


@dataclass(frozen=True, slots=True)
class Store:
    store_id: str
    name: str
    city: str
    region: str
    format: str


@dataclass(frozen=True, slots=True)
class Camera:
    camera_id: str
    store_id: str
    model: Model
    fixture: Fixture
    aisle: Aisle


@dataclass(frozen=True, slots=True)
class Box:
    """A product facing, in 0..1 of the upright picture."""

    box_id: str
    xmin: float
    ymin: float
    xmax: float
    ymax: float
    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Photo:
    """One capture. ``revision`` counts changes of its picture; ``moved`` counts changes of each box."""

    image_id: str
    camera: Camera
    captured_at: datetime
    updated_at: datetime
    emptied: float
    door_open_ms: int
    revision: int = 0
    moved: tuple[tuple[str, int], ...] = ()


class World:
    """The dataset. Not thread-safe: its owner holds a lock."""

    def __init__(self, seed: int, stores: int, photos: int, boxes: int | None = None) -> None:
        self.seed = seed
        self._boxes = boxes
        self.stores = tuple(Store(f"store-{n + 1:02d}", *_STORES[n]) for n in range(stores))
        self.cameras = tuple(_cameras(self.stores))
        self._dice = Random(f"{seed}:captures")
        self._clock = _DAWN
        self._pending: list[Photo] = []
        # Every camera has a burst before one has a second, so that a short demo shows many places.
        self._round: list[Camera] = []
        self._photos: dict[str, Photo] = {}
        self._keep(self._take(photos))

    def photos(self) -> list[Photo]:
        """Return every capture, in listing order."""
        return sorted(self._photos.values(), key=lambda photo: (photo.updated_at, photo.image_id))

    def photo(self, image_id: str) -> Photo | None:
        return self._photos.get(image_id)

    def advance(self, photos: int, late: int = 0) -> tuple[list[Photo], list[Photo]]:
        """Let time pass until this many more captures exist; ``late`` of them are older than the newest known.

        Return the punctual and the late ones.
        """
        newest = self._newest()
        taken = self._take(photos)
        delayed = [_delayed(photo, newest, self._dice) for photo in taken[:late]]
        punctual = [_punctual(photo, newest, place) for place, photo in enumerate(taken[late:], start=1)]
        self._keep([*delayed, *punctual])
        return punctual, delayed

    def change_box(self, image_id: str, box_id: str) -> Photo:
        """Move one box a little; the picture and its etag stay the same. Raise KeyError for an unknown box."""
        photo = self._photos[image_id]
        if box_id not in {box.box_id for box in self.boxes(photo)}:
            raise KeyError(box_id)
        moved = dict(photo.moved)
        moved[box_id] = moved.get(box_id, 0) + 1
        return self._update(replace(photo, moved=tuple(sorted(moved.items()))))

    def change_picture(self, image_id: str) -> Photo:
        """Replace one photo's picture by another of the same scene; its boxes stay. Raise KeyError."""
        photo = self._photos[image_id]
        return self._update(replace(photo, revision=photo.revision + 1))

    def layout(self, photo: Photo) -> Layout:
        """Return what the photo shows."""
        return _layout(self.seed, photo.camera, photo.image_id, photo.emptied)

    def boxes(self, photo: Photo) -> list[Box]:
        """Return the photo's boxes, in shelf order; at most ``boxes`` of them."""
        dice = Random(f"{self.seed}:{photo.image_id}:scores")
        layout = self.layout(photo)
        moved = dict(photo.moved)
        boxes = []
        for number, facing in enumerate(islice(layout.seen(), self._boxes), start=1):
            box_id = f"b{number:02d}"
            left, right = (
                max(0.0, facing.left) / layout.aspect,
                min(layout.aspect, facing.right) / layout.aspect,
            )
            # Every change takes a thirtieth of the rest, so a box never vanishes.
            left += (right - left) * (1 - (29 / 30) ** moved.get(box_id, 0))
            top, bottom = max(0.0, facing.top), min(1.0, facing.bottom)
            corners = (round(left, 6), round(top, 6), round(right, 6), round(bottom, 6))
            boxes.append(Box(box_id, *corners, facing.product.code, round(dice.uniform(0.71, 0.995), 3)))
        return boxes

    def _newest(self) -> datetime:
        return max((photo.updated_at for photo in self._photos.values()), default=_DAWN)

    def _update(self, photo: Photo) -> Photo:
        changed = replace(photo, updated_at=self._newest() + timedelta(seconds=1))
        self._keep([changed])
        return changed

    def _keep(self, photos: Iterable[Photo]) -> None:
        for photo in photos:
            self._photos[photo.image_id] = photo

    def _take(self, count: int) -> list[Photo]:
        while len(self._pending) < count:
            self._pending += self._burst()
        taken, self._pending = self._pending[:count], self._pending[count:]
        return taken

    def _burst(self) -> list[Photo]:
        """Return a burst: several photos of one camera within seconds."""
        dice = self._dice
        if not self._round:
            self._round = dice.sample(self.cameras, len(self.cameras))
        camera = self._round.pop()
        self._clock = max(self._clock, self._newest()) + timedelta(milliseconds=dice.randint(40_000, 400_000))
        at, emptied = self._clock, dice.uniform(0.02, 0.12)
        burst = []
        for _ in range(dice.randint(3, 7) if camera.fixture == "cooler" else dice.randint(1, 3)):
            uploaded = at + timedelta(milliseconds=dice.randint(2_000, 20_000))
            door_open_ms = dice.randint(1_500, 9_000) if camera.fixture == "cooler" else 0
            burst.append(Photo(_image_id(camera, at), camera, at, uploaded, emptied, door_open_ms))
            at += timedelta(milliseconds=dice.randint(700, 2_600))
            emptied += dice.uniform(0.0, 0.03)
        return burst


def _cameras(stores: tuple[Store, ...]) -> Iterable[Camera]:
    for index, store in enumerate(stores):
        for place in range(2):
            fixture, aisle, model = _PLACES[(index * 2 + place) % len(_PLACES)]
            yield Camera(f"cam-{index + 1:02d}{place + 1}", store.store_id, model, fixture, aisle)


def _image_id(camera: Camera, at: datetime) -> str:
    return f"{camera.camera_id}-{at:%Y%m%dT%H%M%S}{at.microsecond // 1000:03d}"


def _punctual(photo: Photo, newest: datetime, place: int) -> Photo:
    # Otherwise the rest of a burst that an earlier call cut short would arrive late, which only ``late`` ones should.
    return replace(photo, updated_at=max(photo.updated_at, newest + timedelta(milliseconds=place)))


def _delayed(photo: Photo, newest: datetime, dice: Random) -> Photo:
    updated = newest - timedelta(milliseconds=dice.randint(20_000, 240_000))
    captured = updated - timedelta(milliseconds=dice.randint(2_000, 20_000))
    image_id = _image_id(photo.camera, captured)
    return replace(photo, image_id=image_id, captured_at=captured, updated_at=updated)


@lru_cache(maxsize=256)
def _planogram(seed: int, camera: Camera) -> Layout:
    return planogram(Random(f"{seed}:{camera.camera_id}"), camera.fixture, camera.aisle, camera.model.aspect)


@lru_cache(maxsize=1024)
def _layout(seed: int, camera: Camera, image_id: str, emptied: float) -> Layout:
    return capture(Random(f"{seed}:{image_id}:layout"), _planogram(seed, camera), emptied)
