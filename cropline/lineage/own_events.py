"""cropline's own events: small, versioned, without pictures, URLs or labels. docs/reference/events.md describes them.

They go through the same outbox as lineage. Pure functions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_DNS, uuid5

from cropline.lineage import facets

if TYPE_CHECKING:
    import pyarrow as pa

COMMITTED = "cropline.batch.committed"
ERASED = "cropline.images.erased"
_VERSION = 1
_IDS = uuid5(NAMESPACE_DNS, "events.cropline")
_IDS_AN_EVENT = 1_000
_ID_BYTES_AN_EVENT = 400_000  # a message of Kafka has at most 1 MB


def is_own(event: Mapping[str, Any]) -> bool:
    """Return whether an event of the outbox is cropline's own, and not OpenLineage's."""
    return event.get("type") in (COMMITTED, ERASED)


def batch_committed(
    source: str, batch_id: str, rows: pa.Table, counts: Mapping[str, int], catalogue: str, version: int, at: datetime
) -> dict[str, Any]:
    """Return the event of a batch. ``rows``: those that it committed (CATALOGUE). ``catalogue``: the table's address."""
    import pyarrow.compute as pc

    taken = pc.min_max(rows["captured_at"]).as_py()
    return _event(
        COMMITTED,
        batch_id,
        at,
        source=source,
        batch_id=batch_id,
        profiles=sorted(rows["profile"].unique().to_pylist()),
        counts=dict(counts),
        catalogue=catalogue,
        catalogue_version=version,
        captured_from=_time(taken["min"]),
        captured_until=_time(taken["max"]),
    )


def images_erased(
    source: str, erasure_id: str, image_ids: Sequence[str], version: int | None, at: datetime
) -> Iterator[dict[str, Any]]:
    """Yield the events of an erasure: its photos, which consumers must drop, in parts."""
    parts = list(_parts(image_ids))
    for number, ids in enumerate(parts, 1):
        yield _event(
            ERASED,
            f"{erasure_id}#{number}",
            at,
            source=source,
            erasure_id=erasure_id,
            part=number,
            parts=len(parts),
            image_ids=ids,
            catalogue_version=version,
        )


def _parts(image_ids: Sequence[str]) -> Iterator[list[str]]:
    part: list[str] = []
    size = 0
    for image_id in image_ids:
        more = len(json.dumps(image_id))
        if part and (len(part) == _IDS_AN_EVENT or size + more > _ID_BYTES_AN_EVENT):
            yield part
            part, size = [], 0
        part.append(image_id)
        size += more
    if part:
        yield part


def _event(kind: str, named: str, at: datetime, **fields: Any) -> dict[str, Any]:
    # The id depends on what happened only: a receiver that gets an event twice knows it.
    head = {"type": kind, "version": _VERSION, "id": str(uuid5(_IDS, f"{kind}/{named}")), "time": _time(at)}
    return {**head, **fields, "cropline": facets.version()}


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else facets.timestamp(moment.astimezone(UTC))
