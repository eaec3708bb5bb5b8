"""Converts schemas.IMAGES rows to the pool's work, and the pool's outcomes to schemas.CROPS rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from cropline.core.keys import RESCALED, box_fingerprint
from cropline.core.own_columns import OwnColumn, arrow_type, job_type, job_value, own_columns, stored_type
from cropline.core.schemas import BOX, CROPS, IMAGES, WORK
from fugue_jobs.work import Box, CropOutcome, ImageOutcome, ImageWork, Order

_OF_PHOTO = {
    "image_width": "width",
    "image_height": "height",
    "image_sha256": "sha256",
    "image_bytes": "bytes",
    "decoder": "decoder",
    "image_phash": "phash",
}
_OF_BOX = frozenset(field.name for field in BOX)
_OF_WORK = frozenset(field.name for field in WORK)
_KEYS = [(name, "ascending") for name in ("manifest", "manifest_row", "box_index", "profile")]


class Ended(NamedTuple):
    """An image's input row and its outcome."""

    image: dict[str, Any]
    outcome: ImageOutcome


def read_images(tables: Iterable[pa.Table]) -> Iterator[tuple[dict[str, Any], ImageWork]]:
    """Yield each row of the tables (schemas.IMAGES) with its work, a few rows at a time."""
    for table in tables:
        for batch in _as_images(table).to_batches(max_chunksize=64):
            for row in batch.to_pylist():
                yield row, _work(row)


def crops_schema(columns: Sequence[OwnColumn]) -> pa.Schema:
    """Return what the transformer returns: CROPS, then the columns of steps."""
    return pa.schema([*CROPS, *(pa.field(column.name, job_type(column.kind)) for column in columns)])


def crop_rows(ended: list[Ended], columns: Sequence[OwnColumn] = ()) -> pa.Table:
    """Return crops_schema rows: facts about the image, the box as received, the crop, and what steps returned."""
    # Building columns takes half the time of building rows. The system's memory pool returns excess
    # capacity of grown arrays; Arrow's default pool keeps it: a third more memory for a large batch.
    pool = pa.system_memory_pool()
    ordered = [Ended(image, outcome._replace(crops=_sorted(image, outcome))) for image, outcome in ended]
    schema = crops_schema(columns)
    arrays = [pa.array(_column(field.name, ordered), field.type, memory_pool=pool) for field in CROPS]
    kinds = [schema.field(column.name).type for column in columns]
    arrays += [
        pa.array(_returned(column, ordered), kind, memory_pool=pool)
        for column, kind in zip(columns, kinds, strict=True)
    ]
    return pa.table(arrays, schema=schema)


def in_order(crops: pa.Table) -> pa.Table:
    """Return an engine's rows as schemas.CROPS and other columns, ordered by manifest, row, box and profile.

    Nothing is copied when the engine returned them in that order already.
    """
    others = own_columns(crops, CROPS)
    crops = crops.select([*CROPS.names, *others]).cast(pa.schema([*CROPS, *(crops.schema.field(n) for n in others)]))
    order = pc.sort_indices(crops.select([name for name, _ in _KEYS]), sort_keys=_KEYS)
    as_they_are = order.equals(pa.array(range(len(order)), order.type))
    return crops if as_they_are else crops.take(order)


def typed(crops: pa.Table, columns: Sequence[OwnColumn]) -> pa.Table:
    """Return the rows with the columns that are not CROPS's in their types: see own_columns."""
    kinds = {column.name: arrow_type(column.kind) for column in columns}
    for name in own_columns(crops, CROPS):
        at = crops.schema.get_field_index(name)
        kind = kinds.get(name) or stored_type(crops.schema.field(name).type)
        crops = crops.set_column(at, name, crops.column(at).cast(kind, safe=False))
    return crops


def _sorted(image: dict[str, Any], outcome: ImageOutcome) -> list[CropOutcome]:
    return sorted(outcome.crops, key=lambda crop: (crop.box_index, image["work"][crop.order]["profile"]))


def _as_images(table: pa.Table) -> pa.Table:
    """Return the table as schemas.IMAGES. DuckDB quotes the field ``label``, so nested fields match by position."""
    columns = []
    for field in IMAGES:
        column = table.column(field.name).combine_chunks()
        if pa.types.is_list(field.type):
            column = _renamed(column, field.type)
        columns.append(column.cast(field.type))
    return pa.table(columns, schema=IMAGES)


def _renamed(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    structs = column.values
    found = [structs.type.field(i).name.strip('"') for i in range(structs.type.num_fields)]
    wanted = [kind.value_type.field(i).name for i in range(kind.value_type.num_fields)]
    if found != wanted:
        raise ValueError(f"the engine returned fields {found}, not {wanted}")
    fields = [structs.field(i).cast(kind.value_type.field(i).type) for i in range(len(wanted))]
    values = pa.StructArray.from_arrays(fields, fields=list(kind.value_type))
    return pa.ListArray.from_arrays(column.offsets, values, type=kind, mask=column.is_null())


def _work(row: dict[str, Any]) -> ImageWork:
    return ImageWork(
        source=row["source"],
        image_id=row["image_id"],
        url=row["url"] or "",
        expected_bytes=row["bytes"],
        expected_sha256=row["sha256"],
        coordinates=row["coordinates"],
        orientation=row["orientation"],
        boxes=tuple(Box(*(box[name] for name in Box._fields)) for box in row["boxes"] or ()),
        orders=tuple(
            Order(
                work["profile"],
                work["fingerprint"],
                work["recipe"],
                None if work["only"] is None else frozenset(work["only"]),
            )
            for work in row["work"] or ()
        ),
        declared=(_side(row["width"]), _side(row["height"])),
        **{name: row[name] for name in ("version", "captured_at", "store_id", "camera_id")},
    )


def _column(name: str, ended: list[Ended]) -> list[Any]:
    if name in CropOutcome._fields:
        of = attrgetter(name)
        return [of(crop) for _, outcome in ended for crop in outcome.crops]
    if name in _OF_PHOTO:
        of = attrgetter(_OF_PHOTO[name])
        return [value for _, outcome in ended for value in (of(outcome),) * len(outcome.crops)]
    if name == "box_fingerprint":
        return [
            box_fingerprint(
                image["version"],
                image["coordinates"],
                image["orientation"],
                image["boxes"][crop.box_index],
                image["work"][crop.order]["profile_hash"],
                rescaled_from=(image["width"], image["height"]) if RESCALED in (crop.flags or "").split(",") else None,
            )
            for image, outcome in ended
            for crop in outcome.crops
        ]
    if name in _OF_BOX:
        return [_plain(image["boxes"][crop.box_index][name]) for image, outcome in ended for crop in outcome.crops]
    if name in _OF_WORK:
        return [image["work"][crop.order][name] for image, outcome in ended for crop in outcome.crops]
    return [value for image, outcome in ended for value in (image[name],) * len(outcome.crops)]


def _returned(column: OwnColumn, ended: list[Ended]) -> list[Any]:
    """Return the column's value of each crop: what the step of its profile returned, else null."""
    names = dict(column.returned)
    return [
        None if not crop.values else job_value(crop.values.get(names.get(image["work"][crop.order]["profile"], "")))
        for image, outcome in ended
        for crop in outcome.crops
    ]


def _side(value: int | None) -> int | None:
    """Return None for a size that no picture can have: such a value declares nothing."""
    return value if value and value > 0 else None


def _plain(value: Any) -> Any:
    """Return NaN as null. Engines treat NaN in frames differently, and the row's reason reports it already."""
    return None if isinstance(value, float) and math.isnan(value) else value
