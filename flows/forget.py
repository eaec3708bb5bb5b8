"""The forget deployment: everything that was made of some photos goes, for good."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from prefect import flow, runtime
from pydantic import Field

from cropline.erasure import ErasureResult, Selection
from flows.running import open_run
from tasks.forget import forget_photos, show_erasure


def _name() -> str:
    kind = "dry run of " if runtime.flow_run.parameters["dry_run"] else ""
    return f"forget {kind}photos, asked {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


@flow(name="forget", flow_run_name=_name, persist_result=False)
def forget(
    photos: Annotated[Selection, Field(title="Which photos")],
    dry_run: Annotated[bool, Field(title="Dry run", description="count what would go; do nothing")] = True,
) -> ErasureResult:
    """Remove everything that was made of some photos, and never crop them again.

    **What it does.** Deletes their crops of all profiles and versions, rewrites packs without them, deletes their catalogue rows
    and the reports that show them, takes their works out of the queue, and keeps them out whoever announces them again.
    It writes a receipt that names all that went. Photos that are in work go when their batch ends. Polls go on beside it.

    **It cannot be undone.** A dry run comes first: it says how many photos, rows and objects would go. Only the cameras can bring a
    photo back, under another id.

    **When it fails.** Run it again with the same photos: it goes on, and the receipt names what went before, too. One erasure is at
    work at a time; another one waits, or is finished by the next poll.

    **Look at** its artifact for the counts and the receipt, and docs/operations.md for what stays: manifests, quarantine, old versions
    of the catalogue until `maintain`, and old versions of objects in a bucket that keeps them.
    """
    with open_run("forget") as run:
        erased = forget_photos(run, photos, dry_run)
        show_erasure(run, photos, erased, dry_run)
        return erased
