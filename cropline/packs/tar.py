"""A WebDataset shard: a plain tar, for each crop NAME.json with its facts and NAME.jpg (or another) with its picture."""

from __future__ import annotations

import hashlib
import tarfile
from typing import BinaryIO

from cropline.keys import canonical_json
from cropline.packs.pack import Sample, Sealed

_BLOCK = 512
_LONGEST, _SIZE, _SUM = 100, 124, 148  # of a ustar header: how long a name may be, where size and checksum stand


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
    return _head(name, len(data)) + data + bytes(-len(data) % _BLOCK)


def _head(name: str, size: int) -> bytes:
    """As tarfile makes it for a plain file, in a third of the time: there are two of them a crop."""
    if len(name) > _LONGEST:
        head = tarfile.TarInfo(name)
        head.size, head.mode = size, 0o644
        return head.tobuf(tarfile.USTAR_FORMAT)
    filled = bytearray(_EMPTY)
    filled[: len(name)] = name.encode("ascii")
    filled[_SIZE : _SIZE + 11] = b"%011o" % size
    # The sum is over the header with blanks in the sum's own place, as they stand in the template.
    filled[_SUM : _SUM + 7] = b"%06o\0" % sum(filled)
    return bytes(filled)


def _empty() -> bytes:
    head = tarfile.TarInfo("")
    head.mode = 0o644
    made = head.tobuf(tarfile.USTAR_FORMAT)
    return made[:_SUM] + b" " * 8 + made[_SUM + 8 :]


_EMPTY = _empty()
