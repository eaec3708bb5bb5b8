"""Puts crops into packs: one open pack per profile in each process, stored when full or when no more images come.

A crop is finished only when its pack is in the store. When this process dies, the crops of its open
packs are cut again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING

from cropline.core.errors import StorageError
from cropline.core.failures import PhotoFailure
from cropline.core.keys import crop_key
from cropline.packs import Sample, Spool, pack_folder, sample_name
from fugue_jobs.imaging.encode import read_recipe
from fugue_jobs.work import CropOutcome, ImageWork, failed

if TYPE_CHECKING:
    from cropline.core.store_spec import StoreSpec
    from fugue_jobs.imaging.pixels import Cut
    from fugue_jobs.pool.assignment import Packed

End = Callable[[CropOutcome], None]

_PLACE = ("sha256", "width", "height", "left", "top", "right", "bottom")
_LOSSLESS = (*_PLACE, "box_left", "box_top")


class _Open:
    """A pack that is being filled, and the callbacks for when it is stored. ``lossless``: of a lossless jpeg profile."""

    def __init__(self, spool: Spool, batch: str, *, lossless: bool) -> None:
        self.spool, self.batch, self.lossless = spool, batch, lossless
        self.waiting: list[tuple[CropOutcome, End]] = []


class Packer:
    """The packs of one process. One thread stores a full pack while the next fills; then filling waits."""

    def __init__(self, spec: StoreSpec | None, packed: Packed) -> None:
        self._spec = spec
        self._kinds = {profile: (kind, full) for profile, kind, full in packed}
        self._open: dict[str, _Open] = {}
        self._lock = threading.Lock()
        self._to_store: SimpleQueue[_Open] = SimpleQueue()
        self._under_way = threading.Semaphore(1)
        if packed:
            threading.Thread(target=self._store, name="packs", daemon=True).start()

    def takes(self, profile: str) -> bool:
        """Return whether crops of this profile are packed."""
        return profile in self._kinds

    def add(self, work: ImageWork, batch: str, piece: Cut, end: End) -> None:
        """Add a crop to its profile's pack. ``end`` gets its outcome when the pack is stored or has failed."""
        order = work.orders[piece.outcome.order]
        kind, full = self._kinds[order.profile]
        key = _key(work, piece.outcome)
        lossless = read_recipe(order.recipe).copies_bits
        outcome = piece.outcome._replace(key=key)
        try:
            with self._lock:
                pack = self._open.get(order.profile)
                if pack is None or (pack.batch, pack.lossless) != (batch, lossless):
                    self._hand_over(order.profile)
                    assert self._spec is not None  # returned crops are not packed
                    pack = _Open(Spool(self._spec, kind, pack_folder(order.profile, batch)), batch, lossless=lossless)
                    self._open[order.profile] = pack
                pack.spool.add(_sample(work, outcome, key, piece.data or b"", _LOSSLESS if lossless else _PLACE))
                pack.waiting.append((outcome, end))
                if pack.spool.size >= full:
                    self._hand_over(order.profile)
        except OSError as error:
            self._give_up(order.profile, error)
            end(_not_stored(outcome, error))

    def _give_up(self, profile: str, error: OSError) -> None:
        """Fail everything in a pack after a write error: the pack is incomplete."""
        with self._lock:
            pack = self._open.pop(profile, None)
        if pack is not None:
            with suppress(OSError):  # closing writes the rest, which may fail too
                pack.spool.close()
            for outcome, end in pack.waiting:
                end(_not_stored(outcome, error))

    def seal_all(self) -> None:
        """Store every open pack."""
        with self._lock:
            for profile in list(self._open):
                self._hand_over(profile)

    def _hand_over(self, profile: str) -> None:
        pack = self._open.pop(profile, None)
        if pack is not None:
            self._under_way.acquire()
            self._to_store.put(pack)

    def _store(self) -> None:
        while True:
            pack = self._to_store.get()
            for outcome, end in _stored(pack):
                end(outcome)
            self._under_way.release()


def _stored(pack: _Open) -> list[tuple[CropOutcome, End]]:
    try:
        shard, sealed = pack.spool.put()
    except Exception as error:  # noqa: BLE001 - each of its crops fails with a reason; the process goes on
        return [(_not_stored(outcome, error), end) for outcome, end in pack.waiting]
    return [
        (outcome._replace(shard=shard, offset=offset), end)
        for (outcome, end), offset in zip(pack.waiting, sealed.offsets, strict=True)
    ]


def _not_stored(outcome: CropOutcome, error: Exception) -> CropOutcome:
    cause = error.__cause__ if isinstance(error, StorageError) and error.__cause__ else error
    failure = PhotoFailure("storage", f"the pack could not be stored: {type(cause).__name__}")
    return failed(outcome.order, outcome.box_index, failure)


def _key(work: ImageWork, outcome: CropOutcome) -> str:
    order, box_id = work.orders[outcome.order], work.boxes[outcome.box_index].box_id or ""
    extension = read_recipe(order.recipe).extension
    return crop_key(work.source, work.image_id, order.profile, order.fingerprint, outcome.box_index, box_id, extension)


def _sample(work: ImageWork, outcome: CropOutcome, key: str, data: bytes, place: Sequence[str]) -> Sample:
    order, box = work.orders[outcome.order], work.boxes[outcome.box_index]
    name, extension = sample_name(key)
    facts = {
        "key": key,
        "source": work.source,
        "image_id": work.image_id,
        "version": work.version,
        "profile": order.profile,
        "fingerprint": order.fingerprint,
        "box_id": box.box_id,
        "box_index": outcome.box_index,
        "label": box.label,
        "store_id": work.store_id,
        "camera_id": work.camera_id,
        "captured_at": work.captured_at,
        **{name: getattr(outcome, name) for name in place},
    }
    return Sample(name, extension, facts, data)
