"""A pack on its way into the store: written to a local file, then put under a name made of its content, whole or not at all.

Belongs here: keys of packs and how they get there. Does not: what is in them.
A name is ``shards/<profile>/<batch>/<hash>.tar``. Attempts at a batch, and zombies of them, fill packs differently, so they
write different objects; none ever overwrites another's. The index comes last: ``<hash>.json`` beside a tar, the footer of a Parquet.
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from cropline.core import storage
from cropline.core.errors import StorageError
from cropline.core.keys import CROPS, safe_name
from cropline.packs.kinds import new_pack
from cropline.packs.pack import KINDS, Pack, Sample, Sealed

if TYPE_CHECKING:
    from cropline.core.store_spec import StoreSpec

SHARDS = "shards"
"""Prefix of all packs' keys."""

_BUFFER = 1 << 20  # a crop is larger than the usual buffer: each would be a call of its own
_numbers = itertools.count()


def pack_folder(profile: str, batch_id: str) -> str:
    """Where the packs of a batch lie."""
    return f"{SHARDS}/{safe_name(profile, keep=20)}/{batch_id or 'loose'}"


def sample_name(key: str) -> tuple[str, str]:
    """(name, extension) of a crop in a pack, from its key: without the profile, which the pack's folder names."""
    name, _, extension = key.removeprefix(f"{CROPS}/").partition("/")[2].rpartition(".")
    return name, extension


def index_key(shard: str) -> str | None:
    """Key of the index beside a pack, if its kind has one."""
    return f"{shard.removesuffix('.tar')}.json" if shard.endswith(".tar") else None


class Spool:
    """One pack that is being written. ``samples`` and the offsets of ``put`` go together."""

    def __init__(self, spec: StoreSpec, kind: str, folder: str) -> None:
        self._spec, self._folder, self._kind = spec, folder, kind
        self.samples: list[str] = []
        self._path: Path | None = None
        self._file: BinaryIO
        if spec.local_path is not None:
            # In its folder, so that a rename finishes it. Names that end in # and digits are unfinished for LocalStore too.
            self._path = spec.local_path / folder / f"{next(_numbers)}.{KINDS[kind]}#{os.getpid()}"
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("w+b", buffering=_BUFFER)
        else:
            # Without a name from the beginning: whatever kills this process, nothing of it stays.
            self._file = cast("BinaryIO", tempfile.TemporaryFile(buffering=_BUFFER, prefix="cropline-"))  # noqa: SIM115
        self._pack: Pack = new_pack(kind, self._file)

    @property
    def size(self) -> int:
        return self._pack.size

    def add(self, sample: Sample) -> None:
        """Append a sample."""
        self._pack.add(sample)
        self.samples.append(sample.name)

    def put(self) -> tuple[str, Sealed]:
        """Seal it and put it where it stays: (its key, where the samples lie in it). Raises StorageError."""
        try:
            sealed = self._pack.seal()
            key = f"{self._folder}/{sealed.name[:24]}.{KINDS[self._kind]}"
            if self._path is not None and self._spec.local_path is not None:
                self._path.replace(self._spec.local_path / key)
            else:
                self._file.seek(0)
                storage.write(self._spec, key, self._file)
        except OSError as error:
            raise StorageError(f"a pack could not be written: {type(error).__name__}") from error
        finally:
            self.close()
        index = index_key(key)
        if index is not None:
            storage.write(self._spec, index, _index(key, sealed, self.samples))
        return key, sealed

    def close(self) -> None:
        """Let go of it; what was not put is gone."""
        with ExitStack() as ending:  # a full disk fails the first of these, and the file goes all the same
            if self._path is not None:
                ending.callback(self._path.unlink, missing_ok=True)
            ending.callback(self._file.close)
            if not self._file.closed:
                self._pack.close()


def _index(key: str, sealed: Sealed, names: Sequence[str]) -> bytes:
    """As ``wids`` reads it, with each sample's name and offset beside it."""
    shard = {"url": key.rpartition("/")[2], "nsamples": len(names), "filesize": sealed.size}
    samples = [list(pair) for pair in zip(names, sealed.offsets, strict=True)]
    index = {"__kind__": "wids-shard-index-v1", "wids_version": 1, "shardlist": [shard], "samples": samples}
    return json.dumps(index, separators=(",", ":")).encode()
