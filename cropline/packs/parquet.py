"""Crops as rows of a Parquet file, in the image layout of Hugging Face datasets: bytes, path and facts.

Pictures are stored uncompressed and without a dictionary, so each is one range of the file and can be read
like an object.
"""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from cropline.packs.pack import Sample, Sealed

_ROW_GROUP = 16_000_000  # bytes of pictures in memory; readers stream one row group at a time

_FACTS = pa.schema(
    [
        ("key", pa.string()),
        ("source", pa.string()),
        ("image_id", pa.string()),
        ("version", pa.string()),
        ("profile", pa.string()),
        ("fingerprint", pa.string()),
        ("box_id", pa.string()),
        ("box_index", pa.int64()),
        ("label", pa.string()),
        ("store_id", pa.string()),
        ("camera_id", pa.string()),
        ("captured_at", pa.string()),
        ("sha256", pa.string()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("left", pa.int64()),
        ("top", pa.int64()),
        ("right", pa.int64()),
        ("bottom", pa.int64()),
    ]
)
# Of lossless crops too, which are larger than their box. Without them all files of other profiles keep one schema.
_LOSSLESS_FACTS = pa.schema([*_FACTS, ("box_left", pa.int64()), ("box_top", pa.int64())])
_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def _features(columns: pa.Schema) -> dict[str, Any]:
    """The metadata by which ``datasets`` shows pictures instead of bytes."""
    facts = {field.name: _feature(field.type) for field in columns}
    return {"info": {"features": {"image": {"_type": "Image"}, **facts}}}


def _feature(kind: pa.DataType) -> Any:
    """A type as ``datasets`` writes it."""
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    if pa.types.is_struct(kind):
        return {kind.field(at).name: _feature(kind.field(at).type) for at in range(kind.num_fields)}
    names = {pa.float64(): "float64", pa.float32(): "float32", pa.date32(): "date32"}
    return {"dtype": names.get(kind, str(kind)), "_type": "Value"}


def _schema(columns: pa.Schema) -> pa.Schema:
    metadata = {"huggingface": json.dumps(_features(columns))}
    return pa.schema([pa.field("image", _PICTURE), *columns]).with_metadata(metadata)


class ParquetPack:
    """See pack.Pack. At most one row group of pictures is in memory.

    ``facts``: the columns beside the picture; None: those of a crop, which its first sample tells.
    """

    def __init__(self, file: BinaryIO, facts: pa.Schema | None = None) -> None:
        self._file = file
        self._facts = facts
        self._writer: pq.ParquetWriter | None = None
        # The same rows produce the same bytes only with the same Arrow.
        self._hash = hashlib.sha256(f"parquet 1 {pa.__version__}".encode())
        self._waiting: list[Sample] = []
        self._held = 0
        self._offsets: list[int] = []

    @property
    def size(self) -> int:
        """Approximate bytes so far."""
        return self._file.tell() + self._held

    def add(self, sample: Sample) -> None:
        """Append a row."""
        self._hash.update(repr((sample.name, sample.extension, sorted(sample.facts.items()))).encode())
        self._waiting.append(sample)
        self._held += len(sample.data)
        if self._held >= _ROW_GROUP:
            self._flush()

    def seal(self) -> Sealed:
        """Write the footer, which is the file's index."""
        self._flush()
        self.close()
        self._file.flush()
        return Sealed(self._hash.hexdigest(), self._file.tell(), self._offsets)

    def close(self) -> None:
        """Close Arrow's writer: when collected later, it would write to the closed file."""
        if self._writer is not None:
            self._writer.close()

    def _flush(self) -> None:
        """Write what waits as a row group. The first call writes the file's head, also when nothing waits."""
        samples, self._waiting, self._held = self._waiting, [], 0
        if self._writer is None:
            if self._facts is None:
                self._facts = _LOSSLESS_FACTS if samples and "box_left" in samples[0].facts else _FACTS
            self._writer = _writer(self._file, _schema(self._facts))
        if not samples:
            return
        schema = self._writer.schema
        pictures = [{"bytes": s.data, "path": f"{s.name}.{s.extension}"} for s in samples]
        columns = [pictures, *([s.facts.get(name) for s in samples] for name in schema.names[1:])]
        rows = pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)
        begin = self._file.tell()
        self._writer.write_table(rows)
        end = self._file.tell()
        self._file.seek(begin)
        written = self._file.read(end - begin)
        self._offsets += [begin + place for place in _places(written, samples)]


def _writer(file: BinaryIO, schema: pa.Schema) -> pq.ParquetWriter:
    columns = [path for path in _leaves(schema) if path != "image.bytes"]
    return pq.ParquetWriter(
        file,
        schema,
        compression={"image.bytes": "NONE", **dict.fromkeys(columns, "ZSTD")},
        use_dictionary=columns,
        write_statistics=columns,
    )


def _leaves(schema: pa.Schema) -> list[str]:
    """Return the paths of the columns as Parquet names them."""
    lists = {field.name for field in schema if pa.types.is_list(field.type)}
    return ["image.bytes", "image.path", *(f"{n}.list.element" if n in lists else n for n in schema.names[1:])]


def _places(written: bytes, samples: list[Sample]) -> list[int]:
    """Offsets of the pictures in a row group, in their order.

    Each is preceded by its length. Every byte is compared.
    """
    places: list[int] = []
    at = 0
    for sample in samples:
        wanted = struct.pack("<I", len(sample.data)) + sample.data
        at = written.find(wanted, at)
        if at < 0:
            raise ValueError("the Parquet writer does not store the pictures as they are")
        places.append(at + 4)
        at += len(wanted)
    return places
