"""The forget deployment: erases everything made from some photos."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from prefect import flow, runtime
from pydantic import Field

from cropline.erasure.erase import ErasureResult
from cropline.erasure.selection import Selection
from flows.running import Source, open_run
from tasks.forget import forget_photos, show_erasure


def _name() -> str:
    kind = "dry run of " if runtime.flow_run.parameters["dry_run"] else ""
    return f"forget {kind}photos, requested {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


@flow(name="forget", flow_run_name=_name, persist_result=False)
def forget(
    photos: Annotated[Selection, Field(title="Which photos")],
    dry_run: Annotated[bool, Field(title="Dry run", description="count what would be removed; do nothing")] = True,
    source: Source = None,
) -> ErasureResult:
    """Remove everything made from some photos, and never crop them again.

    **What it does.** Deletes the crops of all profiles and versions, the catalogue rows, and the reports that
    show them. Rewrites packs without them. Removes their work items, and ignores these photos when they are
    announced again. Writes a receipt of everything that was removed. Photos in an open batch are erased when
    the batch ends. Polls may run beside it.

    **It cannot be undone.** Start with a dry run: it counts the photos, rows and objects to remove. A photo
    can come back only under another id.

    **When it fails.** Run it again with the same photos: it resumes, and the receipt is complete. Only one erasure runs
    at a time; another one waits, or the next poll finishes it.

    **Look at** its artifact for the counts and the receipt. docs/operations.md says what stays: manifests, quarantine,
    old versions of the catalogue until `maintain`, and old versions of objects in a bucket with versioning.
    """
    with open_run("forget", source) as run:
        erased = forget_photos(run, photos, dry_run)
        show_erasure(run, photos, erased, dry_run)
        return erased
