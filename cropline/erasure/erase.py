"""Runs an erasure from its beginning to its receipt.

An erasure that was killed and is called again has the same result.
"""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cropline.catalogue import Catalogue
from cropline.core import storage
from cropline.core.keys import digest
from cropline.erasure.events import Emit, emit_nothing
from cropline.erasure.selection import Selection
from cropline.erasure.traces import Packs, Portion, Traces, collect, remove
from cropline.lineage.erasure import ErasureTotals
from cropline.pipeline.heartbeat import Heartbeat

if TYPE_CHECKING:
    from cropline.core.store_spec import StoreSpec
    from cropline.state import Erasure, State

_AT_MOST = 100_000_000
_PORTION = 200  # photos whose rows are in memory at once
# Photos that are removed at once. Each removal rewrites all files and packs that hold one of them.
_PHOTOS_A_REMOVAL = 5_000
_STAYS = (
    "manifests and quarantine keep what was announced of these photos until retention removes them; drift/ keeps their "
    "ids and hashes (one hash is a sketch of 16 x 16 brightness levels) until newer photos replace them; earlier versions "
    "of the catalogue keep the rows until maintain vacuums them; a bucket with versioning keeps earlier versions of "
    "objects; cropline does not know the copies and exports that were made"
)


@dataclass(frozen=True)
class ErasureResult:
    """The result of an erasure.

    ``receipt`` None: it is unfinished, because photos are in a batch or another erasure runs.
    """

    erasure_id: str
    images: int
    rows: int
    objects: int
    in_progress: int
    receipt: str | None  # storage key
    waits: bool = False  # another erasure of the source is running; this one has only begun


def estimate(spec: StoreSpec, state: State, source: str, selection: Selection) -> ErasureResult:
    """Return what ``forget`` would remove now. Changes nothing."""
    wanted = sorted(selection.in_state(state, source) | _in_rows(selection, spec, state, source))
    rows = objects = 0
    packs = Packs(spec, source, wanted)
    for start in range(0, len(wanted), _PORTION):
        portion = collect(spec, source, wanted[start : start + _PORTION], packs)
        rows += sum(image.rows for image in portion.images)
        objects += sum(len(image.objects) for image in portion.images)
    work_items = state.find_images(states=["claimed"], sources=[source], limit=1_000_000)
    held = {work.image_id for work in work_items} & set(wanted)
    return ErasureResult("", len(wanted), rows, objects, len(held), None)


def _in_rows(selection: Selection, spec: StoreSpec, state: State, source: str) -> set[str]:
    """Return the selected photos in the catalogue, except those whose corrected metadata no longer matches."""
    found = selection.in_catalogue(Catalogue(spec), source)
    corrected = set() if selection.images else found & state.being_rewritten(source)
    return found - (corrected - selection.in_state(state, source)) if corrected else found


def forget(
    spec: StoreSpec, state: State, source: str, selection: Selection, emit: Emit = emit_nothing
) -> ErasureResult:
    """Begin or continue the erasure of these photos. It is safe while any run crops them."""
    _delete_leftovers(spec, state, source)
    found = _in_rows(selection, spec, state, source)
    erasure = state.begin_erasure(
        source, selection.text, image_ids=sorted(found), stores=selection.stores, until=selection.before
    )
    return finish(spec, state, erasure, emit)


def _delete_leftovers(spec: StoreSpec, state: State, source: str) -> None:
    """Delete logs that an interrupted erasure left after its end."""
    logs = [folder for folder in storage.list_folders(spec, "receipts") if storage.list_keys(spec, f"{folder}/")]
    open_now = {erasure.erasure_id for erasure in state.unfinished_erasures(source)} if logs else set()
    for log in logs:
        receipt = f"{log}.json"
        ended = log.rpartition("/")[2] not in open_now and storage.exists(spec, receipt)
        if ended and json.loads(storage.read(spec, receipt))["source"] == source:
            storage.delete(spec, storage.list_keys(spec, f"{log}/"))


def finish(spec: StoreSpec, state: State, erasure: Erasure, emit: Emit = emit_nothing) -> ErasureResult:
    """Remove what can be removed now. When nothing is left, write the receipt and end the erasure.

    Raise StaleLease when another process took the erasure over while this one was suspended.
    """
    emit(erasure, None)
    state.delete_unclaimed_items(erasure.erasure_id)
    with _erasure_lock(state, erasure.source) as check_lock:
        if check_lock is None:
            return ErasureResult(
                erasure.erasure_id, 0, 0, 0, state.images_in_progress(erasure.erasure_id), None, waits=True
            )
        if erasure.erasure_id not in {open_.erasure_id for open_ in state.unfinished_erasures(erasure.source)}:
            return _ended(spec, erasure)  # another process was faster: its receipt stays as it is
        return _remove_all(spec, state, erasure, check_lock, emit)


@contextmanager
def _erasure_lock(state: State, source: str) -> Iterator[Callable[[], None] | None]:
    """Yield a function that raises StaleLease once the lock is lost; yield None when another erasure holds the lock.

    Polls finish erasures too, so two at once are common. Each could move the other's photos into a new pack.
    """
    holder = secrets.token_hex(8)
    if not state.acquire_erasure_lock(source, holder):
        yield None
        return

    def keep() -> None:
        state.renew_erasure_lock(source, holder)

    try:
        with Heartbeat(keep, state.lease.total_seconds() / 3, f"erasing of {source}"):
            # The function asks the database: a suspended process continues before its heartbeat notices.
            yield keep
    finally:
        state.release_erasure_lock(source, holder)


def _remove_all(
    spec: StoreSpec, state: State, erasure: Erasure, check_lock: Callable[[], None], emit: Emit
) -> ErasureResult:
    log = _Log(spec, erasure.erasure_id)
    # An earlier call may have been killed while it removed these.
    for portions in _groups(log.portions()):
        check_lock()
        remove(spec, erasure.source, Portion.joined(portions), check_lock)
    packs: Packs | None = None
    while wanted := state.images_to_erase(erasure.erasure_id, _PHOTOS_A_REMOVAL):
        packs = packs or Packs(spec, erasure.source, state.images_to_erase(erasure.erasure_id, _AT_MOST))
        found = []
        for start in range(0, len(wanted), _PORTION):
            found.append(collect(spec, erasure.source, wanted[start : start + _PORTION], packs))
            check_lock()
            log.add(found[-1])
        remove(spec, erasure.source, Portion.joined(found), check_lock)
        # A process that took over in between may have moved the photos to its own packs.
        check_lock()
        state.mark_erased(erasure.erasure_id, wanted)
    in_progress = state.images_in_progress(erasure.erasure_id)
    totals = log.totals()
    receipt = None if in_progress else _write_receipt(spec, state, erasure, log, totals, emit)
    return ErasureResult(erasure.erasure_id, totals["images"], totals["rows"], totals["objects"], in_progress, receipt)


def _groups(portions: Iterator[Portion]) -> Iterator[list[Portion]]:
    """Yield the portions, as many at a time as are removed at once."""
    while group := list(islice(portions, _PHOTOS_A_REMOVAL // _PORTION)):
        yield group


class _Log:
    """The portions of an erasure, as objects. Part of a portion may be removed already; the receipt names all of it."""

    def __init__(self, spec: StoreSpec, erasure_id: str) -> None:
        self._spec = spec
        self.folder = f"receipts/{erasure_id}/"

    def add(self, portion: Portion) -> None:
        data = portion.to_json()
        storage.write(self._spec, f"{self.folder}{digest(data.decode())[:24]}.json", data)

    def portions(self) -> Iterator[Portion]:
        for key in storage.list_keys(self._spec, self.folder):
            yield Portion.from_json(storage.read(self._spec, key))

    def images(self) -> Iterator[Traces]:
        """Yield each photo once. After a killed call, the next one finds its portion again, with less in it."""
        found: dict[str, Traces] = {}
        for portion in self.portions():
            for image in portion.images:
                known = found.get(image.image_id)
                if known is None or (len(image.objects), image.rows) > (len(known.objects), known.rows):
                    found[image.image_id] = image
        for image_id in sorted(found):
            yield found[image_id]

    def totals(self) -> dict[str, int]:
        totals = {"images": 0, "rows": 0, "objects": 0}
        for image in self.images():
            totals["images"] += 1
            totals["rows"] += image.rows
            totals["objects"] += len(image.objects)
        return totals


def _receipt_key(erasure: Erasure) -> str:
    return f"receipts/{erasure.erasure_id}.json"


def _ended(spec: StoreSpec, erasure: Erasure) -> ErasureResult:
    key = _receipt_key(erasure)
    told = json.loads(storage.read(spec, key))
    return ErasureResult(erasure.erasure_id, told["images"], told["rows"], told["objects"], 0, key)


def _write_receipt(
    spec: StoreSpec, state: State, erasure: Erasure, log: _Log, totals: dict[str, int], emit: Emit
) -> str:
    """Write the receipt and emit the events before the erasure ends, so that an ended erasure has both."""
    key, version = _receipt_key(erasure), Catalogue(spec).version()
    head: dict[str, Any] = {
        "erasure": erasure.erasure_id,
        "source": erasure.source,
        "asked": json.loads(erasure.selection),
        "began_at": erasure.began_at.astimezone(UTC).isoformat(),
        "nothing_left_at": datetime.now(UTC).isoformat(),
        "catalogue_version": version,
        **totals,
        "packs": sorted({key for portion in log.portions() for key in portion.packs}),
        "reports": sorted({key for portion in log.portions() for key in portion.reports}),
        "stays": _STAYS,
    }
    with tempfile.TemporaryDirectory(prefix="cropline-") as folder:
        path = Path(folder) / "receipt.json"
        with path.open("w", encoding="utf-8") as file:
            file.write(json.dumps(head, indent=2).removesuffix("\n}") + ',\n  "went": [')
            for number, image in enumerate(log.images()):
                entry = {"image_id": image.image_id, "rows": image.rows, "objects": image.objects}
                file.write((",\n    " if number else "\n    ") + json.dumps(entry))
            file.write("\n  ]\n}\n")
        storage.write(spec, key, path)
    gone = tuple(image.image_id for image in log.images())
    emit(erasure, ErasureTotals(totals["images"], totals["rows"], totals["objects"], version, gone))
    state.end_erasure(erasure.erasure_id)
    storage.delete(spec, storage.list_keys(spec, log.folder))
    return key
