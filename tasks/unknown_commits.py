"""Whether the catalogue holds commits of batches that the state does not know: after a loss, a restore, or by another installation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import get_run_logger

from cropline.pipeline.run import Run

if TYPE_CHECKING:
    from cropline.catalogue import Memory
    from cropline.state import Batch

_TOLD = (
    "the catalogue holds batches that this state database does not know: it is new or was restored, or another installation "
    "writes here too. No crop is doubled: from now on each batch is looked up in the catalogue"
)


def works_of(batch: Batch) -> list[tuple[str, str, str]]:
    """(source, image id, profile) of all that a batch was to do."""
    return [
        (image["source"], image["image_id"], work["profile"])
        for image in batch.images.select(["source", "image_id", "work"]).to_pylist()
        for work in image["work"]
    ]


def memory(run: Run) -> Memory:
    """What the state remembers of the catalogue's commits."""
    from cropline.catalogue import Memory

    bound = run.state.bound()
    return Memory(bound.catalogue_version, bound.strangers, run.state.known_batches)


def find_unknown_commits(run: Run, *, whatever: bool = False) -> bool:
    """Whether there are such commits, as far as that was looked at, or by all that the log tells for a state that never looked.

    It opens the table for a new state alone, or ``whatever`` is known: else the next commit tells of new strangers.
    """
    from cropline.catalogue import Catalogue

    known = memory(run)
    if known.until is not None and not whatever:
        return known.strangers
    found = Catalogue(run.spec).strangers(known)
    if found is None:
        return False
    version, strange = found
    run.state.remember_catalogue(version, strangers=strange)
    if strange:
        emit_unknown_commits(run, known)
    return strange or known.strangers


def emit_unknown_commits(run: Run, before: Memory) -> None:
    """Say so when the state hears of them for the first time."""
    if not before.strangers:
        run.funnel.warnings.append(("catalogue", _TOLD))
        get_run_logger().warning(_TOLD)
