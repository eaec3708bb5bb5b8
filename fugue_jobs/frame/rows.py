"""A frame's rows for the crop processes: distinct images, boxes as four numbers, and the row's other values.

Only needed columns are read; the frame itself is not copied.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cropline.core.errors import OptionError
from fugue_jobs.frame.options import EDGES, Options

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Facts = Callable[[Ints], list[dict[str, Any]]]

Image = str | bytes | None

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}://")


@dataclass(frozen=True)
class Rows:
    """One row per box. ``edges``: xmin, ymin, xmax, ymax; NaN where a number is missing or invalid.

    ``codes`` has each row's image, numbered by first occurrence; ``image`` returns the image of a row.
    ``facts`` returns the frame's own columns of some rows, for functions.
    """

    codes: Ints
    image: Callable[[int], Image]
    edges: Floats
    label: Callable[[int], str | None]
    facts: Facts

    def __len__(self) -> int:
        return len(self.codes)

    def groups(self) -> Iterator[Ints]:
        """Yield the rows of each image, in order."""
        order = np.argsort(self.codes, kind="stable")
        edges = np.flatnonzero(np.diff(self.codes[order])) + 1
        return iter(np.split(order, edges)) if len(order) else iter(())


def is_path(image: str) -> bool:
    """Return whether this is the path of a file and not a URL."""
    return not _SCHEME.match(image)


def read_image(value: Any) -> Image:
    """Return a value of the image column; None when it is neither text, bytes nor a path."""
    if isinstance(value, str):
        return str(value) or None
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    return os.fspath(value) if isinstance(value, os.PathLike) else None


def grouped(values: Iterable[Any]) -> Ints:
    """Return a code per value; equal images share one. Bytes are compared by their hash."""
    seen: dict[Any, int] = {}
    codes = []
    for value in values:
        image = read_image(value)
        name = hashlib.sha256(image).digest() if isinstance(image, bytes) else image
        codes.append(seen.setdefault(name, len(seen)))
    return np.array(codes, np.int64)


def arrow_codes(column: pa.ChunkedArray, name: Hashable) -> tuple[Ints, Callable[[int], Image]]:
    """Return ``codes`` and ``image`` of Rows for an Arrow column. Raise OptionError when it cannot hold images."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_null(kind):
        return np.zeros(len(column), np.int64), lambda row: None  # noqa: ARG005 - all rows are equal
    if _is_binary(kind):
        column = column.cast(kind) if pa.types.is_dictionary(column.type) else column
        return grouped(value.as_py() for value in column), lambda row: read_image(column[row].as_py())
    if not _is_text(kind):
        raise OptionError(f"columns: column {name!r} of images is {kind}; it must be text (URLs, paths) or bytes")
    encoded = column.cast(pa.large_string()).dictionary_encode().unify_dictionaries().combine_chunks()
    encoded = pa.chunked_array([encoded]) if isinstance(encoded, pa.Array) else encoded
    chunk = encoded.chunk(0) if encoded.num_chunks else pa.array([], pa.dictionary(pa.int32(), pa.large_string()))
    codes = pc.fill_null(chunk.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, lambda row: None if codes[row] < 0 else read_image(chunk.dictionary[int(codes[row])].as_py())


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def is_nested(kind: pa.DataType) -> bool:
    """Return whether values of this type are all the boxes of an image."""
    if not is_list(kind):
        return False
    inner = kind.value_type
    return is_list(inner) or pa.types.is_struct(inner) or pa.types.is_map(inner)


def is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def arrow_numbers(column: pa.ChunkedArray, name: Hashable) -> Floats:
    """Return an Arrow column as numbers. Raise OptionError for other types."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if _is_text(kind):
        return numbers(column.to_pylist())
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise OptionError(f"columns: column {name!r} of the box is {kind}; it must be numbers")
    floats = column.cast(kind).cast(pa.float64(), safe=False)
    return np.asarray(pc.fill_null(floats, float("nan")).to_numpy(), np.float64)


def numbers(values: Iterable[Any]) -> Floats:
    """Return values as numbers; NaN for anything else. Numeric text counts as a number."""
    return np.array([_number(value) for value in values], np.float64)


def _number(value: Any) -> float:
    if value is None or isinstance(value, bool | np.bool_):
        return float("nan")
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def one_box(value: Any, names: Sequence[str]) -> tuple[list[float], str | None]:
    """Return (four numbers, label) of a whole box: a sequence of four numbers, or named fields."""
    if isinstance(value, Mapping):
        label = value.get("label")
        return [_number(value.get(name)) for name in names], label if isinstance(label, str) else None
    if isinstance(value, str):
        return one_box(_from_json(value), names)
    four = list(value) if isinstance(value, list | tuple | np.ndarray) else []
    return ([_number(part) for part in four] if len(four) == 4 else [float("nan")] * 4), None


def boxes_of(value: Any) -> list[Any] | None:
    """Return the boxes of one image; None when the value has none."""
    if isinstance(value, str):
        value = _from_json(value)
    return list(value) if isinstance(value, list | tuple | np.ndarray) else None


def holds_boxes(values: Iterable[Any]) -> bool:
    """Return whether untyped values are all the boxes of an image. The first value with evidence decides."""
    for value in values:
        parts = boxes_of(value)
        if parts:
            return isinstance(parts[0], Mapping | list | tuple | np.ndarray)
    return False


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def as_edges(four: Floats, options: Options) -> Floats:
    """Convert four numbers per box from the configured format to xmin, ymin, xmax, ymax."""
    edges = four / 100 if options.units == "percent" else four
    first, second = edges[:, :2], edges[:, 2:]
    if options.boxes == "xywh":
        return np.hstack([first, first + second])
    if options.boxes == "cxcywh":
        return np.hstack([first - second / 2, first + second / 2])
    return edges


def check_fit(edges: Floats, options: Options) -> None:
    """Raise OptionError when no box fits the options. Single bad boxes become reasons of their rows."""
    known = edges[np.isfinite(edges).all(axis=1)]
    if not len(known):
        return
    if options.units != "pixels" and (np.abs(known).max(axis=1) > 2).all():
        other = "pixels" if options.units == "normalised" else "pixels or normalised"
        raise OptionError(f"units: no box is {options.units}, all are outside the image; are they {other}?")
    if options.units == "pixels" and ((known >= 0) & (known <= 1)).all():
        raise OptionError("units: no box is in pixels, all are within 0..1; are they normalised?")
    inverted = (known[:, 2] < known[:, 0]) | (known[:, 3] < known[:, 1])
    if len(known) > 1 and inverted.all():
        others = ", ".join(name for name in EDGES if name != options.boxes)
        raise OptionError(
            f"boxes: no box is {options.boxes}, every maximum is below its minimum; are they one of {others}?"
        )


def no_label(row: int) -> None:  # noqa: ARG001 - as a column's
    """Return None, for a frame without labels."""
    return
