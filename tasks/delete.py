"""delete: what becomes of photos that their source announced as deleted. Before the cursor moves: none is missed.

Not a task: usually there are none.
"""

from __future__ import annotations

import json

from prefect import get_run_logger

from cropline.intake import manifest
from cropline.pipeline.run import Run
from tasks.poll import Polled

_AT_ONCE = 500


def delete_announced(run: Run, polled: Polled) -> int:
    """Erase or mark the photos that the poll read as deleted; return how many that were not before.

    A photo of which nothing is here is left out. An erasure that ends before its end is finished by the next poll.
    """
    api, state = run.settings.api, run.state
    if polled.present:
        state.unmark_deleted(api.source, polled.present)
    if not polled.deleted:
        return 0
    names = sorted(set(polled.deleted) - state.forgotten(api.source, list(polled.deleted)))
    here = sorted(_here(run, polled, names))
    if not here:
        return 0
    if api.on_delete == "keep":
        return state.mark_deleted(api.source, here)
    from cropline.erasure.erase import forget
    from cropline.erasure.events import event_emitter
    from cropline.erasure.report import erasure_lines
    from cropline.erasure.selection import Selection

    selection = Selection(images=tuple(here))
    result = forget(run.spec, state, api.source, selection, event_emitter(run.settings, state))
    get_run_logger().info(
        "%d photos were deleted by their source: %s", len(here), " ".join(erasure_lines(result, dry_run=False))
    )
    return len(here)


def _here(run: Run, polled: Polled, names: list[str]) -> set[str]:
    """Return those of the photos that the state, this poll or the catalogue knows."""
    from cropline.catalogue import Catalogue

    source = run.settings.api.source
    found = run.state.known_images(source, names)
    found |= _announced(run, polled) & set(names) if len(found) < len(names) else set()
    left = sorted(set(names) - found)
    catalogue = Catalogue(run.spec)
    for start in range(0, len(left), _AT_ONCE):
        rows = catalogue.images_rows(source, left[start : start + _AT_ONCE])
        found.update(rows["image_id"].to_pylist())
    return found


def _announced(run: Run, polled: Polled) -> set[str]:
    """Return the ids of the photos of this poll's items."""
    with polled.spool.open(encoding="utf-8") as file:
        names = (manifest.image_id(json.loads(line), run.settings.api) for line in file)
        return {name for name in names if name is not None}
