"""A WebDataset shard: a plain tar, for each crop NAME.json with its facts and NAME.jpg (or another) with its picture."""

from __future__ import annotations

import hashlib
import tarfile
from typing import BinaryIO

from cropline.keys import canonical_json
from cropline.packs.pack import Sample, Sealed

_BLOCK = 512


class TarPack:
    """See pack.Pack. No clock and no user goes in."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._offsets: list[int] = []
        self.size = 0

    def add(self, sample: Sample) -> None:
        """Append the two members of a sample; the picture is the second."""
        facts = canonical_json(dict(sample.facts)).encode()
        picture = _member(f"{sample.name}.{sample.extension}", sample.data)
        both = _member(f"{sample.name}.json", facts) + picture
        self._offsets.append(self.size + len(both) - len(picture) + _BLOCK)
        self._write(both)

    def seal(self) -> Sealed:
        """A tar ends with two empty blocks."""
        self._write(bytes(2 * _BLOCK))
        self._file.flush()
        return Sealed(self._hash.hexdigest(), self.size, self._offsets)

    def close(self) -> None:
        """Nothing is held."""

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)


def _member(name: str, data: bytes) -> bytes:
    head = tarfile.TarInfo(name)
    head.size, head.mode = len(data), 0o644
    # Our names are short and ASCII: old readers take them too.
    return head.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % _BLOCK)
