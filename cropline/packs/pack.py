"""What every kind of pack has in common: samples go in, one after the other; sealed, it says where each one's bytes lie.

Belongs here: the interface and its shapes. Does not: a format (tar.py, parquet.py) or a store (spool.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

KINDS = {"shards": "tar", "parquet": "parquet"}
"""Output kind of a profile -> extension of its packs."""


@dataclass(frozen=True)
class Sample:
    """One crop. ``name`` is unique in its pack and has no dot; ``facts`` are what a reader learns beside the picture.

    The picture's ``sha256`` is one of them.
    """

    name: str
    extension: str
    facts: Mapping[str, str | int | float | None]
    data: bytes


@dataclass(frozen=True)
class Sealed:
    """A whole pack: its name, its size, and where each sample's picture begins, in the order of adding.

    The name is a hash (hex) of all that its bytes follow from: packs of one name have the same bytes. The pictures go into it by
    their own hashes, which are facts, not by their bytes: those were hashed once, and that costs as much as writing them.
    """

    name: str
    size: int
    offsets: list[int]


class Pack(Protocol):
    """A pack that is being written to a file of its own. The same samples in the same order give the same bytes."""

    @property
    def size(self) -> int:
        """Bytes so far, about."""
        ...

    def add(self, sample: Sample) -> None:
        """Append a sample."""
        ...

    def seal(self) -> Sealed:
        """Write what belongs at the end; the file stays open. Nothing can be added any more."""
        ...

    def close(self) -> None:
        """Let go of the file, which is about to be closed, whether sealed or not."""
        ...
