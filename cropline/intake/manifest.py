"""Map raw items to manifest rows by the settings' JMESPaths, and read and write manifests as Parquet.

Nothing is dropped: unknown fields go to ``attributes``, and ``raw`` keeps the item as it came.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache, partial
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cropline.config.settings import ApiSettings, FieldMap
from cropline.core import storage
from cropline.core.errors import ManifestError
from cropline.core.keys import canonical_json, content_hash, digest
from cropline.intake.item_boxes import given_boxes, read_box
from cropline.intake.item_url import photo_url
from cropline.intake.item_values import UNREADABLE, read_text, read_time, read_whole
from cropline.intake.json_bytes import LEFT_OUT, left_out
from cropline.intake.plain_values import plain
from cropline.intake.stamps import base_of
from cropline.intake.user_map import OUR_NAMES, MapError, mapped

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from cropline.core.store_spec import StoreSpec

Getter = Callable[[Any], Any]
Size = tuple[float | None, float | None]

_PLAIN_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_QUERY = re.compile(r'\?[^"\s]*')
_BOX_FIELDS = ("box_id", "xmin", "ymin", "xmax", "ymax", "polygon", "rotation", "label", "score")
_TEXTS = ("image_id", "version", "url", "store_id", "camera_id", "sha256")
_WHOLE_NUMBERS = ("width", "height", "bytes")
_TIMES = ("captured_at", "updated_at")
_LEFT_OUT = canonical_json(LEFT_OUT)[1:-1]
_NAME = 200  # longest field name kept of an item that is too large, in characters

MAX_RAW = 1_000_000  # longest item that ``raw`` keeps, in characters
_CHUNK_RAW = 32_000_000  # raw characters in memory while a manifest is written


def item_digest(item: Any) -> str:
    """Return the identity of a raw item (32 hex digits).

    Query strings are cut: a newly signed URL is not a new item.
    """
    return _digest(canonical_json(item))


def _digest(text: str) -> str:
    return digest(_QUERY.sub("", text))[:32]


def taken(item: Any, limit: int) -> tuple[str, Any]:
    """Return the digest of a bounded item, and the bounded item. A small item is serialised once."""
    text = canonical_json(item)
    if len(text) <= limit:
        return _digest(text), item
    small = bounded(item, limit)
    return item_digest(small), small


def bounded(item: Any, limit: int) -> Any:
    """Return the item; when its JSON is longer than ``limit``, its large fields are replaced by their sizes."""
    text = canonical_json(item)
    if len(text) <= limit:
        return item
    if isinstance(item, dict):
        fields = {name[:_NAME]: _bounded_value(value, limit // 64) for name, value in item.items()}
        if len(canonical_json(fields)) <= limit:
            return fields
    return _bounded_value(item, 0)


def _bounded_value(value: Any, limit: int) -> Any:
    text = canonical_json(value)
    return value if len(text) <= limit else left_out(len(text), digest(text), "too large")


def identity(item: Any, api: ApiSettings) -> str:
    """Return what identifies an item within one listing: its id and version, else its whole content."""
    if not isinstance(item, dict) or api.group_by_image:
        return item_digest(item)
    read = _reader(item, api)
    parts = [plain(read(name)) for name in ("image_id", "updated_at", "version")]
    known = parts[0] is not None and all(part is None or isinstance(part, str | int | float) for part in parts)
    return item_digest(parts if known else item)


def image_id(item: Any, api: ApiSettings) -> str | None:
    """Return the image id of an item, if it can be read."""
    value = read_text(_reader(item, api)("image_id")) if isinstance(item, dict) else None
    return value if isinstance(value, str) else None


def updated_at(item: Any, api: ApiSettings) -> datetime | None:
    """Return the item's time of the last change, if it can be read."""
    value = read_time(_reader(item, api)("updated_at"), api) if isinstance(item, dict) else None
    return value if isinstance(value, datetime) else None


def address(item: Any, api: ApiSettings) -> tuple[str, str] | None:
    """Return (image id, digest of its URL) for a URL with a query, which item_digest cuts; else None."""
    name = image_id(item, api)
    url = read_text(_reader(item, api)("url")) if isinstance(item, dict) else None
    if name is None or not isinstance(url, str) or "?" not in url:
        return None
    return name, digest(photo_url(url, base_of(item, api)))


def is_deleted(item: Any, api: ApiSettings) -> bool:
    """Return whether an item says that its photo was deleted. False, 0, "false", "0", "" and null do not say so."""
    if not api.deleted or not isinstance(item, dict):
        return False
    value = _getter(api.deleted)(item)
    return value is not UNREADABLE and bool(value) and str(value).strip().lower() not in ("false", "0", "no", "")


def field_of(item: dict[str, Any], name: str, api: ApiSettings) -> Any:
    """Return the value of one of our fields as the item has it; None when it has none."""
    return _reader(item, api)(name)


def manifest_row(position: int, item: Any, api: ApiSettings) -> dict[str, Any]:
    """Return one item as a row of schemas.MANIFEST.

    ``unreadable`` names our fields whose value could not be converted.
    """
    text = canonical_json(item)
    unreadable = ["item"] if _LEFT_OUT in text else []
    row: dict[str, Any] = {"row": position, "source": api.source, "item_digest": _digest(text)}
    # Percentages become 0..1 when boxes are read.
    row["coordinates"] = "pixels" if api.coordinates == "pixels" else "normalised"
    row["orientation"] = api.orientation
    if not isinstance(item, dict):
        return row | {"unreadable": ["item"], "raw": _raw(text), "boxes": None}
    try:
        own = mapped(item, api)
    except MapError as error:
        return row | {
            "unreadable": ["map"],
            "raw": _raw(text),
            "boxes": None,
            "attributes": canonical_json({"map": str(error)}),
        }
    for names, convert in ((_TEXTS, read_text), (_WHOLE_NUMBERS, read_whole), (_TIMES, partial(read_time, api=api))):
        for name in names:
            value = own[name] if name in own else _getter(getattr(api.fields, name))(item)
            row[name] = _readable(convert(value), name, unreadable)
    if row["url"] is not None:
        row["url"] = photo_url(row["url"], base_of(item, api))
    in_boxes = api.model_copy(update={"fields": OUR_NAMES}) if "boxes" in own else api
    found = own["boxes"] if "boxes" in own else _getter(api.fields.boxes)(item)
    if found is None and api.group_by_image:
        found = [item]
    row["boxes"] = _boxes(found, in_boxes, (row["width"], row["height"]), unreadable)
    row["content_hash"] = content_hash(row["version"] or "", row["coordinates"], api.orientation, row["boxes"] or [])
    row["attributes"] = canonical_json(_unknown(dict(own), OUR_NAMES) if own else _unknown(item, api.fields))
    row["unreadable"] = unreadable
    row["raw"] = _raw(text)
    return row


def _reader(item: dict[str, Any], api: ApiSettings) -> Getter:
    """Return a reader of our fields by name. None of them is known when the user's function fails."""
    if not api.map:
        return lambda name: _getter(getattr(api.fields, name))(item)
    try:
        own = mapped(item, api)
    except MapError:
        return lambda _: None
    return lambda name: own[name] if name in own else _getter(getattr(api.fields, name))(item)


def _raw(text: str) -> str | None:
    return text if len(text) <= MAX_RAW else None


def _readable(value: Any, name: str, unreadable: list[str]) -> Any:
    if value is UNREADABLE:
        unreadable.append(name)
        return None
    return value


def _boxes(value: Any, api: ApiSettings, size: Size, unreadable: list[str]) -> list[dict[str, Any]] | None:
    if value is None:
        return None
    given = given_boxes(value, api.fields)
    if given is None:
        unreadable.append("boxes")
        return None
    getters = {name: _getter(getattr(api.fields, name)) for name in _BOX_FIELDS}
    boxes = []
    for position, box in enumerate(given):
        row, wrong = read_box(box, api, getters, size)
        unreadable += [f"boxes[{position}].{name}" for name in wrong]
        boxes.append(row)
    return boxes


def _unknown(item: dict[str, Any], fields: FieldMap) -> dict[str, Any]:
    """Return the item without mapped fields. Unknown fields of boxes are under ``boxes``, in the boxes' order."""
    known = {path for name, path in fields.model_dump().items() if name not in _BOX_FIELDS}
    rest = {name: value for name, value in item.items() if name not in known or not _PLAIN_NAME.match(name)}
    boxes = item.get(fields.boxes)
    if isinstance(boxes, list) and all(isinstance(box, dict) for box in boxes):
        known_in_box = {getattr(fields, name) for name in _BOX_FIELDS if name not in ("polygon", "rotation")}
        extras = [{k: v for k, v in box.items() if k not in known_in_box} for box in boxes]
        if any(extras):
            rest["boxes"] = extras
    elif boxes:
        rest["boxes"] = boxes
    return rest


@lru_cache(maxsize=256)
def _getter(path: str) -> Getter:
    """Return a reader of one path. Most paths are plain names, and a dict look-up is 20 times as fast as JMESPath."""
    if _PLAIN_NAME.match(path):
        return lambda item: item.get(path)
    if not path:
        return lambda _: None
    import jmespath

    compiled = jmespath.compile(path)

    def read(item: Any) -> Any:
        try:
            return compiled.search(item)
        except (
            ValueError,
            TypeError,
            ArithmeticError,
            LookupError,
            AttributeError,
        ):  # a JMESPath function got a value of a wrong type
            return UNREADABLE

    return read


def write_rows(rows: Iterable[dict[str, Any]], path: Path, *, chunk: int = 2_000) -> int:
    """Write manifest rows to a local Parquet file with ``chunk`` rows in memory at a time; return their number.

    The same rows produce the same bytes: the file holds no time and no host name.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from cropline.core.schemas import MANIFEST

    count = 0
    with pq.ParquetWriter(path, MANIFEST, compression="zstd") as writer:
        for batch in _chunks(rows, chunk):
            writer.write_table(pa.Table.from_pylist(batch, schema=MANIFEST))
            count += len(batch)
    return count


def _chunks(rows: Iterable[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    held = 0
    for row in rows:
        batch.append(row)
        held += len(row.get("raw") or "")
        if len(batch) == size or held > _CHUNK_RAW:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def land(path: Path, source: str, day: str, spec: StoreSpec) -> str:
    """Store a local manifest under a name made of its content; return its storage key.

    Manifests are immutable: landing the same rows again leaves the existing object.
    """
    with path.open("rb") as file:
        name = hashlib.file_digest(file, "sha256").hexdigest()
    key = f"manifests/{source}/{day}/{name[:24]}.parquet"
    storage.write(spec, key, path, only_new=True)
    return key


def read(spec: StoreSpec, key: str, columns: Sequence[str] | None = None, near: Path | None = None) -> pa.Table:
    """Return a landed manifest, or some of its columns. Raise ManifestError when it does not exist or is invalid.

    ``near``: a local copy to read instead.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _manifest_errors(key):
        source = near if near is not None else pa.BufferReader(storage.read(spec, key))
        return pq.read_table(source, columns=list(columns) if columns else None)


def read_mapped(spec: StoreSpec, key: str, near: Path | None = None) -> pa.Table:
    """Return a landed manifest with null in ``raw``, which holds most of its bytes.

    Raise ManifestError when it does not exist or is invalid.
    """
    import pyarrow.parquet as pq

    with (
        _manifest_errors(key),
        near.open("rb") if near is not None else storage.open_object(spec, key) as source,
        pq.ParquetFile(source, pre_buffer=True) as file,
    ):
        return without_raw(file)


def without_raw(file: pq.ParquetFile) -> pa.Table:
    """Return all columns of a manifest's file, whatever they are, with null in ``raw`` if that is text."""
    import pyarrow as pa

    names = file.schema_arrow.names
    at = names.index("raw") if "raw" in names and file.schema_arrow.field("raw").type == pa.string() else None
    if at is None:
        return file.read()
    rows = file.read(columns=[name for name in names if name != "raw"])
    return rows.add_column(at, file.schema_arrow.field("raw"), pa.nulls(len(rows), pa.string()))


def read_rows(
    spec: StoreSpec, key: str, rows: Sequence[int], columns: Sequence[str], near: Path | None = None
) -> pa.Table:
    """Return these rows of a landed manifest, as far as it has them, in its order. ``columns`` may name nested fields.

    ``near``: a local copy to read instead.

    It reads only the row groups that hold them, and only these columns: memory grows with what is requested.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    wanted = pa.array(sorted(set(rows)), pa.int64())
    with (
        _manifest_errors(key),
        near.open("rb") if near is not None else storage.open_object(spec, key) as source,
        pq.ParquetFile(source, pre_buffer=True) as file,
    ):
        first = [0, *accumulate(file.metadata.row_group(i).num_rows for i in range(file.num_row_groups))]
        groups = sorted({bisect_right(first, row) - 1 for row in wanted.to_pylist() if 0 <= row < first[-1]})
        found = [
            group.filter(pc.is_in(group["row"], wanted))
            for group in (file.read_row_group(i, columns=["row", *columns]) for i in groups)
        ]
        # With no row group, the table still needs its schema.
        return pa.concat_tables(found or [file.read_row_groups([], columns=["row", *columns])])


@contextmanager
def _manifest_errors(key: str) -> Iterator[None]:
    import pyarrow as pa

    from cropline.core.errors import StorageError

    try:
        yield
    except StorageError as error:
        raise ManifestError(f"manifest {key}: {error}") from error
    except (pa.ArrowInvalid, KeyError) as error:
        raise ManifestError(f"manifest {key} is not a manifest of this version ({type(error).__name__})") from error
