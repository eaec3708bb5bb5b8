"""Write entries of the table's log: files with their dead rows, and a batch's app transaction, in one atomic object.

delta-rs cannot write deletion vectors. An entry is created only if it does not exist, as delta-rs creates its own: of
two writers of one version, one succeeds.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version as version_of
from typing import TYPE_CHECKING, Any

import numpy as np

from cropline.catalogue import delta, vectors
from cropline.catalogue.files import DataFile, Snapshot
from cropline.catalogue.log import COMPACTION, STEP, entry_key, read_actions, read_info
from cropline.core import storage
from cropline.core.errors import CatalogueError
from cropline.core.store_spec import StoreSpec

if TYPE_CHECKING:
    from deltalake import DeltaTable

_log = logging.getLogger(__name__)

DEAD_SINCE = "cropline.dead_since"
"""Tag of a file with dead rows: when its first row died, in ms since 1970."""

_FEATURE = "deletionVectors"
# Some readers that cannot leave out dead rows look at the property only. By it they refuse the table.
_PROPERTY = "delta.enableDeletionVectors"
# Features that ask nothing of a writer who adds files, and removes rows by vectors.
_HARMLESS = {
    "appendOnly", "invariants", _FEATURE, "vacuumProtocolCheck", "timestampNtz", "variantType", "variantType-preview",
}  # fmt: skip
_OF_OLD_WRITERS = {1: [], 2: ["appendOnly", "invariants"]}
_CHECKPOINT_EVERY = 50  # as delta.checkpointInterval, see delta.py
# Every writer and reader replays the entries since the last checkpoint: large ones are summed up earlier.
_LARGE, _CHECKPOINT_EVERY_LARGE = 256 << 10, 5
# Lists the whole log: half a second at 60,000 entries, 60 requests on a store. Maintenance does it too.
_CLEAN_EVERY = 1_000
_QUIET = {"VACUUM START", "VACUUM END"}
# A batch's commit is looked for among the first 200 entries after the version that it was built on (log.py).
_PASSED_AT_MOST = 100


@dataclass(frozen=True)
class Entry:
    """A commit to write. ``info``: cropline's own properties. ``txn``: (app id, version).

    ``may_follow``: returns whether the commit may come after another one that adds these files. None: it may come after
    entries of maintenance only.
    """

    operation: str
    actions: Sequence[dict[str, Any]] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    txn: tuple[str, int] | None = None
    may_follow: Callable[[Sequence[DataFile]], bool] | None = None

    @property
    def removed(self) -> set[str]:
        return {action["remove"]["path"] for action in self.actions if "remove" in action}

    @property
    def rearranges(self) -> bool:
        """Whether it brings and removes no row."""
        return self.info.get(STEP) == COMPACTION


def put(snapshot: Snapshot, entry: Entry) -> int:
    """Write the entry as the version after the snapshot. Return the version.

    Entries that change nothing that it was built on may come between: a commit that takes seconds would otherwise never
    succeed beside others that take less. Raise CommitFailedError when another writer was faster with a different one:
    then look again on the newest version.
    """
    from deltalake.exceptions import CommitFailedError

    spec, version = snapshot.spec, snapshot.version + 1
    data = "\n".join(json.dumps(action, separators=(",", ":")) for action in _lines(snapshot.table, entry)).encode()
    while not storage.write(spec, entry_key(version), data, only_new=True):
        if version - snapshot.version > _PASSED_AT_MOST or not _passes(read_actions(spec, version), entry):
            raise CommitFailedError(f"another writer committed version {version}")
        version += 1
    _checkpoint(spec, version, len(data))
    return version


def _passes(other: list[dict[str, Any]] | None, entry: Entry) -> bool:
    """Return whether an entry that came first changes nothing that ours was built on."""
    if other is None or any("protocol" in action or "metaData" in action for action in other):
        return False
    added, removed = (
        {action[kind]["path"]: action[kind] for action in other if kind in action} for kind in ("add", "remove")
    )
    if (added.keys() | removed.keys()) & entry.removed:
        return False
    if entry.txn is not None and any(action.get("txn", {}).get("appId") == entry.txn[0] for action in other):
        return False
    info = read_info(other)
    if entry.rearranges or info.get(STEP) == COMPACTION or info.get("operation") in _QUIET:
        return True
    if entry.may_follow is None:
        return False
    new = [DataFile(add) for path, add in added.items() if not _only_lost_rows(removed.get(path), add)]
    return all(_is_inline(file.action) for file in new) and entry.may_follow(new)


def _only_lost_rows(before: dict[str, Any] | None, after: dict[str, Any]) -> bool:
    """Return whether a file is named again with the same dead rows, and more."""
    if before is None or not (_is_inline(before) and _is_inline(after)):
        return False
    return bool(np.isin(DataFile(before).dead, DataFile(after).dead).all())


def _is_inline(action: dict[str, Any]) -> bool:
    vector = action.get("deletionVector")
    return not vector or vectors.is_inline(vector)


def _lines(table: DeltaTable, entry: Entry) -> list[dict[str, Any]]:
    now = int(time.time() * 1000)
    if entry.removed and table.metadata().configuration.get("delta.appendOnly") == "true":
        raise CatalogueError("delta.appendOnly is set on the catalogue, but rows are superseded: unset it")
    info = {
        "timestamp": now,
        "operation": entry.operation,
        "operationParameters": entry.parameters,
        "engineInfo": f"cropline:{version_of('cropline')}",
        **entry.info,
    }
    lines: list[dict[str, Any]] = [{"commitInfo": info}, *_protocol(table), *entry.actions]
    if entry.txn is not None:
        lines.append({"txn": {"appId": entry.txn[0], "version": entry.txn[1], "lastUpdated": now}})
    return lines


def _protocol(table: DeltaTable) -> list[dict[str, Any]]:
    """Return the actions that let the table have vectors; nothing when it may. Tables of earlier versions may not."""
    protocol = table.protocol()
    writers = protocol.writer_features
    if writers is None:
        if protocol.min_writer_version not in _OF_OLD_WRITERS or protocol.min_reader_version > 1:
            raise CatalogueError(
                f"the catalogue was upgraded to writer version {protocol.min_writer_version}, which cropline cannot write"
            )
        writers = _OF_OLD_WRITERS[protocol.min_writer_version]
    unknown = sorted(set(writers) - _HARMLESS)
    if unknown:
        raise CatalogueError(f"the catalogue has the table feature {unknown[0]}, which cropline cannot write")
    readers = protocol.reader_features or []
    metadata = table.metadata()
    if _FEATURE in writers and _FEATURE in readers and metadata.configuration.get(_PROPERTY) == "true":
        return []
    features = {"readerFeatures": sorted({*readers, _FEATURE}), "writerFeatures": sorted({*writers, _FEATURE})}
    told = {
        "id": str(metadata.id),
        "name": metadata.name,
        "description": metadata.description,
        "format": {"provider": "parquet", "options": {}},
        "schemaString": table.schema().to_json(),
        "partitionColumns": list(metadata.partition_columns),
        "configuration": {**metadata.configuration, _PROPERTY: "true"},
        "createdTime": metadata.created_time,
    }
    return [{"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **features}}, {"metaData": told}]


def added(actions: Collection[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the log's actions for these add actions."""
    return [{"add": action} for action in actions]


def removed(file: DataFile, *, data_change: bool) -> dict[str, Any]:
    """Return the action that removes a file. It repeats the exact vector: file and vector together are its name."""
    action = {
        "path": file.path,
        "deletionTimestamp": int(time.time() * 1000),
        "dataChange": data_change,
        "extendedFileMetadata": True,
        "partitionValues": file.action["partitionValues"],
        "size": file.size,
    }
    for name in ("tags", "deletionVector", "baseRowId", "defaultRowCommitVersion"):
        if name in file.action:
            action[name] = file.action[name]
    return {"remove": action}


def with_dead_rows(file: DataFile, positions: vectors.Positions, rows: int) -> list[dict[str, Any]]:
    """Return the actions that make some rows of a file dead. ``rows``: how many it holds, dead ones included."""
    dead = np.union1d(file.dead, positions).astype(np.uint32)
    gone = removed(file, data_change=True)
    if len(dead) == rows:
        return [gone]
    # Minimum and maximum still bound the rows, but may be those of dead ones.
    stats = {**file.stats, "numRecords": rows, "tightBounds": False}
    tags = file.action.get("tags", {})
    action = {
        **file.action,
        "dataChange": True,
        "stats": json.dumps(stats, separators=(",", ":")),
        "tags": {DEAD_SINCE: str(int(time.time() * 1000)), **tags},
        "deletionVector": vectors.descriptor(dead),
    }
    return [gone, {"add": action}]


def _checkpoint(spec: StoreSpec, version: int, size: int) -> None:
    """Sum the log up now and then, as delta-rs does. A failure costs time only: the next writer tries again."""
    from deltalake.exceptions import DeltaError

    if version % (_CHECKPOINT_EVERY_LARGE if size >= _LARGE else _CHECKPOINT_EVERY):
        return
    try:
        table = delta.open_table(spec)
        if table is not None:
            table.create_checkpoint()
            if version % _CLEAN_EVERY == 0:
                table.cleanup_metadata()
    except (DeltaError, OSError) as error:
        _log.warning("no checkpoint of the catalogue at version %d: %s", version, type(error).__name__)
