"""The data files of one version of the table, with their statistics, and the actions of the log that name them."""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from cropline.catalogue import vectors
from cropline.catalogue.log import LOG, read_actions
from cropline.catalogue.rows import PARTITION, columns_of
from cropline.core import storage
from cropline.core.errors import CatalogueError
from cropline.core.store_spec import StoreSpec

if TYPE_CHECKING:
    from deltalake import DeltaTable

LAYOUT = ("cropline.layout", "1")
"""Tag of a file that has Bloom filters and small row groups (data_files.py)."""

_CHECKPOINT = re.compile(rf"{LOG}/(\d{{20}})\.checkpoint(?:\.\d{{10}}\.(\d{{10}}))?\.parquet")
_READS_AT_ONCE = 16
# What an action keeps when its file is named again with another vector.
_ADD = (
    "path", "partitionValues", "size", "modificationTime", "stats", "tags", "deletionVector", "baseRowId",
    "defaultRowCommitVersion",
)  # fmt: skip


@dataclass(frozen=True)
class DataFile:
    """A data file of the table. ``action``: its add action, as the log has it."""

    action: dict[str, Any]
    foreign: vectors.Positions | None = None  # the dead rows, when another writer keeps them in a file of their own

    @property
    def path(self) -> str:
        return str(self.action["path"])

    @property
    def key(self) -> str:
        """Its key below the table."""
        if "://" in self.path or self.path.startswith("/"):
            raise CatalogueError(f"{self.path} is not in the catalogue's folder: cropline cannot change its rows")
        return unquote(self.path)

    @property
    def size(self) -> int:
        return int(self.action["size"])

    @property
    def day(self) -> str | None:
        """The partition, as the log writes it."""
        value: str | None = self.action["partitionValues"].get(PARTITION)
        return value or None

    @cached_property
    def dead(self) -> vectors.Positions:
        if self.foreign is not None:
            return self.foreign
        vector = self.action.get("deletionVector")
        return vectors.positions(vector) if vector else vectors.none()

    @cached_property
    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.action.get("stats") or "{}")
        return found

    def may_hold(self, ranges: Ranges) -> bool:
        """Return whether its statistics do not rule the values out."""
        least, most = (self.stats.get(bound, {}) for bound in ("minValues", "maxValues"))
        return all(ranges.may_be_in(name, least.get(name), most.get(name)) for name in ranges.values)

    def rows(self, spec: StoreSpec) -> int:
        """Return how many rows it holds, dead ones included."""
        if "numRecords" in self.stats:
            return int(self.stats["numRecords"])
        import pyarrow.parquet as pq

        with storage.open_object(spec, self.key, size=self.size) as source, pq.ParquetFile(source) as file:
            return int(file.metadata.num_rows)


@dataclass(frozen=True)
class Ranges:
    """Values to look for, by column. A file or row group is left out when one column's range holds none of them."""

    values: dict[str, list[str]]  # sorted

    def may_be_in(self, column: str, least: Any, most: Any) -> bool:
        wanted = self.values[column]
        if least is None or most is None:
            return True
        return bisect_left(wanted, least) < bisect_right(wanted, most)


class Snapshot:
    """The files of one version."""

    def __init__(self, spec: StoreSpec, table: DeltaTable) -> None:
        self.spec, self.table = spec, table
        self.version: int = table.version()

    @cached_property
    def schema(self) -> pa.Schema:
        """CATALOGUE, then the table's columns of users."""
        return columns_of(self.table)

    def that_may_hold(self, ranges: Ranges) -> list[DataFile]:
        """Return the files whose statistics do not rule these values out, in the order of their paths."""
        listed = pa.table(self.table.get_add_actions(flatten=True))
        for name, wanted in ranges.values.items():
            if not wanted:
                return []
            if f"min.{name}" not in listed.column_names or f"max.{name}" not in listed.column_names:
                continue
            # Arrow leaves out what is before all values or after them; Python looks closely at the rest.
            least, most = (listed[f"{bound}.{name}"].cast(pa.string()) for bound in ("min", "max"))
            near = pc.and_(pc.less_equal(least, wanted[-1]), pc.greater_equal(most, wanted[0]))
            listed = listed.filter(pc.fill_null(near, True))
            bounds = zip(listed[f"min.{name}"].to_pylist(), listed[f"max.{name}"].to_pylist(), strict=True)
            listed = listed.filter(pa.array([ranges.may_be_in(name, *pair) for pair in bounds], pa.bool_()))
        return self.named(listed["path"].to_pylist())

    def named(self, paths: Collection[str]) -> list[DataFile]:
        """Return these files, with the actions that name them."""
        found = actions_of(self.spec, self.version, set(paths)) if paths else {}
        missing = sorted(set(paths) - found.keys())
        if missing:
            raise CatalogueError(f"the catalogue's log does not name {missing[0]}, but its table does")
        return self._with_foreign([found[path] for path in sorted(found)])

    def all(self) -> list[DataFile]:
        found = actions_of(self.spec, self.version, None)
        return self._with_foreign([found[path] for path in sorted(found)])

    def _with_foreign(self, actions: list[dict[str, Any]]) -> list[DataFile]:
        """Let delta-rs read the vectors that others wrote into files of their own. It reads those of the whole table."""
        foreign = [a["path"] for a in actions if a.get("deletionVector") and not vectors.is_inline(a["deletionVector"])]
        if not foreign:
            return [DataFile(action) for action in actions]
        told = pa.table(self.table.deletion_vectors())
        live = dict(zip(told["filepath"].to_pylist(), told["selection_vector"], strict=True))
        dead: dict[str, vectors.Positions] = {}
        for path in foreign:
            (held,) = [vector for file, vector in live.items() if file.endswith(f"/{path}")]
            positions = pc.indices_nonzero(pc.invert(held.values)).to_numpy(zero_copy_only=False)
            dead[path] = positions.astype("uint32")
        return [DataFile(action, dead.get(action["path"])) for action in actions]


def vector_id(action: dict[str, Any]) -> str:
    """Return what tells the vectors of one file apart, as the protocol says; empty without a vector."""
    vector = action.get("deletionVector")
    if not vector:
        return ""
    offset = vector.get("offset")
    return f"{vector['storageType']}{vector['pathOrInlineDv']}{'' if offset is None else f'@{offset}'}"


def actions_of(spec: StoreSpec, version: int, wanted: set[str] | None) -> dict[str, dict[str, Any]]:
    """Return the add actions of this version's files by path: of the wanted ones, or of all.

    Raise CatalogueError when the log does not reach back far enough.
    """
    start, parts = _newest_checkpoint(spec, version)
    found: dict[str, dict[str, Any]] = {}
    for key in parts:
        found |= _checkpointed(spec, key, wanted)
    for number, actions in _entries(spec, range(start + 1, version + 1)):
        if actions is None:
            raise CatalogueError(f"the catalogue's log at {spec.url} has no entry {number}")
        _apply(found, actions, wanted)
    return found


def _entries(spec: StoreSpec, versions: range) -> Iterator[tuple[int, list[dict[str, Any]] | None]]:
    """Yield (version, its actions). A store's entries are read at once, since each waits for the network."""
    if spec.local_path is not None:
        yield from ((version, read_actions(spec, version)) for version in versions)
        return
    with ThreadPoolExecutor(_READS_AT_ONCE, thread_name_prefix="catalogue-log") as pool:
        yield from zip(versions, pool.map(lambda version: read_actions(spec, version), versions), strict=True)


def _apply(found: dict[str, dict[str, Any]], actions: list[dict[str, Any]], wanted: set[str] | None) -> None:
    for removed in (action["remove"] for action in actions if "remove" in action):
        held = found.get(removed["path"])
        if held is not None and vector_id(held) == vector_id(removed):
            del found[removed["path"]]
    for added in (action["add"] for action in actions if "add" in action):
        if wanted is None or added["path"] in wanted:
            found[added["path"]] = {name: added[name] for name in _ADD if added.get(name) is not None}


def _newest_checkpoint(spec: StoreSpec, version: int) -> tuple[int, list[str]]:
    """Return the newest checkpoint up to a version and its objects; version -1 without one."""
    told = _hint(spec)
    if told.get("version", version + 1) <= version and not told.get("parts"):
        return told["version"], [f"{LOG}/{told['version']:020d}.checkpoint.parquet"]
    checkpoints: dict[tuple[int, int], list[str]] = {}
    for key in storage.list_keys(spec, f"{LOG}/"):
        match = _CHECKPOINT.fullmatch(key)
        if match and int(match[1]) <= version:
            checkpoints.setdefault((int(match[1]), int(match[2] or 1)), []).append(key)
    # A killed writer may leave some parts only.
    whole = [(number, parts) for (number, count), parts in checkpoints.items() if len(parts) == count]
    return max(whole, default=(-1, []))


def _hint(spec: StoreSpec) -> dict[str, Any]:
    """Return what the log says about its newest checkpoint. It may say nothing, or be damaged: it only saves a listing."""
    data = storage.read_if_there(spec, f"{LOG}/_last_checkpoint")
    try:
        told = json.loads(data or b"{}")
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _checkpointed(spec: StoreSpec, key: str, wanted: set[str] | None) -> dict[str, dict[str, Any]]:
    import pyarrow.parquet as pq

    with storage.open_object(spec, key) as source, pq.ParquetFile(source) as file:
        held = {
            file.schema_arrow.field("add").type.field(n).name
            for n in range(file.schema_arrow.field("add").type.num_fields)
        }
        adds = file.read(columns=[f"add.{name}" for name in _ADD if name in held])["add"].combine_chunks()
    paths = pc.struct_field(adds, "path")
    kept = pc.is_valid(paths)
    if wanted is not None:
        kept = pc.and_(kept, pc.is_in(paths, pa.array(sorted(wanted), paths.type)))
    return {action["path"]: _plain(action) for action in adds.filter(kept).to_pylist()}


def _plain(action: dict[str, Any]) -> dict[str, Any]:
    """Return an action of a checkpoint as an entry of the log has it: maps as objects, nothing for null."""
    plain = {name: value for name, value in action.items() if value is not None}
    for name in ("partitionValues", "tags"):
        if name in plain:
            plain[name] = dict(plain[name])
    if "deletionVector" in plain:
        plain["deletionVector"] = {name: value for name, value in plain["deletionVector"].items() if value is not None}
    return plain
