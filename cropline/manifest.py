"""What an item of the API means: raw items become manifest rows, and manifests become Parquet and come back.

Belongs here: the mapping by the settings' JMESPath, the conversion of values, reading and writing one manifest. Does not:
judging rows (expectations/). Nothing is dropped: what we do not know stays in ``attributes``, and an item with a value
that cannot be converted keeps that item whole in ``raw``.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cropline import storage
from cropline.errors import ManifestError
from cropline.keys import canonical_json, content_hash, digest
from cropline.settings import ApiSettings, FieldMap

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from cropline.storage import StoreSpec

Getter = Callable[[Any], Any]

_PLAIN_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_QUERY = re.compile(r'\?[^"\s]*')
_BOX_FIELDS = ("box_id", "xmin", "ymin", "xmax", "ymax", "label", "score")
_TEXTS = ("image_id", "version", "url", "store_id", "camera_id", "sha256")
_WHOLE_NUMBERS = ("width", "height", "bytes")
_TIMES = ("captured_at", "updated_at")
_UNREADABLE = object()

MAX_RAW = 1_000_000  # characters of an item that is kept as it came
_CHUNK_RAW = 32_000_000  # of all items in memory while a manifest is written


def item_digest(item: Any) -> str:
    """Identity of an item as it came (hex, 32). Query strings are cut: a freshly signed URL is not a new item."""
    return digest(_QUERY.sub("", canonical_json(item)))[:32]


def updated_at(item: Any, fields: FieldMap) -> datetime | None:
    """When the API says the item last changed, if that can be read."""
    value = _time(_getter(fields.updated_at)(item)) if isinstance(item, dict) else None
    return value if isinstance(value, datetime) else None


def image_id(item: Any, api: ApiSettings) -> str | None:
    """The photo that an item is of, if that can be read."""
    value = _text(_getter(api.fields.image_id)(item)) if isinstance(item, dict) else None
    return value if isinstance(value, str) else None


def address(item: Any, api: ApiSettings) -> tuple[str, str] | None:
    """(image id, digest of its URL) of an item whose URL has a query, which item_digest cuts; else None."""
    name = image_id(item, api)
    url = _text(_getter(api.fields.url)(item)) if isinstance(item, dict) else None
    return (name, digest(url)) if name is not None and isinstance(url, str) and "?" in url else None


def manifest_row(position: int, item: Any, api: ApiSettings) -> dict[str, Any]:
    """One item as a row of schemas.MANIFEST; ``unreadable`` names our fields whose value could not be converted."""
    unreadable: list[str] = []
    row: dict[str, Any] = {"row": position, "source": api.source, "item_digest": item_digest(item)}
    row["coordinates"], row["orientation"] = api.coordinates, api.orientation
    if not isinstance(item, dict):
        return row | {"unreadable": ["item"], "raw": _raw(item), "boxes": None}
    for names, convert in ((_TEXTS, _text), (_WHOLE_NUMBERS, _whole), (_TIMES, _time)):
        for name in names:
            row[name] = _readable(convert(_getter(getattr(api.fields, name))(item)), name, unreadable)
    row["boxes"] = _boxes(_getter(api.fields.boxes)(item), api.fields, unreadable)
    row["content_hash"] = content_hash(row["version"] or "", api.coordinates, api.orientation, row["boxes"] or [])
    row["attributes"] = canonical_json(_unknown(item, api.fields))
    row["unreadable"] = unreadable
    row["raw"] = _raw(item)
    return row


def _raw(item: Any) -> str | None:
    text = canonical_json(item)
    return text if len(text) <= MAX_RAW else None


def _readable(value: Any, name: str, unreadable: list[str]) -> Any:
    if value is _UNREADABLE:
        unreadable.append(name)
        return None
    return value


def _boxes(value: Any, fields: FieldMap, unreadable: list[str]) -> list[dict[str, Any]] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(box, dict) for box in value):
        unreadable.append("boxes")
        return None
    getters = {name: _getter(getattr(fields, name)) for name in _BOX_FIELDS}
    boxes = []
    for position, box in enumerate(value):
        row: dict[str, Any] = {}
        for name, get in getters.items():
            convert = _text if name in ("box_id", "label") else _number
            row[name] = _readable(convert(get(box)), f"boxes[{position}].{name}", unreadable)
        boxes.append(row)
    return boxes


def _unknown(item: dict[str, Any], fields: FieldMap) -> dict[str, Any]:
    """The item without what was mapped; boxes' own unknown fields stand under ``boxes``, in the boxes' order."""
    known = {path for name, path in fields.model_dump().items() if name not in _BOX_FIELDS}
    rest = {name: value for name, value in item.items() if name not in known or not _PLAIN_NAME.match(name)}
    boxes = item.get(fields.boxes)
    if isinstance(boxes, list):
        known_in_box = {getattr(fields, name) for name in _BOX_FIELDS}
        extras = [
            {k: v for k, v in box.items() if k not in known_in_box} if isinstance(box, dict) else {} for box in boxes
        ]
        if any(extras):
            rest["boxes"] = extras
    return rest


@lru_cache(maxsize=256)
def _getter(path: str) -> Getter:
    """A reader of one path; a plain name is by far the usual case, and JMESPath's interpreter is 20 times a dict look-up."""
    if _PLAIN_NAME.match(path):
        return lambda item: item.get(path)
    import jmespath

    compiled = jmespath.compile(path)

    def read(item: Any) -> Any:
        try:
            return compiled.search(item)
        except (ValueError, TypeError, ArithmeticError):  # one of its functions met what it does not take
            return _UNREADABLE

    return read


def _text(value: Any) -> Any:
    """Text, or a whole number as text. NUL and lone surrogates are no text: databases and Parquet refuse them."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or "\x00" in value:
        return _UNREADABLE
    try:
        value.encode()
    except UnicodeEncodeError:
        return _UNREADABLE
    return value


def _number(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _UNREADABLE
    try:
        return float(value)
    except OverflowError:
        return _UNREADABLE


def _whole(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        return _UNREADABLE
    return value


def _time(value: Any) -> Any:
    """ISO 8601; without an offset it is UTC. Numbers are not guessed at: seconds and milliseconds look alike."""
    if value is None:
        return None
    if not isinstance(value, str):
        return _UNREADABLE
    try:
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return _UNREADABLE


def write_rows(rows: Iterable[dict[str, Any]], path: Path, *, chunk: int = 2_000) -> int:
    """Write manifest rows to a local Parquet file, ``chunk`` rows in memory at a time; gives their number.

    The same rows give the same bytes: no clock and no host goes in.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from cropline.schemas import MANIFEST

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
    """Put a local manifest where it stays, under a name made of its content; gives its storage key.

    Landing the same rows again finds the object there and leaves it: manifests are immutable.
    """
    with path.open("rb") as file:
        name = hashlib.file_digest(file, "sha256").hexdigest()
    key = f"manifests/{source}/{day}/{name[:24]}.parquet"
    storage.write(spec, key, path, only_new=True)
    return key


def read(spec: StoreSpec, key: str, columns: Sequence[str] | None = None, near: Path | None = None) -> pa.Table:
    """A landed manifest, or some of its columns. Raises ManifestError when it is not there or is not one.

    ``near``: a copy of it on this machine, read in its place.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _manifest_errors(key):
        source = near if near is not None else pa.BufferReader(storage.read(spec, key))
        return pq.read_table(source, columns=list(columns) if columns else None)


def read_mapped(spec: StoreSpec, key: str, near: Path | None = None) -> pa.Table:
    """A landed manifest whose ``raw`` is null in every row: the items as they came are most of its bytes.

    Raises ManifestError when it is not there or is not one.
    """
    import pyarrow.parquet as pq

    with (
        _manifest_errors(key),
        near.open("rb") if near is not None else storage.open_object(spec, key) as source,
        pq.ParquetFile(source, pre_buffer=True) as file,
    ):
        return without_raw(file)


def without_raw(file: pq.ParquetFile) -> pa.Table:
    """All columns of a manifest's file, whatever they are; ``raw``, if it is text, is null."""
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
    """These rows of a landed manifest, as far as it has them, in its order. ``columns`` may name a part of a nested one.

    ``near``: a copy of it on this machine, read in its place.

    Only the row groups that hold them are read, and of these the columns: memory goes by what is asked for.
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
        # Without a group there is still a shape.
        return pa.concat_tables(found or [file.read_row_groups([], columns=["row", *columns])])


@contextmanager
def _manifest_errors(key: str) -> Iterator[None]:
    import pyarrow as pa

    from cropline.errors import StorageError

    try:
        yield
    except StorageError as error:
        raise ManifestError(f"manifest {key}: {error}") from error
    except (pa.ArrowInvalid, KeyError) as error:
        raise ManifestError(f"manifest {key} is not a manifest of this version ({type(error).__name__})") from error
