"""Reads a Delta table with none of the product's code and without a Delta library: its log, its files, its vectors."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow.parquet as pq

_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_LOG = "_delta_log/"


def rows_of(objects: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """Return the current rows of a table. ``objects``: its objects by key below its folder."""
    return [row for add in live_files(objects) for row in _rows(objects, add)]


def rows_in(folder: Path) -> list[dict[str, Any]]:
    """Return the current rows of a table in a local folder."""
    return rows_of(objects_in(folder))


def objects_in(folder: Path) -> dict[str, bytes]:
    """Return all files of a table in a local folder, by key."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def live_files(objects: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """Return the add actions of the newest version. A file and its vector together are what a remove names."""
    live: dict[tuple[str, str], dict[str, Any]] = {}
    for actions in _replay(objects):
        for action in actions:
            if action.get("remove"):
                live.pop(_name(action["remove"]), None)
        for action in actions:
            if action.get("add"):
                live[_name(action["add"])] = action["add"]
    paths = [path for path, _ in live]
    assert len(set(paths)) == len(paths), "a file is current twice"
    return list(live.values())


def dead_rows(vector: Mapping[str, Any]) -> set[int]:
    """Return the row numbers of an inline deletion vector."""
    assert vector["storageType"] == "i"
    data, text = bytearray(), vector["pathOrInlineDv"]
    for start in range(0, len(text), 5):
        word = 0
        for letter in text[start : start + 5]:
            word = word * 85 + _Z85.index(letter)
        data += word.to_bytes(4, "big")
    found = set(_roaring(bytes(data[: vector["sizeInBytes"]])))
    assert len(found) == vector["cardinality"]
    return found


def _roaring(data: bytes) -> Iterator[int]:
    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], "little")

    assert number(0, 4) == 1681511377
    if number(4, 8) == 0:
        return
    assert (number(4, 8), number(12, 4), number(16, 4)) == (1, 0, 12346)
    count, heads = number(20, 4), 24
    for index in range(count):
        high, size = number(heads + 4 * index, 2) << 16, number(heads + 4 * index + 2, 2) + 1
        at = 16 + number(heads + 4 * count + 4 * index, 4)
        if size <= 4096:
            yield from (high | number(at + 2 * n, 2) for n in range(size))
        else:
            yield from (high | n for n in range(65536) if data[at + n // 8] >> (n % 8) & 1)


def _replay(objects: Mapping[str, bytes]) -> Iterator[list[dict[str, Any]]]:
    checkpoints = sorted(key for key in objects if key.startswith(_LOG) and key.endswith(".checkpoint.parquet"))
    start = -1
    if checkpoints:
        start = int(checkpoints[-1].removeprefix(_LOG)[:20])
        yield [_plain(action) for action in pq.read_table(io.BytesIO(objects[checkpoints[-1]])).to_pylist()]
    for key in sorted(key for key in objects if key.startswith(_LOG) and key.endswith(".json")):
        if int(key.removeprefix(_LOG)[:20]) > start:
            yield [json.loads(line) for line in objects[key].splitlines()]


def _plain(action: dict[str, Any]) -> dict[str, Any]:
    if action.get("add"):
        action["add"]["partitionValues"] = dict(action["add"]["partitionValues"])
    return {"add": action.get("add")}


def _name(action: Mapping[str, Any]) -> tuple[str, str]:
    vector = action.get("deletionVector")
    return action["path"], f"{vector['storageType']}{vector['pathOrInlineDv']}{vector.get('offset')}" if vector else ""


def _rows(objects: Mapping[str, bytes], add: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    dead = dead_rows(add["deletionVector"]) if add.get("deletionVector") else set()
    day = add["partitionValues"].get("captured_date")  # a test's own table may have no partitions
    rows = pq.read_table(io.BytesIO(objects[unquote(add["path"])])).to_pylist()
    assert json.loads(add["stats"])["numRecords"] == len(rows), "statistics count dead rows too"
    for number, row in enumerate(rows):
        if number not in dead:
            yield {**row, "captured_date": date.fromisoformat(day) if day else None}
