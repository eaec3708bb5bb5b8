"""Receipts of erasures as they lie in the storage; light, so that an idle poll may ask for those that the state does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cropline.core import storage

if TYPE_CHECKING:
    from cropline.core.store_spec import StoreSpec
    from cropline.state import State

FOLDER = "receipts/"


def unknown(spec: StoreSpec, state: State) -> dict[str, str]:
    """Erasure id -> storage key of its receipt, of erasures that the state does not know: it was lost, or restored."""
    receipts = {_name(key): key for key in storage.list_keys(spec, FOLDER) if _is_receipt(key)}
    known = state.known_erasures(sorted(receipts)) if receipts else set()
    return {name: key for name, key in receipts.items() if name not in known}


def _is_receipt(key: str) -> bool:
    """Not the log of an erasure that is under way, which has a folder of its own."""
    return key.count("/") == 1 and key.endswith(".json")


def _name(key: str) -> str:
    return key.rpartition("/")[2].removesuffix(".json")
