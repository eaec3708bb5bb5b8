"""Detects commits in the catalogue that the state does not know: it was lost or restored, or others write there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import get_run_logger

from cropline.pipeline.run import Run

if TYPE_CHECKING:
    from cropline.catalogue import Memory
    from cropline.state import Batch

_TOLD = (
    "the catalogue has batches that this state database does not know: the database is new or was restored, or another "
    "installation writes here too. No crop is duplicated: from now on each batch is looked up in the catalogue"
)


def works_of(batch: Batch) -> list[tuple[str, str, str]]:
    """Return (source, image id, profile) of every work item of a batch."""
    return [
        (image["source"], image["image_id"], work["profile"])
        for image in batch.images.select(["source", "image_id", "work"]).to_pylist()
        for work in image["work"]
    ]


def memory(run: Run) -> Memory:
    """Return what the state knows of the catalogue's commits."""
    from cropline.catalogue import Memory

    bound = run.state.bound()
    return Memory(bound.catalogue_version, bound.unknown_batches, run.state.known_batches)


def find_unknown_commits(run: Run, *, whatever: bool = False) -> bool:
    """Whether the catalogue has unknown commits.

    It reads the table's log only for a new state or with ``whatever``. Otherwise each commit reports new ones.
    """
    from cropline.catalogue import Catalogue

    known = memory(run)
    if known.until is not None and not whatever:
        return known.unknown_batches
    found = Catalogue(run.spec).unknown_batches(known)
    if found is None:
        return False
    version, unknown = found
    run.state.remember_catalogue(version, unknown_batches=unknown)
    if unknown:
        emit_unknown_commits(run, known)
    return unknown or known.unknown_batches


def emit_unknown_commits(run: Run, before: Memory) -> None:
    """Warn when the state learns of unknown commits for the first time."""
    if not before.unknown_batches:
        run.funnel.warnings.append(("catalogue", _TOLD))
        get_run_logger().warning(_TOLD)
