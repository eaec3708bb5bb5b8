"""Erasures that the storage has receipts of and the state does not know: it was lost, or restored from an older backup."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

from cropline import storage
from cropline.erasure.selection import Selection

if TYPE_CHECKING:
    from cropline.state import State
    from cropline.storage import StoreSpec


def recall(spec: StoreSpec, state: State) -> int:
    """Put the tombstones of such erasures back: what was forgotten is never cropped again. Gives how many erasures.

    Photos that the state holds as work are erased once more, as an erasure of its own that the run finishes: they may have come back.
    """
    receipts = {_name(key): key for key in storage.list_keys(spec, "receipts/") if _is_receipt(key)}
    unknown = set(receipts) - state.known_erasures(sorted(receipts)) if receipts else set()
    for erasure_id in sorted(unknown):
        told = json.loads(storage.read(spec, receipts[erasure_id]))
        images = [entry["image_id"] for entry in told["went"]]
        began, ended = (datetime.fromisoformat(told[name]) for name in ("began_at", "nothing_left_at"))
        asked = json.dumps(told["asked"], sort_keys=True)
        back = state.recall_erasure(erasure_id, told["source"], asked, began, ended, images)
        if back:
            state.begin_erasure(told["source"], Selection(images=tuple(back)).text, image_ids=back)
    return len(unknown)


def _is_receipt(key: str) -> bool:
    return key.count("/") == 1 and key.endswith(".json")


def _name(key: str) -> str:
    return key.rpartition("/")[2].removesuffix(".json")
