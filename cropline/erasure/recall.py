"""Restores erasures that the state has lost, from their receipts in the store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from cropline.core import storage
from cropline.core.keys import canonical_json
from cropline.erasure.selection import Selection

if TYPE_CHECKING:
    from cropline.core.store_spec import StoreSpec
    from cropline.state import State


def recall(spec: StoreSpec, state: State, receipts: Mapping[str, str]) -> None:
    """Restore the tombstones of these erasures (receipts.unknown), so that no photo of them is cropped again.

    Photos that the state holds as work items may have been cropped again. They are erased in a new erasure, which the
    run finishes.
    """
    for erasure_id, key in sorted(receipts.items()):
        told = json.loads(storage.read(spec, key))
        images = [entry["image_id"] for entry in told["went"]]
        began, ended = (datetime.fromisoformat(told[name]) for name in ("began_at", "nothing_left_at"))
        asked = canonical_json(told["asked"])
        back = state.recall_erasure(erasure_id, told["source"], asked, began, ended, images)
        if back:
            state.begin_erasure(told["source"], Selection(images=tuple(back)).text, image_ids=back)
