"""Reads the catalogue for the pages. Each query names days, so that its cost follows a day and not the table."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cropline.catalogue import CATALOGUE, delta
from cropline.catalogue.rows import equalling, quoted
from cropline.core.errors import CatalogueError
from cropline.core.scrub import visible
from cropline.gallery.filters import SORT_COLUMNS, CropFilter, Place, Sort, day_of, place_of

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from cropline.core.store_spec import StoreSpec

Row = dict[str, Any]

_IDENTITY = ("source", "image_id", "profile", "box_index")
_CHOICES = 200  # of a filter's menu


# Of these is a timeline: a month of a camera has tens of thousands of rows.
_OF_TIMELINE = (
    *_IDENTITY, "captured_at", "captured_date", "camera_id", "store_id", "store_name", "status", "reason", "box_id", "label",
    "left", "top", "right", "bottom", "image_width", "image_height", "key", "shard", "offset", "bytes", "format", "sha256",
)  # fmt: skip
# Days that are read at once when the newest have no match: twice as many each time, up to this.
_MOST_DAYS = 32


@dataclass(frozen=True)
class Page:
    """Rows of one page. ``after``: the token of the next page, or None at the end.

    ``searched``: the oldest day that was looked at, when the time for a page ended there; else None.
    """

    rows: list[Row]
    after: str | None
    searched: date | None = None


@dataclass(frozen=True)
class Choices:
    """Values for the menus of the filter: those of the newest day, most frequent first."""

    values: dict[str, list[str]]


class Queries:
    """Queries on one catalogue. Threads may share it. Every query sees the newest version of the table."""

    def __init__(self, root: StoreSpec) -> None:
        self._spec = delta.table_spec(root)
        self._lock = threading.Lock()
        self._days: tuple[int, list[date]] | None = None
        self._choices: tuple[int, Choices] | None = None

    def days(self) -> list[date]:
        """Return the days that have rows, newest first. Raises CatalogueError."""
        return self._days_of(self._table())

    def page(self, chosen: CropFilter, after: Place | None, limit: int, within_s: float = 1.5) -> Page:
        """Return the next rows of a filter in its order. Raises CatalogueError.

        Newest first, it looks back day by day. A filter that matches few boxes ends after about ``within_s``.
        """
        table = self._table()
        days = chosen.days(self._days_of(table))
        if chosen.sort != "newest":
            rows = self._ordered(table, chosen, days, after, limit + 1)
            return _page(rows, chosen.sort, limit)
        first, rows = day_of(after), []
        until = time.monotonic() + within_s
        for part, rest in _parts([day for day in days if first is None or day <= first]):
            rows += self._ordered(table, chosen, part, after, limit + 1 - len(rows))
            if len(rows) > limit:
                break
            if rest and time.monotonic() > until:
                return Page(rows, None, part[-1])
        return _page(rows, chosen.sort, limit)

    def crop(self, source: str, image_id: str, profile: str, box_index: int, day: date | None) -> Row | None:
        """Return one current row, or None. ``day``: its capture day; without it the whole table is searched."""
        rows = self.photo(source, image_id, day)
        return next((row for row in rows if (row["profile"], row["box_index"]) == (profile, box_index)), None)

    def photo(self, source: str, image_id: str, day: date | None = None) -> list[Row]:
        """Return the current rows of one photo, by profile and box."""
        where = equalling(source=source, image_id=image_id)
        found = self._run(self._table(), f"{_on_days([day]) if day else 'true'} AND {where}")
        return sorted(found, key=lambda row: (row["profile"], row["box_index"]))

    def camera(self, source: str, camera_id: str, since: datetime, until: datetime) -> list[Row]:
        """Return rows of one camera's photos with since <= captured_at < until, oldest first.

        They have the columns of a timeline.
        """
        table = self._table()
        first, last = since.astimezone(UTC).date(), (until - timedelta(microseconds=1)).astimezone(UTC).date()
        days = [day for day in self._days_of(table) if first <= day <= last]
        if not days:
            return []
        where = equalling(source=source, camera_id=camera_id)
        rows = self._run(table, f"{_on_days(days)} AND {where}", _OF_TIMELINE)
        inside = [row for row in rows if row["captured_at"] is not None and since <= row["captured_at"] < until]
        return sorted(inside, key=lambda row: (row["captured_at"], *(row[name] for name in _IDENTITY)))

    def examples(self, reasons: Collection[str], limit: int, within_s: float = 1.0) -> dict[str, list[Row]]:
        """Return a failed box of each of the newest photos with each reason, at most ``limit`` a reason.

        It ends after about ``within_s``: a reason that is rare, or long gone, may have none.
        """
        found: dict[str, list[Row]] = {reason: [] for reason in reasons}
        table, until = self._table(), time.monotonic() + within_s
        columns = ", ".join(f'"{name}"' for name in self._known(table, CATALOGUE.names))
        for part, _ in _parts(self._days_of(table)):
            missing = [reason for reason, rows in found.items() if len(rows) < limit]
            if not missing or time.monotonic() > until:
                break
            where = f"{_on_days(part)} AND status = 'failed' AND reason IN ({', '.join(map(quoted, missing))})"
            # One box of each photo, then the newest photos of each reason.
            rows = self._execute(
                table,
                f"""
                SELECT {columns} FROM (
                    SELECT *, row_number() OVER (PARTITION BY reason ORDER BY captured_at DESC, image_id) AS nth_photo FROM (
                        SELECT *, row_number() OVER (PARTITION BY reason, source, image_id ORDER BY profile, box_index) AS nth_box
                        FROM crops WHERE {where}
                    ) WHERE nth_box = 1
                ) WHERE nth_photo <= {limit:d} ORDER BY captured_at DESC, image_id
                """,  # noqa: S608 - days, and quoted reasons
            )
            for row in rows:
                if len(found[row["reason"]]) < limit:
                    found[row["reason"]].append(dict.fromkeys(CATALOGUE.names) | row)
        return found

    def choices(self) -> Choices:
        """Return the values for the filter's menus."""
        table = self._table()
        with self._lock:
            if self._choices is not None and self._choices[0] == table.version():
                return self._choices[1]
        values: dict[str, list[str]] = {}
        days = self._days_of(table)[:1]
        for name in ("store_id", "camera_id", "label", "profile", "reason"):
            counts: Counter[str] = Counter()
            if days:
                sql = f"SELECT {name} AS v, count(*) AS n FROM crops WHERE {_on_days(days)} GROUP BY {name}"  # noqa: S608
                counts.update({row["v"]: row["n"] for row in self._execute(table, sql) if row["v"]})
            # A value with control characters cannot be typed into a form; it is in no menu.
            values[name] = [value for value, _ in counts.most_common(_CHOICES) if value == visible(value)]
        found = Choices(values)
        with self._lock:
            self._choices = (table.version(), found)
        return found

    def _ordered(
        self, table: DeltaTable, chosen: CropFilter, days: Sequence[date], after: Place | None, limit: int
    ) -> list[Row]:
        if not days or limit < 1:
            return []
        column, falling = SORT_COLUMNS[chosen.sort]
        where = f"{_on_days(days)} AND {chosen.sql}"
        if after is not None:
            where += f" AND ({_beyond(column, falling, after)})"
        order = ", ".join([f"{column} {'DESC' if falling else 'ASC'} NULLS LAST", *_IDENTITY])
        return self._run(table, f"{where} ORDER BY {order} LIMIT {limit:d}")

    def _run(self, table: DeltaTable, where: str, names: Sequence[str] = CATALOGUE.names) -> list[Row]:
        columns = ", ".join(f'"{name}"' for name in self._known(table, names))
        found = self._execute(table, f"SELECT {columns} FROM crops WHERE {where}")  # noqa: S608 - see filters.py
        none = dict.fromkeys(names)
        return [none | row for row in found]

    @staticmethod
    def _known(table: DeltaTable, names: Sequence[str]) -> list[str]:
        known = {field.name for field in table.schema().fields}
        return [name for name in names if name in known]

    def _execute(self, table: DeltaTable, sql: str) -> list[Row]:
        from deltalake import QueryBuilder

        with delta.catalogue_errors("read", self._spec):
            found = QueryBuilder().register("crops", table).execute(sql)
            rows: list[Row] = pa.table(found).to_pylist()
            return rows

    def _table(self) -> DeltaTable:
        with delta.catalogue_errors("read", self._spec):
            table = delta.open_table(self._spec)
        if table is None:
            raise CatalogueError(f"there is no catalogue yet at {self._spec.url}")
        return table

    def _days_of(self, table: DeltaTable) -> list[date]:
        """Return the capture days of the table's files; rows without a capture time have no day."""
        with self._lock:
            if self._days is not None and self._days[0] == table.version():
                return self._days[1]
        with delta.catalogue_errors("read", self._spec):
            partitions = table.partitions()
        texts = {str(part["captured_date"]) for part in partitions if part["captured_date"] not in (None, "")}
        days = sorted({date.fromisoformat(text) for text in texts}, reverse=True)
        with self._lock:
            self._days = (table.version(), days)
        return days


def _parts(days: Sequence[date]) -> Iterator[tuple[Sequence[date], bool]]:
    """Yield the days in parts of 1, 2, 4 ... days, each with whether there are more: most pages need only the first."""
    start, count = 0, 1
    while start < len(days):
        yield days[start : start + count], start + count < len(days)
        start, count = start + count, min(2 * count, _MOST_DAYS)


def _page(rows: list[Row], sort: Sort, limit: int) -> Page:
    more = len(rows) > limit
    return Page(rows[:limit], place_of(rows[limit - 1], sort).token() if more else None)


def _on_days(days: Sequence[date | None]) -> str:
    return f"captured_date IN ({', '.join(f'DATE {day.isoformat()!r}' for day in days if day)})"


def _beyond(column: str, falling: bool, after: Place) -> str:
    """Return the SQL condition of the rows behind a place; rows without a value come last."""
    identity = _behind_identity(after)
    if after.value is None:
        return f"{column} IS NULL AND ({identity})"
    value = _literal(column, after.value)
    return f"{column} {'<' if falling else '>'} {value} OR {column} IS NULL OR ({column} = {value} AND ({identity}))"


def _behind_identity(after: Place) -> str:
    """Return (source, image_id, profile, box_index) > those of the place, spelled out."""
    clauses: list[str] = []
    same: list[str] = []
    for name in _IDENTITY:
        value = getattr(after, name)
        text = f"{value:d}" if name == "box_index" else quoted(value)
        clauses.append(" AND ".join([*same, f"{name} > {text}"]))
        same.append(f"{name} = {text}")
    return " OR ".join(f"({clause})" for clause in clauses)


def _literal(column: str, value: float) -> str:
    if column == "captured_at":
        return f"arrow_cast({round(value * 1_000_000):d}, 'Timestamp(Microsecond, Some(\"UTC\"))')"
    return f"{int(value):d}" if column == "bytes" else repr(value)
