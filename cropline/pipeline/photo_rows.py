"""The current rows of one photo. The state knows in which batches they are, so few files are read."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cropline.catalogue import Memory
from cropline.core.errors import StateError
from cropline.state import State

if TYPE_CHECKING:
    import pyarrow as pa

    from cropline.catalogue import Catalogue
    from cropline.config.state import StateSettings


def rows_of_photo(catalogue: Catalogue, state: StateSettings, source: str, image_id: str) -> pa.Table:
    """Return the photo's current rows (CATALOGUE), for all profiles; no rows for an unknown photo.

    Without a state, or with one that does not know all commits, the whole catalogue is asked.
    """
    # The rows do not need a state: a reader may have none, or cannot reach it.
    with suppress(StateError):
        if _is_there(state):
            with State.open(state) as opened:
                rows = _where_the_state_says(catalogue, opened, source, image_id)
            if rows is not None:
                return rows
    return catalogue.image_rows(source, image_id)


def _where_the_state_says(catalogue: Catalogue, state: State, source: str, image_id: str) -> pa.Table | None:
    """Return the rows; None when the state may not know where all of them are."""
    items = state.image(source, image_id)
    batches = {item.profile: item.committed_batch for item in items if item.committed_batch is not None}
    if not batches or any(item.state == "claimed" for item in items) or not _knows_all_commits(catalogue, state):
        return None
    rows = catalogue.images_rows(source, [image_id], committed_in=set(batches.values()))
    # A batch may have committed rows since the state was read.
    return rows if set(rows["profile"].to_pylist()) == batches.keys() else None


def _knows_all_commits(catalogue: Catalogue, state: State) -> bool:
    bound = state.bound()
    if bound.catalogue_version is None or bound.unknown_batches:
        return False
    found = catalogue.unknown_batches(Memory(bound.catalogue_version, False, state.known_batches))
    return found is not None and not found[1]


def _is_there(settings: StateSettings) -> bool:
    """Return whether there is a state to open: SQLite would create one."""
    from sqlalchemy import make_url

    url = make_url(settings.url.get_secret_value())
    return url.get_backend_name() != "sqlite" or Path(url.database or "").exists()
