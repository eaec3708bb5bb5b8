"""Quarantine: files with the bad rows of manifests and the reasons, without secrets.

The original row stays in the manifest, at the key and row that each quarantine row names. No row is ever removed; a
replay adds a mark beside the file, with the run that did it:

    quarantine/<source>/<day>/<manifest>.parquet
    quarantine/<source>/<day>/<manifest>.replayed/<flow run>-<rows>.json
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cropline.core import storage
from cropline.core.errors import ManifestError, StorageError
from cropline.core.keys import canonical_json, digest
from cropline.core.schemas import MANIFEST

if TYPE_CHECKING:
    from cropline.core.store_spec import StoreSpec

PREFIX = "quarantine/"

QUARANTINE = pa.schema(
    [
        ("manifest", pa.string()),  # storage key of the manifest with the original row
        *MANIFEST,
        ("broken", pa.list_(pa.string())),  # names of the broken expectations
        ("docs", pa.string()),  # address of the Data Docs page of the validation
    ]
)


def quarantine_key(manifest_key: str) -> str:
    """Return the key of the file with a manifest's bad rows."""
    return PREFIX + manifest_key.removeprefix("manifests/")


def read(spec: StoreSpec, key: str) -> pa.Table:
    """Return one quarantine file (QUARANTINE). Raise ManifestError when it does not exist or is invalid."""
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(storage.read(spec, key)))
        return table.select(QUARANTINE.names).cast(QUARANTINE)
    except StorageError as error:
        raise ManifestError(f"quarantine {key}: {error}") from error
    except (pa.ArrowInvalid, KeyError) as error:
        raise ManifestError(f"quarantine {key} is not of this version ({type(error).__name__})") from error


@dataclass(frozen=True)
class Mark:
    """One replay of a row: the run, its time, and the profiles."""

    flow_run: str
    at: datetime
    profiles: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """One quarantined row (QUARANTINE, as a dict) and its replays, oldest first."""

    row: dict[str, Any]
    marks: tuple[Mark, ...] = ()

    @property
    def place(self) -> tuple[str, int]:
        """Manifest key and row number."""
        return self.row["manifest"], self.row["row"]

    def replayed(self, profiles: Collection[str]) -> bool:
        """Return whether it was replayed for all of these profiles."""
        return bool(self.marks) and set(profiles) <= {name for mark in self.marks for name in mark.profiles}


@dataclass(frozen=True)
class QuarantineFilter:
    """Selects rows; empty or None selects any. Times are capture times: since <= captured_at < until.

    ``manifests``: storage keys, or their ends.
    """

    manifests: Sequence[str] = ()
    rules: Sequence[str] = ()
    stores: Sequence[str] = ()
    cameras: Sequence[str] = ()
    images: Sequence[str] = ()
    since: datetime | None = None
    until: datetime | None = None
    unknown: bool = False  # also select rows that have no store, camera or id

    def holds(self, row: dict[str, Any]) -> bool:
        """Return whether the filter selects this row. A row without a capture time matches no time range."""
        chosen = ((self.stores, "store_id"), (self.cameras, "camera_id"), (self.images, "image_id"))
        known = [(values, row[name]) for values, name in chosen if not (self.unknown and row[name] is None)]
        if any(values and value not in values for values, value in known):
            return False
        if self.rules and not set(self.rules) & set(row["broken"]):
            return False
        if self.since is None and self.until is None:
            return True
        captured = row["captured_at"]
        return captured is not None and not (
            (self.since is not None and captured < self.since) or (self.until is not None and captured >= self.until)
        )


def find(spec: StoreSpec, source: str, wanted: QuarantineFilter) -> Iterator[Entry]:
    """Yield the selected rows of a source, oldest day first, one file at a time.

    Raise ManifestError or StorageError.
    """
    keys = storage.list_keys(spec, f"{PREFIX}{source}/")
    marks: dict[str, list[str]] = {}
    for key in keys:
        if key.endswith(".json"):
            marks.setdefault(key.rpartition("/")[0].removesuffix(".replayed"), []).append(key)
    for key in keys:
        if not key.endswith(".parquet"):
            continue
        if wanted.manifests and not any(_names(name, key) for name in wanted.manifests):
            continue
        rows = [row for row in read(spec, key).to_pylist() if wanted.holds(row)]
        replays = _marks(spec, marks.get(key.removesuffix(".parquet"), ())) if rows else {}
        for row in rows:
            yield Entry(row, tuple(replays.get(row["row"], ())))


def _names(name: str, key: str) -> bool:
    """Return whether a manifest's key, its quarantine file's key, or the end of either names this file."""
    plain = name.removeprefix("manifests/").removeprefix(PREFIX).removesuffix(".parquet")
    file = key.removeprefix(PREFIX).removesuffix(".parquet")
    return file == plain or file.endswith(f"/{plain}")


def _marks(spec: StoreSpec, keys: Iterable[str]) -> dict[int, list[Mark]]:
    found: dict[int, list[Mark]] = {}
    for key in keys:
        try:
            stored = json.loads(storage.read(spec, key))
            mark = Mark(stored["flow_run"], datetime.fromisoformat(stored["at"]), tuple(stored["profiles"]))
            rows = [int(row) for row in stored["rows"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ManifestError(f"{key} is not a valid mark of a replay ({type(error).__name__})") from error
        for row in rows:
            found.setdefault(row, []).append(mark)
    return {row: sorted(marks, key=lambda mark: mark.at) for row, marks in found.items()}


def mark_replayed(spec: StoreSpec, manifest_key: str, rows: Collection[int], mark: Mark) -> None:
    """Record that these rows of a manifest became work items. Marks are added, never changed. Raise StorageError."""
    stored = {
        "flow_run": mark.flow_run,
        "at": mark.at.isoformat(),
        "profiles": sorted(mark.profiles),
        "rows": sorted(rows),
    }
    folder = quarantine_key(manifest_key).removesuffix(".parquet")
    name = f"{mark.flow_run}-{digest(canonical_json([stored['rows'], stored['profiles']]))[:12]}"
    storage.write(spec, f"{folder}.replayed/{name}.json", canonical_json(stored).encode())


def add_rows(spec: StoreSpec, manifest_key: str, bad: pa.Table) -> None:
    """Add bad rows (QUARANTINE) of a manifest to its file. Raise ManifestError or StorageError."""
    import io

    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    key = quarantine_key(manifest_key)
    if storage.exists(spec, key):
        held = read(spec, key)
        kept = held.filter(pc.invert(pc.is_in(held["row"], bad["row"].combine_chunks())))
        bad = pa.concat_tables([kept, bad]).sort_by("row")
    buffer = io.BytesIO()
    pq.write_table(bad, buffer, compression="zstd")
    storage.write(spec, key, buffer.getvalue())
