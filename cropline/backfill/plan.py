"""The plan: work items in order, cut into slices of whole photos within the limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby

from cropline.backfill.choose import Row
from cropline.backfill.classify import WorkItem
from cropline.backfill.listings import Listing
from cropline.backfill.request import Limits, Order

ASSUMED_BYTES = 2_600_000  # of a photo whose size is not in the listing
_NEVER = datetime(1, 1, 1, tzinfo=UTC)


class Slice:
    """The work items of some photos, done as one batch. Slice and Plan are not dataclasses: Prefect copies those."""

    def __init__(self, work_items: Sequence[WorkItem]) -> None:
        self.work_items = work_items
        self.image_ids = list(dict.fromkeys(work.image_id for work in work_items))

    @property
    def count(self) -> int:
        """Number of photos."""
        return len(self.image_ids)

    @property
    def puts(self) -> int:
        """Number of crops, if all of them are written."""
        return sum(work.boxes for work in self.work_items)

    @property
    def bytes(self) -> int:
        """Bytes of its photos."""
        return sum({work.image_id: _size(work) for work in self.work_items}.values())


class Plan:
    """What a run is to do.

    ``work_items``: in the order of execution; those of one photo are together. ``bad``: rows for quarantine.
    ``read``: number of announced rows; ``outside``: rows that do not count, by reason. ``left``: work items
    that are not to be done, by reason. ``calls``: pages read from the API. ``complete`` False: there may be
    more photos. ``good``: photos with a good row, to be done or not. ``still_bad_rows``: rows that stay in
    quarantine; ``still_bad``: the same by broken expectation; ``hints``: see Funnel.hints.
    ``from_quarantine``: registered rows are marked as replayed. ``asks_again``: the API is asked for a new
    URL of every photo whose URL is signed, before the photo is fetched.
    """

    def __init__(
        self,
        work_items: list[WorkItem],
        *,
        bad: Sequence[Row] = (),
        listings: Sequence[Listing] = (),
        read: int = 0,
        outside: Counter[str] | None = None,
        left: Counter[str] | None = None,
        calls: int = 0,
        complete: bool = True,
        note: str | None = None,
        from_quarantine: bool = False,
        good: int = 0,
        still_bad: Counter[str] | None = None,
        still_bad_rows: int = 0,
        hints: Mapping[str, str] | None = None,
        asks_again: bool = False,
    ) -> None:
        self.work_items = work_items
        self.bad = bad
        self.listings = listings
        self.read = read
        self.outside = outside or Counter()
        self.left = left or Counter()
        self.calls = calls
        self.complete = complete
        self.note = note
        self.from_quarantine = from_quarantine
        self.good = good
        self.still_bad = still_bad or Counter()
        self.still_bad_rows = still_bad_rows
        self.hints = hints or {}
        self.asks_again = asks_again
        self.images = len({work.image_id for work in work_items})


def ordered(work_items: Iterable[WorkItem], order: Order) -> list[WorkItem]:
    """Sort by capture time. Photos without one are last in both orders."""
    known = list(work_items)
    known.sort(key=lambda work: (work.captured_at or _NEVER, work.image_id), reverse=order == "newest")
    known.sort(key=lambda work: work.captured_at is None)
    return known


class Budget:
    """What a run may still spend. ``stopped``: the limit that ended the run, or None."""

    def __init__(self, limits: Limits) -> None:
        self._left: dict[str, int | None] = {
            "batches": limits.max_batches,
            "images": limits.images,
            "PUTs": limits.puts,
            "bytes": limits.bytes,
        }
        self.spent: Counter[str] = Counter()
        self.stopped: str | None = None

    def room(self, **wanted: int) -> bool:
        """Whether the limits allow these amounts. Spends nothing."""
        for name, amount in wanted.items():
            limit = self._left[name]
            if limit is not None and self.spent[name] + amount > limit:
                self.stopped = f"{name}: {self.spent[name]:,} of {limit:,} are spent"
                return False
        return True


def slices(work_items: Sequence[WorkItem], images: int, budget: Budget) -> Iterator[Slice]:
    """Yield slices of at most ``images`` photos, until the budget has no room for the next photo."""
    current: list[WorkItem] = []
    held = 0
    if not work_items or not budget.room(batches=1):
        return
    for _, group in groupby(work_items, key=lambda work: work.image_id):
        photo = list(group)
        wanted = {"images": 1, "PUTs": sum(work.boxes for work in photo), "bytes": _size(photo[0])}
        if not budget.room(**wanted):
            break
        budget.spent.update(wanted)
        current += photo
        held += 1
        if held == images:
            budget.spent["batches"] += 1
            yield Slice(current)
            current, held = [], 0
            if not budget.room(batches=1):
                # No limit stopped the run when the last photo is done.
                if photo[-1] is work_items[-1]:
                    budget.stopped = None
                return
    if current:
        budget.spent["batches"] += 1
        yield Slice(current)


@dataclass
class Day:
    """One day of capture (UTC, ISO), or "no date"."""

    day: str
    images: int = 0
    work_items: int = 0
    boxes: int = 0
    bytes: int = 0
    why: Counter[str] = field(default_factory=Counter)


def by_day(work_items: Iterable[WorkItem]) -> list[Day]:
    """Return the work items by day of capture, newest first."""
    days: dict[str, Day] = {}
    seen: set[str] = set()
    for work in work_items:
        day = days.setdefault(day_of(work), Day(day_of(work)))
        day.work_items += 1
        day.boxes += work.boxes
        day.why[work.why] += 1
        if work.image_id not in seen:
            seen.add(work.image_id)
            day.images += 1
            day.bytes += _size(work)
    return sorted(days.values(), key=lambda day: day.day, reverse=True)


def day_of(work: WorkItem) -> str:
    """The day of capture in UTC."""
    return work.captured_at.astimezone(UTC).date().isoformat() if work.captured_at else "no date"


def _size(work: WorkItem) -> int:
    return ASSUMED_BYTES if work.bytes is None else work.bytes
