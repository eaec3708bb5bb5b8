"""The values of a work item that its batch holds: those of the claim, whatever is registered meanwhile.

A claim copies only the fingerprint, which a commit compares. If it copied the rest, it would write half a row more.
The first registration that changes a claimed item copies the old values into the ``claimed_`` columns. Until then they are
null, and the batch holds the wanted values.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import case, null
from sqlalchemy.sql.elements import ColumnElement

from cropline.state.tables import images

_WANTED = {
    "claimed_hash": images.c.profile_hash,
    "claimed_manifest": images.c.manifest,
    "claimed_row": images.c.manifest_row,
    "claimed_boxes": images.c.boxes,
    "claimed_metadata": images.c.metadata,
    "claimed_rows_only": images.c.rows_only,
}

# The one column that is never null after a copy.
COPIED: ColumnElement[bool] = images.c.claimed_hash.is_not(None)

HELD: dict[str, ColumnElement[Any]] = {
    name: case((COPIED, images.c[name]), else_=wanted) for name, wanted in _WANTED.items()
}


def kept() -> dict[str, ColumnElement[Any]]:
    """Return the values of the ``claimed_`` columns for an update of wanted values: a batch goes on holding what it has."""
    claimed = images.c.state == "claimed"
    return {name: case((claimed, held), else_=null()) for name, held in HELD.items()}


def freed() -> dict[str, Any]:
    """Return the values of the ``claimed_`` columns of an item that no batch holds any longer."""
    return {name: null() for name in ("claimed_fingerprint", *HELD)}
