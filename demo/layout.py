"""Places products: the planogram of a camera, and what one capture shows of it.

Lengths are in units of the picture's height, y downwards, so that a layout can be painted at any size. Boxes
depend on the layout alone; nothing is drawn here.
"""

from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from demo.products import Aisle, Product, of_aisle

Fixture = Literal["cooler", "shelf"]

MIN_BOXES, MAX_BOXES = 10, 60

# A facing with a smaller visible share is drawn but has no box: no detector would report it.
_SEEN = 0.4
_STACKED = ("tub", "tin")


@dataclass(frozen=True, slots=True)
class Bay:
    """One shelf board and the space above it."""

    top: float
    foot: float
    rail: float


@dataclass(frozen=True, slots=True)
class Facing:
    """One placed product: its rectangle, and its turn (see packs.TURNS)."""

    product: Product
    bay: int
    group: int
    left: float
    top: float
    right: float
    bottom: float
    turn: int


@dataclass(frozen=True, slots=True)
class Layout:
    """A fixture with its products; ``gaps`` are the facings that were taken out."""

    fixture: Fixture
    aisle: Aisle
    aspect: float
    inner_left: float
    inner_right: float
    bays: tuple[Bay, ...]
    facings: tuple[Facing, ...]
    gaps: tuple[Facing, ...] = ()

    def seen(self) -> tuple[Facing, ...]:
        """The facings that get a box."""
        return tuple(facing for facing in self.facings if _visible(facing, self.aspect) >= _SEEN)


def planogram(dice: Random, fixture: Fixture, aisle: Aisle, aspect: float) -> Layout:
    """Return a full fixture, drawn again until it has enough boxes for products to be taken."""
    while True:
        layout = _fill(dice, fixture, aisle, aspect)
        if MIN_BOXES * 1.5 <= len(layout.seen()) <= MAX_BOXES - 2:
            return layout


def capture(dice: Random, full: Layout, emptied: float) -> Layout:
    """Return the fixture as one photo shows it: camera slightly moved, some products taken or pushed aside.

    ``emptied`` is the share of facings that are taken (0..0.3); at least MIN_BOXES remain.
    """
    dx, dy = dice.uniform(-0.006, 0.006), dice.uniform(-0.005, 0.005)
    spare = len(full.seen()) - MIN_BOXES
    kept: list[Facing] = []
    gaps: list[Facing] = []
    for facing in full.facings:
        taken = dice.random() < emptied and spare > 0 and not _carries(facing, full.facings)
        spare -= taken
        moved = _moved(facing, dx + dice.uniform(-0.0012, 0.0012), dy)
        turned = replace(moved, turn=dice.choice((0, 1, 1)))
        (gaps if taken else kept).append(turned)
    bays = tuple(Bay(bay.top + dy, bay.foot + dy, bay.rail) for bay in full.bays)
    left, right = full.inner_left + dx, full.inner_right + dx
    return Layout(full.fixture, full.aisle, full.aspect, left, right, bays, tuple(kept), tuple(gaps))


def _fill(dice: Random, fixture: Fixture, aisle: Aisle, aspect: float) -> Layout:
    cooler = fixture == "cooler"
    margin = 0.055 * aspect if cooler else 0.0
    left, right = margin, aspect - margin
    bays = _bays(dice, cooler)
    facings: list[Facing] = []
    for index, bay in enumerate(bays):
        facings += _row(dice, index, bay, _order(dice, aisle), (left, right) if cooler else (left - 0.08, right + 0.08))
    return Layout(fixture, aisle, aspect, left, right, bays, tuple(facings))


def _bays(dice: Random, cooler: bool) -> tuple[Bay, ...]:
    top, foot = (0.085, 0.955) if cooler else (0.0, 0.965)
    rail = 0.018 if cooler else 0.036
    weights = [dice.uniform(0.92, 1.08) for _ in range(dice.choice((3, 4, 4)) if cooler else dice.choice((3, 3, 4)))]
    bays: list[Bay] = []
    for weight in weights:
        depth = (foot - top) * weight / sum(weights)
        above = bays[-1].foot + rail if bays else top
        bays.append(Bay(above, above + depth - rail, rail))
    return tuple(bays)


def _order(dice: Random, aisle: Aisle) -> list[Product]:
    products = list(of_aisle(aisle))
    dice.shuffle(products)
    # Neighbours have similar heights, as in a planogram.
    return sorted(products[: len(products) * 2 // 3], key=lambda product: (product.tall < 0.75, dice.random()))


def _row(dice: Random, bay_index: int, bay: Bay, order: list[Product], span: tuple[float, float]) -> list[Facing]:
    room = (bay.foot - bay.top) * dice.uniform(0.84, 0.9)
    low, high = span
    at = low + dice.uniform(0.004, 0.02)
    start = dice.randrange(len(order))
    row: list[Facing] = []
    for step in range(40):
        product = order[(start + step) % len(order)]
        tall = room * product.tall
        wide = tall * product.slim
        for _ in range(dice.randint(2, 5) if product.slim < 0.5 else dice.randint(1, 3)):
            if at + wide > high:
                return row
            for level in range(_levels(product)):
                foot = bay.foot - level * tall * 0.985
                group = bay_index * 100 + step
                row.append(Facing(product, bay_index, group, at, foot - tall, at + wide, foot, 0))
            at += wide * dice.uniform(1.015, 1.05)
        at += dice.uniform(0.002, 0.012)
    return row


def _levels(product: Product) -> int:
    return min(2, int(0.99 / product.tall)) if product.shape in _STACKED else 1


def _carries(facing: Facing, all_of_them: tuple[Facing, ...]) -> bool:
    return any(one.left == facing.left and one.bay == facing.bay and one.bottom < facing.bottom for one in all_of_them)


def _moved(facing: Facing, dx: float, dy: float) -> Facing:
    return replace(
        facing, left=facing.left + dx, right=facing.right + dx, top=facing.top + dy, bottom=facing.bottom + dy
    )


def _visible(facing: Facing, aspect: float) -> float:
    across = (min(facing.right, aspect) - max(facing.left, 0.0)) / (facing.right - facing.left)
    down = (min(facing.bottom, 1.0) - max(facing.top, 0.0)) / (facing.bottom - facing.top)
    return max(0.0, across) * max(0.0, down)
