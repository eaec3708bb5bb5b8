"""Stores packs: each is written to a local file, then stored under a name made of its content, or not at all.

The name is ``shards/<profile>/<batch>/<hash>.tar``, so attempts at a batch never overwrite each other's packs. The
index comes last: ``<hash>.json`` beside a tar, the footer of a Parquet file.
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

CURRENT = f"{SHARDS}/current.json"
"""Says how new the indexes of current crops are (cropline/maintenance/current.py)."""

_BUFFER = 1 << 20  # with the usual buffer, which is smaller than a crop, each crop would be a call
_numbers = itertools.count()


def pack_folder(profile: str, batch_id: str) -> str:
    """The folder of a batch's packs."""
    return f"{SHARDS}/{safe_name(profile, keep=20)}/{batch_id or 'loose'}"


def sample_name(key: str) -> tuple[str, str]:
    """(name, extension) of a crop in a pack, from its key. The profile is left out: the pack's folder names it."""
    name, _, extension = key.removeprefix(f"{CROPS}/").partition("/")[2].rpartition(".")
    return name, extension


def index_key(shard: str) -> str | None:
    """The key of the index beside a pack, if its kind has one."""
    return f"{shard.removesuffix('.tar')}.json" if shard.endswith(".tar") else None


def current_key(shard: str) -> str:
    """The key of the index of a pack's current crops, which maintenance writes."""
    return f"{shard}.current.json"


def beside(shard: str) -> list[str]:
    """The keys of all that may lie beside a pack, and goes with it."""
    index = index_key(shard)
    return [current_key(shard), *([index] if index is not None else [])]


class Spool:
    """One pack that is being written. ``samples`` and the offsets from ``put`` correspond."""

    def __init__(self, spec: StoreSpec, kind: str, folder: str) -> None:
        self._spec, self._folder, self._kind = spec, folder, kind
        self.samples: list[str] = []
        self._path: Path | None = None
        self._file: BinaryIO
        if spec.local_path is not None:
            # In the final folder, so that a rename finishes it. LocalStore, too, treats names
            # with # and digits as unfinished.
            self._path = spec.local_path / folder / f"{next(_numbers)}.{KINDS[kind]}#{os.getpid()}"
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("w+b", buffering=_BUFFER)
        else:
            # Unnamed from the beginning: whatever kills this process, no file stays.
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
        """Seal the pack and store it. Returns its key and where its samples are. Raises StorageError."""
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
        """Close the file. A pack that was not put is discarded."""
        with ExitStack() as ending:  # a full disk fails the first of these; the file is removed all the same
            if self._path is not None:
                ending.callback(self._path.unlink, missing_ok=True)
            ending.callback(self._file.close)
            if not self._file.closed:
                self._pack.close()


def _index(key: str, sealed: Sealed, names: Sequence[str]) -> bytes:
    """The index as ``wids`` reads it, with each sample's name and offset."""
    shard = {"url": key.rpartition("/")[2], "nsamples": len(names), "filesize": sealed.size}
    samples = [list(pair) for pair in zip(names, sealed.offsets, strict=True)]
    index = {"__kind__": "wids-shard-index-v1", "wids_version": 1, "shardlist": [shard], "samples": samples}
    return json.dumps(index, separators=(",", ":")).encode()
