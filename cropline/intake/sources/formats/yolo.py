"""Label files of YOLO: one text file per photo, one line per box: class, centre x, centre y, width, height in 0..1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cropline.intake.item_values import read_number
from cropline.intake.sources.formats.broken import FileError

_SIDES = ("xmin", "ymin", "xmax", "ymax")
CLASS_FILES = ("classes.txt", "obj.names", "data.yaml", "data.yml", "dataset.yaml")


def read_boxes(data: bytes, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the boxes of one label file. A line of a polygon (class and points) gives the box around it.

    A line that is neither becomes a box whose sides are its text: the photo is quarantined. Raise FileError for bytes
    that are no text.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FileError("is not a text file") from None
    lines = [line.split() for line in text.splitlines()]
    return [_box(number, parts, classes) for number, parts in enumerate(lines) if parts]


def _box(number: int, parts: list[str], classes: Sequence[str]) -> dict[str, Any]:
    numbers = [read_number(part) for part in parts]
    bad = {"id": str(number), **dict.fromkeys(_SIDES, f"line {number + 1}: {' '.join(parts)[:100]}")}
    if not all(isinstance(value, float) for value in numbers) or not numbers[0].is_integer():
        return bad
    kind = int(numbers[0])
    known = {"id": str(number), "label": classes[kind] if 0 <= kind < len(classes) else str(kind)}
    if len(parts) in (5, 6):
        score = {"score": numbers[5]} if len(parts) == 6 else {}
        return {**known, **dict(zip(_SIDES, numbers[1:5], strict=True)), **score}
    if len(parts) < 7 or len(parts) % 2 == 0:
        return bad
    xs, ys = numbers[1::2], numbers[2::2]
    wide, high = max(xs) - min(xs), max(ys) - min(ys)
    return {**known, **dict(zip(_SIDES, (min(xs) + wide / 2, min(ys) + high / 2, wide, high), strict=True))}


def read_classes(name: str, data: bytes) -> list[str]:
    """Return the names of the classes by number, of classes.txt or of data.yaml. Raise FileError."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FileError("is not a text file") from None
    if not name.endswith((".yaml", ".yml")):
        return [line.strip() for line in text.splitlines()]
    import yaml

    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise FileError(f"is not YAML ({type(error).__name__})") from None
    names = document.get("names") if isinstance(document, dict) else None
    if isinstance(names, dict):
        if not all(isinstance(key, int) and 0 <= key < 100_000 for key in names):
            raise FileError("has names with keys that are no numbers")
        return [str(names.get(number, number)) for number in range(max(names, default=-1) + 1)]
    if not isinstance(names, list):
        raise FileError("has no list names")
    return [str(name) for name in names]
