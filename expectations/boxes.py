"""Counts each image's faulty boxes by kind, for a million nested boxes in one NumPy pass."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from expectations.manifest import OVERSHOOT

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.int64]

# Pixels; for a picture whose size is not declared. Wider pictures are refused before they are decoded.
_LONGEST_SIDE_PX = 100_000.0


def box_columns(table: pa.Table) -> dict[str, object]:
    """Return float64 columns of counts per image: all boxes (NaN: no list), and the faulty boxes of each kind."""
    lists = _one_array(table["boxes"])
    image = pc.list_parent_indices(lists).to_numpy().astype(np.int64)
    boxes = lists.flatten()
    corners = {name: _field(boxes, name).to_numpy(zero_copy_only=False) for name in ("xmin", "ymin", "xmax", "ymax")}
    ids, labels = _codes(_field(boxes, "box_id")), _codes(_field(boxes, "label"))
    faults = _faulty_boxes(corners, *(side[image] for side in _sides(table)))
    faults["boxes_without_id"] = ids < 0
    faults["box_ids_repeated"] = _repeated_ids(image, ids)
    faults["boxes_repeated"] = _repeated_boxes(image, labels, corners)
    counts = {name: np.bincount(image[fault], minlength=len(lists)) for name, fault in faults.items()}
    length = pc.list_value_length(lists).cast(pa.float64()).to_numpy(zero_copy_only=False)
    return {"boxes": length, **counts}


def _faulty_boxes(corners: dict[str, Floats], width: Floats, height: Floats) -> dict[str, Flags]:
    xmin, ymin, xmax, ymax = (corners[name] for name in ("xmin", "ymin", "xmax", "ymax"))
    finite = np.isfinite(xmin) & np.isfinite(ymin) & np.isfinite(xmax) & np.isfinite(ymax)
    with np.errstate(invalid="ignore", over="ignore"):
        area = np.abs(xmax - xmin) * np.abs(ymax - ymin)
        out = (np.minimum(xmin, xmax) < -OVERSHOOT * width) | (np.maximum(xmin, xmax) > (1 + OVERSHOOT) * width)
        out |= (np.minimum(ymin, ymax) < -OVERSHOOT * height) | (np.maximum(ymin, ymax) > (1 + OVERSHOOT) * height)
        return {
            "boxes_not_finite": ~finite,
            "boxes_out_of_range": finite & out,
            "boxes_inverted": finite & ((xmin > xmax) | (ymin > ymax)),
            "boxes_without_area": finite & ~(area > 0),
        }


def _sides(table: pa.Table) -> tuple[Floats, Floats]:
    """Return width and height of each picture, in the units of its boxes."""
    pixels = pc.equal(table["coordinates"], "pixels").fill_null(False).to_numpy()
    stored = pc.equal(table["orientation"], "stored").fill_null(False).to_numpy()
    width, height = (_declared(table[name]) for name in ("width", "height"))
    longer = np.maximum(width, height)
    # A stored picture may be rotated by 90 degrees. Only its EXIF data says so.
    width, height = (np.where(stored, longer, side) for side in (width, height))
    return np.where(pixels, width, 1.0), np.where(pixels, height, 1.0)


def _declared(side: pa.ChunkedArray) -> Floats:
    values: Floats = side.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return np.where(values > 0, values, _LONGEST_SIDE_PX)


def _repeated_ids(image: Positions, ids: Positions) -> Flags:
    """Mark boxes whose id an earlier box of the same image has. Boxes without an id do not count."""
    key = image * (int(ids.max(initial=0)) + 1) + ids
    return _later_twins(key) & (ids >= 0)


def _repeated_boxes(image: Positions, labels: Positions, corners: dict[str, Floats]) -> Flags:
    """Mark boxes with the rectangle and the label of an earlier box of the same image."""
    values = [image, labels, *((corner + 0.0).view(np.int64) for corner in corners.values())]
    mixed = np.zeros(len(image), dtype=np.uint64)
    for value in values:
        mixed = (mixed ^ value.view(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    suspects = np.flatnonzero(np.isin(mixed, mixed[_later_twins(mixed)]))
    # Hashes may collide, so boxes with equal hashes are compared in full.
    order = suspects[np.lexsort([value[suspects] for value in values])]
    same = np.ones(max(len(order) - 1, 0), dtype=bool)
    for value in values:
        same &= value[order][1:] == value[order][:-1]
    repeated = np.zeros(len(image), dtype=bool)
    repeated[order[1:][same]] = True
    return repeated


def _later_twins(keys: npt.NDArray[np.int64 | np.uint64]) -> Flags:
    """True where an earlier element has the same key."""
    order = np.argsort(keys, kind="stable")
    twins = np.zeros(len(keys), dtype=bool)
    twins[order[1:][keys[order][1:] == keys[order][:-1]]] = True
    return twins


def _codes(texts: pa.Array) -> Positions:
    """Return a number from 0 for each distinct text, and -1 for null."""
    codes: Positions = texts.dictionary_encode().indices.fill_null(-1).to_numpy().astype(np.int64)
    return codes


def _field(boxes: pa.StructArray, name: str) -> pa.Array:
    """Return a field of the boxes; null where the whole box is null."""
    return pc.struct_field(boxes, name)


def _one_array(column: pa.ChunkedArray) -> pa.ListArray:
    chunks = column.combine_chunks()
    return chunks if isinstance(chunks, pa.ListArray) else chunks.chunk(0)
