"""Which crops stay when a photo is cropped again: those of boxes whose own work has not changed.

Belongs here: the comparison of the catalogue's rows with what is claimed, as a function of its arguments. Does not: cutting.
A new version of a photo, or of a recipe, changes the work of every box; a detector that moves one box, adds or removes some,
changes that of these boxes alone. docs/decisions/0013-boxes-that-stay.md
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from cropline.keys import box_fingerprint

if TYPE_CHECKING:
    import pyarrow as pa

_SAME = ("store_id", "camera_id", "captured_at")  # else the row's joined metadata would be another store's


def keep(
    earlier: pa.Table,
    images: pa.Table,
    claims: pa.Table,
    retention_days: Mapping[str, int | None],
    now: datetime,
) -> tuple[pa.Table, pa.Table]:
    """(CROPS rows that stay, CLAIM rows whose works name the boxes that are left to cut).

    ``earlier``: current rows (CATALOGUE) of the claimed photos. ``images``: schemas.IMAGES as far as
    the manifests have it. ``retention_days``: by profile; rows that are half as old are not kept, since they may go any day.
    A work of the same fingerprint as its rows is done again as a whole: someone asked for it, or something failed.
    """
    import pyarrow as pa

    from cropline.schemas import CLAIM, CROPS

    if not len(earlier):
        return CROPS.empty_table(), claims
    known = _Known(earlier, retention_days, now)
    rows = {(row["manifest"], row["manifest_row"]): row for row in images.to_pylist()}
    kept: list[dict[str, Any]] = []
    left = claims.to_pylist()
    for claim in left:
        image = rows.get((claim["manifest"], claim["manifest_row"]))
        if image is None:
            continue  # the step that counts boxes says so
        for work in claim["work"]:
            mine = known.of(image, work)
            if mine:
                kept += mine.values()
                boxes = range(len(image["boxes"]))
                work["only"] = ",".join(str(index) for index in boxes if index not in mine)
    if not kept:
        return CROPS.empty_table(), claims
    return pa.Table.from_pylist(kept, schema=CROPS), pa.Table.from_pylist(left, schema=CLAIM)


class _Known:
    """Rows of crops that may stay, by photo and profile."""

    def __init__(self, earlier: pa.Table, retention_days: Mapping[str, int | None], now: datetime) -> None:
        self._rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in earlier.to_pylist():
            days = retention_days.get(row["profile"])
            young = days is None or row["committed_at"] > now - timedelta(days=days) / 2
            if row["status"] == "written" and row["box_fingerprint"] is not None and young:
                self._rows.setdefault((row["image_id"], row["profile"]), []).append(row)

    def of(self, image: dict[str, Any], work: dict[str, Any]) -> dict[int, dict[str, Any]]:
        """Box position -> the row that stays, as this work has it."""
        rows = [
            row
            for row in self._rows.get((image["image_id"], work["profile"]), ())
            if row["fingerprint"] != work["fingerprint"]
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


def _other_size(image: dict[str, Any], row: dict[str, Any]) -> tuple[int, int] | None:
    """The declared size, where it is not that of the photo that the row was cut from: boxes in pixels lie elsewhere then.

    A crop that was cut before the size was declared, or was ignored, does not stay.
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
