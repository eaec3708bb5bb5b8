"""Group items that hold one box each by photo, within a poll and with the boxes of earlier polls."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cropline.config.settings import ApiSettings
from cropline.core.errors import ManifestError
from cropline.core.keys import canonical_json, content_hash, digest
from cropline.core.store_spec import StoreSpec
from cropline.intake import manifest

Box = dict[str, Any]
Places = Callable[[Sequence[str]], Mapping[str, tuple[str, int]]]
"""From image ids to the manifest and row of those that were registered before."""

_AT_ONCE = 500
_COLUMNS = ("image_id", "boxes")
_BOX_NUMBER = re.compile(r"boxes\[(\d+)\]")


def grouped_rows(spool: Path, api: ApiSettings, spec: StoreSpec, places: Places) -> Iterator[dict[str, Any]]:
    """Yield manifest rows, one per photo, from a file of items with one JSON per line.

    Memory holds a few bytes per line and a few photos. When a box comes again, with the same id or else the
    same place, the newer one is kept. A photo whose earlier boxes cannot be read is unreadable: a row without
    them would delete their crops.
    """
    position = 0
    groups = list(_lines_by_photo(spool, api).items())
    with spool.open("rb") as file:
        for start in range(0, len(groups), _AT_ONCE):
            part = groups[start : start + _AT_ONCE]
            known = _Earlier(spec, places([name for name, _ in part if name]))
            for image_id, offsets in part:
                rows = [_row(file, offset, position, api) for offset in offsets]
                yield _merged(rows, known, image_id)
                position += 1


def _lines_by_photo(spool: Path, api: ApiSettings) -> dict[str, list[int]]:
    """Return the offsets of each photo's lines. An item without an id is a separate photo."""
    lines: dict[str, list[int]] = {}
    with spool.open("rb") as file:
        offset = 0
        for line in file:
            image_id = manifest.image_id(json.loads(line), api)
            lines.setdefault(image_id or f"\x00{offset}", []).append(offset)
            offset += len(line)
    return lines


def _row(file: Any, offset: int, position: int, api: ApiSettings) -> dict[str, Any]:
    file.seek(offset)
    return manifest.manifest_row(position, json.loads(file.readline()), api)


def _merged(rows: list[dict[str, Any]], earlier: _Earlier, image_id: str) -> dict[str, Any]:
    row = dict(max(enumerate(rows), key=lambda pair: (_age(pair[1]), pair[0]))[1])
    if not row.get("image_id"):
        return row
    boxes: dict[str, Box] = {}
    places: dict[str, int] = {}
    unreadable: set[str] = set()
    try:
        for box in earlier.boxes(image_id):
            boxes[_name(box)] = box
    except ManifestError:
        unreadable.add("boxes")
    for one in rows:
        names = [_name(box) for box in one["boxes"] or ()]
        boxes |= dict(zip(names, one["boxes"] or (), strict=True))
        places = {name: place for place, name in enumerate(boxes)}
        for field in one["unreadable"]:
            number = _BOX_NUMBER.match(field)
            unreadable.add(f"boxes[{places[names[int(number[1])]]}{field[number.end(1) :]}" if number else field)
    row["boxes"], row["unreadable"] = list(boxes.values()), sorted(unreadable)
    row["raw"] = canonical_json([json.loads(one["raw"]) for one in rows if one["raw"]]) if unreadable else None
    row["item_digest"] = digest(*(one["item_digest"] for one in rows))[:32]
    row["content_hash"] = content_hash(row["version"] or "", row["coordinates"], row["orientation"], row["boxes"])
    return row


def _age(row: dict[str, Any]) -> float:
    moment = row.get("updated_at")
    return moment.timestamp() if moment else float("-inf")


def _name(box: Box) -> str:
    if box["box_id"] is not None:
        return f"id {box['box_id']}"
    return canonical_json([box[name] for name in ("xmin", "ymin", "xmax", "ymax", "label")])


class _Earlier:
    """The boxes of photos at their last registration, read one manifest at a time."""

    def __init__(self, spec: StoreSpec, places: Mapping[str, tuple[str, int]]) -> None:
        self._spec = spec
        self._rows: dict[str, dict[int, str]] = {}
        for image_id, (key, row) in places.items():
            self._rows.setdefault(key, {})[row] = image_id
        self._key_of = {image_id: key for image_id, (key, _) in places.items()}
        self._boxes: dict[str, dict[str, list[Box]]] = {}

    def boxes(self, image_id: str) -> list[Box]:
        """Return a photo's boxes in order, none for a new photo. Raise ManifestError when they no longer exist."""
        key = self._key_of.get(image_id)
        if key is None:
            return []
        if key not in self._boxes:
            table = manifest.read_rows(self._spec, key, list(self._rows[key]), _COLUMNS)
            self._boxes[key] = {row["image_id"]: row["boxes"] or [] for row in table.to_pylist()}
        if image_id not in self._boxes[key]:
            raise ManifestError(f"manifest {key} has no row of a photo that was registered from it")
        return self._boxes[key][image_id]
