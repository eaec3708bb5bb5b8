"""Bloom filters of data files: which row groups may hold some texts.

A file's add action says where its filters are, so a look-up reads 32 bytes a row group instead of each file's footer.
delta-rs and pyarrow write filters; delta-rs reads them, but always the footer first.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cropline.core import storage
from cropline.core.errors import StorageError
from cropline.core.store_spec import StoreSpec

if TYPE_CHECKING:
    import pyarrow.parquet as pq

COLUMNS = ("key", "image_id")

TAG = "cropline.blooms"
"""Tag of a file: by row group and column, offset and size (bytes) of a filter's bits. ``4,32 36,64;100,32 132,64``."""

Hashes = npt.NDArray[np.uint64]
_Place = tuple[int, int]

_BLOCK = 32  # bytes: 8 words of 32 bits, of which a value sets one bit each
# The salts of Parquet's split block Bloom filters.
_SALTS = np.array(
    [0x47B6137B, 0x44974D91, 0x8824AD5B, 0xA2B7289D, 0x705495C7, 0x2DF1424B, 0x9EFC4947, 0x5C6BFB31], np.uint32
)
_BLOCKS_AT_MOST = 64  # for more values than this, whole filters are read


def hashes_of(values: Collection[str]) -> Hashes:
    """Return the hashes by which filters know these texts."""
    from xxhash import xxh64_intdigest

    return np.array([xxh64_intdigest(value.encode()) for value in values], np.uint64)


def tag(metadata: pq.FileMetaData) -> str | None:
    """Return the tag of a file that DataFileWriter wrote; None when a row group lacks a filter."""
    numbers = {metadata.schema.column(number).name: number for number in range(metadata.num_columns)}
    if any(name not in numbers for name in COLUMNS):
        return None
    groups = []
    for group in range(metadata.num_row_groups):
        chunks = [metadata.row_group(group).column(numbers[name]) for name in COLUMNS]
        if any(chunk.bloom_filter_offset is None or chunk.bloom_filter_length is None for chunk in chunks):
            return None
        groups.append(" ".join("{},{}".format(*_bits(c.bloom_filter_offset, c.bloom_filter_length)) for c in chunks))
    return ";".join(groups)


def _bits(offset: int, length: int) -> _Place:
    """Return where a filter's bits are. A small header is before them, and pyarrow makes them a power of two."""
    size = 1 << (length.bit_length() - 1)
    return offset + length - size, size


def groups_that_may_hold(
    spec: StoreSpec, key: str, tags: dict[str, Any], column: str, wanted: Hashes
) -> list[int] | None:
    """Return the row groups of a file whose filters do not rule out all values; None when its tags name no filters."""
    text = tags.get(TAG)
    if text is None:
        return None
    at = COLUMNS.index(column)
    places: list[_Place] = []
    for group in text.split(";"):
        offset, size = group.split(" ")[at].split(",")
        places.append((int(offset), int(size)))
    if len(wanted) > _BLOCKS_AT_MOST:
        filters = _read(spec, key, places)
        return [n for n, bits in enumerate(filters) if _hits(_words(bits)[_blocks(wanted, len(bits))], wanted)]
    blocks = [_blocks(wanted, size) for _, size in places]
    parts = [
        (offset + int(block) * _BLOCK, _BLOCK) for (offset, _), of in zip(places, blocks, strict=True) for block in of
    ]
    read = _words(b"".join(_read(spec, key, parts))).reshape(len(places), len(wanted), -1)
    return [number for number, words in enumerate(read) if _hits(words, wanted)]


def _blocks(wanted: Hashes, size: int) -> npt.NDArray[np.uint64]:
    """Return the block of each value in a filter of this size."""
    return ((wanted >> np.uint64(32)) * np.uint64(size // _BLOCK)) >> np.uint64(32)


def _words(bits: bytes) -> npt.NDArray[np.uint32]:
    return np.frombuffer(bits, "<u4").reshape(-1, len(_SALTS))


def _hits(blocks: npt.NDArray[np.uint32], wanted: Hashes) -> bool:
    """Return whether a value's bits are all set in its block. ``blocks``: one row a value."""
    low = (wanted & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    masks = np.uint32(1) << ((low[:, None] * _SALTS) >> np.uint32(27))
    return bool((blocks & masks == masks).all(axis=1).any())


def _read(spec: StoreSpec, key: str, places: Sequence[_Place]) -> list[bytes]:
    if spec.local_path is None:
        return storage.read_ranges(spec, key, places)
    file = os.open(spec.local_path / key, os.O_RDONLY)
    try:
        parts = [os.pread(file, size, offset) for offset, size in places]
    finally:
        os.close(file)
    if any(len(part) != size for part, (_, size) in zip(parts, places, strict=True)):
        raise StorageError(f"{spec.uri(key)} is shorter than it was")
    return parts
