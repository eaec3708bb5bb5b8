"""Counts the results with none of the product's code: plain drivers, files, and a reader of the log of its own."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import boto3

from tests.contract.state.build import Look
from tests.delta_log import rows_of

# The columns of a catalogue row that must not depend on how often a run was disturbed.
_ROW = (
    "image_id", "profile", "box_index", "box_id", "status", "reason", "key", "sha256", "bytes", "width", "height",
    "manifest", "manifest_row",
)  # fmt: skip
_MISSING = "no object"


@dataclass(frozen=True)
class Place:
    """Where the outputs and the state of some runs are, as the settings name them."""

    output: str
    state: str
    endpoint: str | None = None

    def objects(self, below: str) -> dict[str, bytes]:
        """Return {key: bytes} of all objects, also those that the product would not list."""
        if urlsplit(self.output).scheme == "file":
            root = Path(unquote(urlsplit(self.output).path))
            files = (path for path in (root / below).rglob("*") if path.is_file())
            return {str(path.relative_to(root)): path.read_bytes() for path in files}
        bucket, prefix = urlsplit(self.output).netloc, urlsplit(self.output).path.strip("/") + "/"
        client = boto3.client("s3", endpoint_url=self.endpoint)
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}{below}/")
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        with ThreadPoolExecutor(16) as pool:  # moto takes 40 ms for each on an open connection
            found = pool.map(lambda key: client.get_object(Bucket=bucket, Key=key)["Body"].read(), keys)
            return {key.removeprefix(prefix): data for key, data in zip(keys, found, strict=True)}

    def rows(self) -> list[dict[str, Any]]:
        """Return the catalogue as a reader sees it."""
        prefix = "catalogue/"
        return rows_of({key.removeprefix(prefix): data for key, data in self.objects("catalogue").items()})

    def appended(self) -> int:
        """Return the number of rows ever added by commits that removed none."""
        total = 0
        for key, data in self.objects("catalogue/_delta_log").items():
            actions = [json.loads(line) for line in data.splitlines()] if key.endswith(".json") else []
            if not any("remove" in action for action in actions):
                total += sum(json.loads(a["add"]["stats"])["numRecords"] for a in actions if "add" in a)
        return total

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Query the state through the database's own driver."""
        return Look(self.state).rows(statement)


@dataclass(frozen=True)
class Tally:
    """Counts that are all 0 after an undisturbed run."""

    lost: int = 0
    duplicated: int = 0
    orphaned: int = 0
    unfinished: int = 0  # work items that are not done, and open batches

    def __str__(self) -> str:
        return f"lost={self.lost} duplicated={self.duplicated} orphaned={self.orphaned}"


@dataclass(frozen=True)
class Ledger:
    """Everything counted at a place. Equal ledgers are identical to all readers of crops, catalogue and state."""

    crops: Counter[tuple[str, str]]  # (key, SHA-256 of the object) of each written row
    rows: Counter[tuple[Any, ...]]
    unnamed: frozenset[str]  # crops that no row names
    torn: int  # batches with catalogue rows of two attempts
    manifests: tuple[str, ...]
    quarantine: tuple[str, ...]
    works: Counter[tuple[str, str, str]]  # work items: image, profile, state
    open_batches: int
    cursors: tuple[tuple[str, str], ...]
    unpublished: int

    def against(self, clean: Ledger) -> Tally:
        """Return the differences from an undisturbed run."""
        return Tally(
            lost=max((clean.crops - self.crops).total(), (clean.rows - self.rows).total()),
            duplicated=max((self.crops - clean.crops).total(), (self.rows - clean.rows).total()) + self.torn,
            orphaned=len(self.unnamed - clean.unnamed),
            unfinished=(clean.works - self.works).total() + self.open_batches,
        )

    def against_boxes(self, wanted: Counter[tuple[str, str]]) -> Tally:
        """Return the differences from one crop per (image id, box id), as a camera API lists them."""
        held = Counter((row[_ROW.index("image_id")], row[_ROW.index("box_id")]) for row in self.written())
        return Tally(
            lost=(wanted - held).total()
            + sum(count for (_, sha256), count in self.crops.items() if sha256 == _MISSING),
            duplicated=(held - wanted).total() + sum(n - 1 for n in self._keys().values()) + self.torn,
            orphaned=len(self.unnamed),
            unfinished=sum(n for (_, _, state), n in self.works.items() if state != "done") + self.open_batches,
        )

    def written(self) -> Iterable[tuple[Any, ...]]:
        """Yield the rows of written crops, each as often as it occurs."""
        return (row for row in self.rows.elements() if row[_ROW.index("status")] == "written")

    def _keys(self) -> Counter[str]:
        """Return how many different rows name each object."""
        return Counter(row[_ROW.index("key")] for row in set(self.written()))


def books(place: Place) -> Ledger:
    """Count everything at a place now."""
    rows, objects = place.rows(), place.objects("crops")
    keys = [row["key"] for row in rows if row["status"] == "written"]
    hashes = {key: hashlib.sha256(data).hexdigest() for key, data in objects.items()}
    attempts: dict[str, set[int]] = {}
    for row in rows:
        attempts.setdefault(row["batch_id"], set()).add(row["attempt"])
    return Ledger(
        crops=Counter((key, hashes.get(key, _MISSING)) for key in keys),
        rows=Counter(tuple(row[name] for name in _ROW) for row in rows),
        unnamed=frozenset(objects.keys() - set(keys)),
        torn=sum(len(found) > 1 for found in attempts.values()),
        manifests=tuple(sorted(place.objects("manifests"))),
        quarantine=tuple(sorted(place.objects("quarantine"))),
        works=Counter(place.query("SELECT image_id, profile, state FROM images")),
        open_batches=_count(place, "batches WHERE state <> 'committed'"),
        cursors=tuple(sorted(place.query("SELECT source, cursor FROM sources"))),
        unpublished=_count(place, "outbox WHERE published_at IS NULL"),
    )


def boxes(listed: Iterable[Mapping[str, Any]]) -> Counter[tuple[str, str]]:
    """Return what a camera API's listing asks for: each box of each image once."""
    return Counter((row["id"], box["id"]) for row in listed for box in row["boxes"])


def _count(place: Place, what: str) -> int:
    ((count,),) = place.query(f"SELECT count(*) FROM {what}")
    return int(count)
