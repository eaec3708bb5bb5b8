"""Finds receipts of erasures in the store. It imports little, because idle polls use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cropline.core import storage

if TYPE_CHECKING:
    from cropline.core.store_spec import StoreSpec
    from cropline.state import State

FOLDER = "receipts/"


def unknown(spec: StoreSpec, state: State) -> dict[str, str]:
    """Return erasure id -> storage key of the receipt, for erasures that the state does not know."""
    receipts = {_name(key): key for key in storage.list_keys(spec, FOLDER) if _is_receipt(key)}
    known = state.known_erasures(sorted(receipts)) if receipts else set()
    return {name: key for name, key in receipts.items() if name not in known}


def _is_receipt(key: str) -> bool:
    """Whether the key is a receipt's. The log of an unfinished erasure has its own folder."""
    return key.count("/") == 1 and key.endswith(".json")


def _name(key: str) -> str:
    return key.rpartition("/")[2].removesuffix(".json")
