"""Input builders for the tests of the state, a clock, and a view of the tables that shares no code with the product."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from cropline.state import CANDIDATES, Batch, Counts, Event, Outcome, Registration

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
RECIPES = {"default": ("hash-of-default", '{"format":"jpeg"}'), "small": ("hash-of-small", '{"max_side":64}')}


class Clock:
    """A clock that the test moves."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **duration: float) -> None:
        self.now += timedelta(**duration)


def candidate(image_id: str, **values: Any) -> dict[str, Any]:
    """Return one row of CANDIDATES; ``at`` is the capture time in seconds after NOON."""
    profile, version, source = (
        values.get("profile", "default"),
        values.get("version", "v1"),
        values.get("source", "cams"),
    )
    at = NOON + timedelta(seconds=values.pop("at", 0))
    return {
        "source": source,
        "image_id": image_id,
        "profile": profile,
        "profile_hash": RECIPES[profile][0],
        "version": version,
        "fingerprint": f"{image_id}/{version}/{profile}",
        "manifest": "manifests/1.parquet",
        "manifest_row": 0,
        "boxes": 3,
        "bytes": 2_600_000,
        "captured_at": at,
        "updated_at": at,
        "store_id": "store-1",
        "camera_id": "cam-1",
        "state": "pending",
        "reason": None,
    } | values


def registration(candidates: Iterable[dict[str, Any]], **values: Any) -> Registration:
    """Return a registration of these candidates as one table, in a separate manifest."""
    manifest = values.pop("manifest", "manifests/1.parquet")
    table = pa.Table.from_pylist([row | {"manifest": manifest} for row in candidates], schema=CANDIDATES)
    given: dict[str, Any] = {
        "source": "cams",
        "manifest": manifest,
        "cursor": NOON.isoformat(),
        "rows": table,
        "item_digests": [],
        "forget_digests_before": NOON - timedelta(hours=1),
        "profiles": RECIPES,
        "events": (),
    }
    return Registration(**(given | values))


def outcomes(batch: Batch, *, reasons: dict[str, str] | None = None, **values: Any) -> list[Outcome]:
    """Return an outcome for each work item of the batch: done, or failed for the transient reason of its image."""
    reasons = reasons or {}
    return [
        Outcome(
            image["source"],
            image["image_id"],
            work["profile"],
            work["fingerprint"],
            ok=image["image_id"] not in reasons,
            transient_reason=reasons.get(image["image_id"]),
            **values,
        )
        for image in batch.images.to_pylist()
        for work in image["work"]
    ]


def counts(batch: Batch, boxes: int = 3) -> Counts:
    """Return a batch's counts when every image has this many boxes and every crop was written."""
    works = sum(len(image["work"]) for image in batch.images.to_pylist())
    return Counts(batch.images.num_rows, boxes * batch.images.num_rows, boxes * works, 0, 0)


def ids(batch: Batch | None) -> list[str]:
    """Return the images of a batch."""
    return [] if batch is None else list(batch.images["image_id"].to_pylist())


def event(name: str) -> Event:
    """Return an event with this id."""
    return Event(name, f'{{"run":"{name}"}}')


class Look:
    """The tables, read with the plain drivers."""

    def __init__(self, url: str) -> None:
        self._url = url

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        if self._url.startswith("sqlite:///"):
            connection = sqlite3.connect(unquote(self._url.removeprefix("sqlite:///")))
            try:
                return connection.execute(statement).fetchall()
            finally:
                connection.close()
        import psycopg

        with psycopg.connect(self._url.replace("+psycopg", "")) as postgres:
            return [tuple(row) for row in postgres.execute(statement.encode()).fetchall()]

    def one(self, statement: str) -> Any:
        ((value,),) = self.rows(statement)
        return value

    def states(self) -> dict[str, str]:
        """Return image id -> state, for tests with one profile."""
        return {str(image): str(state) for image, state in self.rows("SELECT image_id, state FROM images")}

    def everything(self) -> dict[str, Sequence[tuple[Any, ...]]]:
        """Return every row of every table, to show that nothing changed."""
        tables = ("images", "tallies", "profiles", "sources", "manifests", "recent_items", "batches", "outbox")
        return {table: sorted(self.rows(f"SELECT * FROM {table}"), key=repr) for table in tables}
