"""Decides which crops stay when a photo is cropped again: those of boxes that did not change.

A new photo version or recipe changes every box; a detector that moves, adds or removes some boxes changes only those
(docs/decisions/0013-boxes-that-stay.md). When only the metadata changed, every crop and failure stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from cropline.core.columns import CATALOGUE_COLUMNS
from cropline.core.keys import box_fingerprint

if TYPE_CHECKING:
    import pyarrow as pa

ImageProfile = tuple[str, str, str]
"""source, image_id, profile"""

_OF_STORE = ("store_name", "city", "region", "store_format")
_SAME = ("store_id", "camera_id", "captured_at")  # when one differs, the row's joined metadata is another store's


def reuse_crops(
    earlier: pa.Table,
    images: pa.Table,
    claims: pa.Table,
    retention_days: Mapping[str, int | None],
    now: datetime,
    unknown: Collection[ImageProfile] = (),
    *,
    rewriting: Collection[tuple[str, str]] = (),
    stores: pa.Table | None = None,
) -> tuple[pa.Table, pa.Table]:
    """Return (CROPS rows that stay, CLAIM rows whose work items name the boxes left to cut).

    ``earlier``: current rows (CATALOGUE) of the claimed photos. ``images``: schemas.IMAGES, as far as the manifests
    have it. ``retention_days``: by profile. Rows older than half of it do not stay, because they may expire soon.

    A work item with the fingerprint of its rows is done again as a whole: a user asked for it, or something failed.
    The exceptions are the work items in ``unknown``, whose rows come from another state.
    ``rewriting``: (image id, profile) of work items of which only the metadata changed. Their rows are joined with
    ``stores`` (STORES).
    """
    import pyarrow as pa

    from cropline.core.schemas import CLAIM, CROPS

    if not len(earlier):
        return CROPS.empty_table(), claims
    known = _EarlierCrops(earlier, retention_days, now)
    joined = {row["store_id"]: row for row in stores.to_pylist()} if stores is not None else {}
    rows = {(row["manifest"], row["manifest_row"]): row for row in images.to_pylist()}
    kept: list[dict[str, Any]] = []
    left = claims.to_pylist()
    for claim in left:
        image = rows.get((claim["manifest"], claim["manifest_row"]))
        if image is None:
            continue  # the step that counts boxes reports it
        for work in claim["work"]:
            if (claim["image_id"], work["profile"]) in rewriting:
                mine = known.to_rewrite(image, work, joined)
            else:
                mine = known.of(image, work, unknown=(claim["source"], claim["image_id"], work["profile"]) in unknown)
            if mine:
                kept += mine.values()
                boxes = range(len(image["boxes"]))
                work["only"] = [index for index in boxes if index not in mine]
    if not kept:
        return CROPS.empty_table(), claims
    # A crop that stays keeps the values of its step, and those that a script added to its row.
    own = (field for field in earlier.schema if field.name not in CATALOGUE_COLUMNS)
    return pa.Table.from_pylist(kept, schema=pa.schema([*CROPS, *own])), pa.Table.from_pylist(left, schema=CLAIM)


class _EarlierCrops:
    """Rows of crops that may stay, by image and profile."""

    def __init__(self, earlier: pa.Table, retention_days: Mapping[str, int | None], now: datetime) -> None:
        self._rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self._all: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in earlier.sort_by("committed_at").to_pylist():  # newest last: a later row replaces an earlier one
            days = retention_days.get(row["profile"])
            young = days is None or row["committed_at"] > now - timedelta(days=days) / 2
            if young or row["status"] != "written":
                self._all.setdefault((row["image_id"], row["profile"]), []).append(row)
            if row["status"] == "written" and row["box_fingerprint"] is not None and young:
                self._rows.setdefault((row["image_id"], row["profile"]), []).append(row)

    def of(self, image: dict[str, Any], work: dict[str, Any], *, unknown: bool) -> dict[int, dict[str, Any]]:
        """Return box index -> the row that stays, with this work item's values."""
        rows = [
            row
            for row in self._rows.get((image["image_id"], work["profile"]), ())
            if (unknown or row["fingerprint"] != work["fingerprint"])
            and row["captured_at"] == _moment(image["captured_at"])
            and all(row[name] == image[name] for name in _SAME[:2])
        ]
        boxes = image["boxes"] or []
        by_work = {row["box_fingerprint"]: row for row in rows}
        rescaled_from = _other_size(image, rows[0]) if rows else None
        times = Counter(box["box_id"] for box in boxes)
        found = {}
        for index, box in enumerate(boxes):
            of_box = box_fingerprint(
                image["version"],
                image["coordinates"],
                image["orientation"],
                box,
                work["profile_hash"],
                rescaled_from,
            )
            row = by_work.get(of_box) if of_box and times[box["box_id"]] == 1 else None
            if row is not None and _other_size(image, row) == rescaled_from:
                found[index] = _as_claimed(row, image, work, index, box)
        return found

    def to_rewrite(
        self, image: dict[str, Any], work: dict[str, Any], stores: Mapping[str, dict[str, Any]]
    ) -> dict[int, dict[str, Any]]:
        """Return box index -> its row (written, failed or skipped) with the image's current metadata."""
        boxes = image["boxes"] or []
        store = stores.get(image["store_id"], {})
        about = {name: store.get(name) for name in _OF_STORE} | {
            name: image[name] for name in ("store_id", "camera_id")
        }
        return {
            row["box_index"]: _as_claimed(row, image, work, row["box_index"], boxes[row["box_index"]]) | about
            for row in self._all.get((image["image_id"], work["profile"]), ())
            if row["fingerprint"] == work["fingerprint"] and row["box_index"] < len(boxes)
        }


def _other_size(image: dict[str, Any], row: dict[str, Any]) -> tuple[int, int] | None:
    """Return the declared size when it differs from that of the cropped photo: it moves boxes in pixels.

    A crop that was cut before the size was declared, or while it was ignored, does not stay.
    """
    width, height = image.get("width"), image.get("height")
    if image["coordinates"] != "pixels" or width is None or height is None:
        return None
    size = row["image_width"], row["image_height"]
    return None if (width, height) in (size, size[::-1]) else (width, height)


def _as_claimed(
    row: dict[str, Any], image: dict[str, Any], work: dict[str, Any], index: int, box: dict[str, Any]
) -> dict[str, Any]:
    return row | {
        "captured_at": image["captured_at"],
        "fingerprint": work["fingerprint"],
        "box_index": index,
        "label": box["label"],
        "score": box["score"],
        "manifest": image["manifest"],
        "manifest_row": image["manifest_row"],
    }


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
