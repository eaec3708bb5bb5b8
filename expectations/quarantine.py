"""Builds quarantine rows: the bad rows of a manifest with their reasons, safe to show.

Secrets are removed (signed queries, users, tokens). Everything else stays as it was announced, bad values above all.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from cropline.core.keys import canonical_json
from cropline.core.schemas import BOX, MANIFEST
from cropline.core.scrub import MASK, scrub
from cropline.intake.quarantine import QUARANTINE

if TYPE_CHECKING:
    from expectations.validate import Verdict

_JSON = ("attributes", "raw")


def quarantine_table(manifest: pa.Table, verdict: Verdict, manifest_key: str) -> pa.Table:
    """Return the bad rows of ``verdict`` in the manifest's order, as QUARANTINE."""
    bad = pa.array(list(verdict.bad_rows), pa.int64())
    rows = manifest.filter(pc.is_in(manifest["row"], value_set=bad)).combine_chunks()
    columns = {field.name: _clean(rows[field.name], field) for field in MANIFEST}
    columns["broken"] = pa.array([verdict.bad_rows[row] for row in rows["row"].to_pylist()], pa.list_(pa.string()))
    columns["manifest"] = pa.array([manifest_key] * len(rows), pa.string())
    columns["docs"] = pa.array([verdict.docs_url] * len(rows), pa.string())
    return pa.table([columns[name] for name in QUARANTINE.names], schema=QUARANTINE)


def _clean(column: pa.ChunkedArray, field: pa.Field) -> pa.Array:
    values = _one_array(column, field.type)
    if field.name == "boxes":
        return _clean_boxes(values)
    if field.type == pa.list_(pa.string()):
        return _rebuilt(values, _cleaned_texts(values.flatten(), scrub))
    if field.type == pa.string():
        return _cleaned_texts(values, scrub_json if field.name in _JSON else scrub)
    return values


def _clean_boxes(lists: pa.ListArray) -> pa.ListArray:
    boxes = lists.flatten()
    fields = [pc.struct_field(boxes, field.name) for field in BOX]
    fields = [_cleaned_texts(f, scrub) if kind.type == pa.string() else f for f, kind in zip(fields, BOX, strict=True)]
    return _rebuilt(lists, pa.StructArray.from_arrays(fields, fields=list(BOX), mask=boxes.is_null()))


def _rebuilt(lists: pa.ListArray, values: pa.Array) -> pa.ListArray:
    """Return the lists with other values. Null lists stay null."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0)
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths).cast(pa.int32())])
    return pa.ListArray.from_arrays(offsets, values, type=lists.type, mask=lists.is_null())


def _cleaned_texts(texts: pa.Array, clean: Callable[[str], str]) -> pa.Array:
    """Return the cleaned texts. Each distinct text is cleaned once."""
    coded = texts.dictionary_encode()
    cleaned = pa.array([clean(text) for text in coded.dictionary.to_pylist()], pa.string())
    return cleaned.take(coded.indices)


def scrub_json(text: str) -> str:
    """Return JSON without secrets. Text that is not JSON is scrubbed as text."""
    try:
        value = json.loads(text)
    except ValueError:
        return scrub(text)
    return canonical_json(_scrub_value(value))


def _scrub_value(value: Any) -> Any:
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, list):
        return [_scrub_value(entry) for entry in value]
    if isinstance(value, dict):
        return {scrub(name): MASK if _names_a_secret(name) else _scrub_value(entry) for name, entry in value.items()}
    return value


def _names_a_secret(name: str) -> bool:
    return scrub(f"{name}=x").endswith(MASK)


def _one_array(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    chunks = column.combine_chunks()
    if isinstance(chunks, pa.ChunkedArray):
        return pa.concat_arrays(chunks.chunks) if chunks.num_chunks else pa.array([], kind)
    return chunks
