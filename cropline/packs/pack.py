"""The interface of packs: samples are added one by one; a sealed pack has the offset of each one's bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

KINDS = {"shards": "tar", "parquet": "parquet"}
"""Output kind of a profile -> extension of its packs."""


@dataclass(frozen=True)
class Sample:
    """One crop. ``name`` is unique in its pack and has no dot. ``facts`` are what a reader gets beside the picture.

    They are JSON values, and in Parquet also times.

    The picture's ``sha256`` is one of the facts.
    """

    name: str
    extension: str
    facts: Mapping[str, Any]
    data: bytes


@dataclass(frozen=True)
class Sealed:
    """A complete pack: its name, its size, and the offset of each sample's picture, in the order of adding.

    The name is a hash (hex) of everything that decides its bytes: packs of one name have the same bytes. Pictures enter
    the hash by their own hashes, not by their bytes, because hashing them again would cost as much as writing them.
    """

    name: str
    size: int
    offsets: list[int]


class Pack(Protocol):
    """A pack that is being written to its file. The same samples in the same order produce the same bytes."""

    @property
    def size(self) -> int:
        """Approximate bytes so far."""
        ...

    def add(self, sample: Sample) -> None:
        """Append a sample."""
        ...

    def seal(self) -> Sealed:
        """Write the end of the pack. Nothing can be added afterwards; the file stays open."""
        ...

    def close(self) -> None:
        """Release the file, which is about to be closed, sealed or not."""
        ...
